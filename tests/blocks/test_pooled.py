"""Pooled entries: against torch's own pooling and attention, transformers' compressors, and documents by themselves."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from block_variants import CONTEXT, Whole, block_of, built, inputs, mixer_plan, plan, stage
from torch import Tensor, nn

from evo.blocks.base import Block
from evo.blocks.flow import Flow
from evo.blocks.norm.spec import RMSNormSpec
from evo.blocks.position.spec import RopeSpec
from evo.blocks.select.module import best
from evo.blocks.select.pooled.spec import EntryIndexSpec, PooledSelect, entry_pairs
from evo.blocks.select.spec import Asker
from evo.compiler.check import check
from evo.dsl.document import from_data
from evo.dsl.spec import Scope

ATTENTION = {"kind": "attention", "heads": 4, "kv_heads": 2, "position": {"kind": "none"}}
WINDOW = {"kind": "window", "size": 5}


def attention(select: dict[str, Any], width: int = 16, **settings: Any) -> Block:
    """An attention beside pooled entries."""
    mix = {**ATTENTION, **settings, "select": {"kind": "pooled", **select}}
    return built(block_of(plan([stage("s", mix)], position={"kind": "none"}, width=width), "mixer"))


def test_means_of_keys_stand_beside_tokens_in_one_softmax() -> None:
    """Torch's attention over the tokens of the window and torch's pooled keys and values: outputs and gradients."""
    module = attention({"size": 3, "by": "mean", "of": "keys"}, stencil=WINDOW)
    x = inputs().requires_grad_()
    q, k, v = (
        F.linear(x, module.get_parameter(name)).unflatten(-1, (-1, 4)).transpose(1, 2).repeat_interleave(times, 1)
        for name, times in (("q", 1), ("k", 2), ("v", 2))
    )
    pooled_k, pooled_v = (F.avg_pool1d(each.flatten(0, 1).mT, 3).mT.unflatten(0, (2, 4)) for each in (k, v))
    t, s, c = torch.arange(CONTEXT)[:, None], torch.arange(CONTEXT), torch.arange(CONTEXT // 3)
    shown = torch.cat(((s <= t) & (s > t - 5), 3 * c + 2 <= t), dim=1)
    heads = F.scaled_dot_product_attention(q, torch.cat((k, pooled_k), 2), torch.cat((v, pooled_v), 2), shown)
    wanted = F.linear(heads.transpose(1, 2).flatten(2), module.get_parameter("o"))
    got = Whole(module)(x)
    torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-11)
    weights = [x, *(module.get_parameter(name) for name in "qkv")]
    both = [torch.autograd.grad((y * inputs(seed=4)).sum(), weights, retain_graph=True) for y in (got, wanted)]
    torch.testing.assert_close(*both, rtol=1e-8, atol=1e-10)


SIZES = {"heavily_compressed_attention": 5, "compressed_sparse_attention": 3}


def theirs(name: str, *layer: int, **settings: Any) -> nn.Module:
    """A compressor of DeepSeek-V4, or another part of it, in float64 with large weights."""
    pytest.importorskip("transformers", reason="the oracle transformers is not installed")
    module = importlib.import_module("transformers.models.deepseek_v4.modeling_deepseek_v4")
    config = importlib.import_module("transformers.models.deepseek_v4.configuration_deepseek_v4").DeepseekV4Config(
        hidden_size=16, num_hidden_layers=1, head_dim=8, num_attention_heads=4, compress_rates=SIZES, o_groups=2,
        sliding_window=6, o_lora_rank=3, attn_implementation="eager",
        index_n_heads=6, index_head_dim=6, index_topk=2, partial_rotary_factor=0.5, rms_norm_eps=1e-5,
        rope_parameters={
            "main": {"rope_type": "default", "rope_theta": 100.0, "partial_rotary_factor": 0.5},
            "compress": {"rope_type": "default", "rope_theta": 100.0, "partial_rotary_factor": 0.5},
        },
        **{"q_lora_rank": 16, **settings},
    )  # fmt: skip
    found = getattr(module, name)(config, *layer).double().eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return found


def chooser(**select: Any) -> Block:
    """The same in this language, for an attention of one key head whose values are its keys."""
    rope = RopeSpec(theta=100.0, dims=4, pairs="neighbours", at="last")
    asker = Asker(4, 1, 8, 8, rope, 0, values_are_keys=True)
    scope = Scope(width=16, context=CONTEXT, depth=1, position=rope)
    return built(PooledSelect(norm=RMSNormSpec(eps=1e-5), **select).chooser(scope, asker))


def copy(entries: Block, weights: Mapping[str, Tensor]) -> None:
    """The weights of their compressor, or of their index's."""
    named = {"maps": "kv_proj.weight", "gate": "gate_proj.weight", "places": "position_bias"}
    with torch.no_grad():
        for mine, their in named.items():
            getattr(entries, mine).copy_(weights[their])
        entries.child("norm").get_parameter("gain").copy_(weights["kv_norm.weight"])


@pytest.mark.parametrize(
    ("name", "select"),
    [
        ("DeepseekV4HCACompressor", {"size": 5}),
        ("DeepseekV4CSACompressor", {"size": 3, "overlap": True}),
    ],
)
def test_entries_are_those_of_deepseek(name: str, select: dict[str, Any]) -> None:
    """What its compressors make of whole blocks, with gradients of the input and of all weights."""
    other = theirs(name)
    mine = chooser(**select).child("entries")
    copy(mine, dict(other.named_parameters()))
    x = inputs().requires_grad_()
    places = torch.arange(CONTEXT)[None]
    wanted = other(x, x, places, None, 0)[0][:, 0]
    got = mine(x, Flow())[:, : wanted.shape[1]]
    assert got.shape == wanted.shape
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)  # they turn by angles in float32
    cotangent = torch.randn(got.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gradients = [torch.autograd.grad((y * cotangent).sum(), x)[0] for y in (got, wanted)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


def test_the_index_is_that_of_deepseek() -> None:
    """The entries that its Lightning Indexer keeps of those that are whole, for each query."""
    other = theirs("DeepseekV4Indexer")
    spec = EntryIndexSpec(top=2, heads=6, dim=6, norm=RMSNormSpec(eps=1e-5))
    module = chooser(size=3, overlap=True, index=spec)
    index = module.child("index")
    weights = dict(other.named_parameters())
    copy(index.child("entries"), weights)
    with torch.no_grad():
        index.get_parameter("q").copy_(weights["q_b_proj.weight"])
        index.get_parameter("weigh").copy_(weights["scorer.weights_proj.weight"])
    x = inputs()
    kept_BTP = other(x, x, torch.arange(CONTEXT)[None], None, 0)
    scores = index(x, Flow())[:, 0]
    chosen = best(scores, 2) & (scores > -torch.inf)
    units = torch.arange(scores.shape[-1])
    wanted = (kept_BTP[..., None] == units).any(-2)
    assert torch.equal(chosen, wanted)


@pytest.mark.parametrize("overlap", [False, True])
def test_documents_that_begin_with_blocks_are_alone(overlap: bool) -> None:
    """A row of documents gives what each gives by itself, where each begins with a block."""
    module = attention({"size": 3, "overlap": overlap, "index": {"top": 2, "dim": 4}}, stencil=WINDOW)
    x, lengths = inputs(batch=1), (9, 3, 12)
    segments = torch.repeat_interleave(torch.tensor((4, 2, 7)), torch.tensor(lengths))[None]
    alone = torch.cat([Whole(module)(part) for part in x.split(list(lengths), dim=1)], dim=1)
    torch.testing.assert_close(module(x, Flow(segments_BT=segments)), alone, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("context", [1, 5, 12, 13, 30])
@pytest.mark.parametrize("size", [1, 3, 40])
@pytest.mark.parametrize("top", [1, 2, None])
def test_pairs_of_entries(size: int, top: int | None, context: int) -> None:
    """The closed form is the sum over queries."""
    counted = sum(min((t + 1) // size, top or context) for t in range(context))
    assert entry_pairs(size, top, context) == counted


def test_a_cache_keeps_entries_and_not_the_tokens_in_them() -> None:
    """After a window's tokens, a further one costs a share of an entry."""
    block = mixer_plan("attention pooled")
    entries = dict(dict(block.children)["select"].children)["entries"]
    assert block.cost.cache_limit == 3
    assert (entries.cost.cache_per_token, entries.cost.seen_per_token) == (2 * (4 + 4), 1 / 3)


def test_an_index_of_entries_learns_from_its_loss_alone() -> None:
    """No gradient of the task reaches it, and none of its loss reaches anything else; early queries harm nothing."""
    whole = Whole(attention({"size": 3, "index": {"top": 2, "dim": 4}}))
    y, loss = whole.pass_(inputs())
    named = dict(whole.named_parameters())
    of_task, of_loss = (
        torch.autograd.grad(out, [*named.values()], retain_graph=True, allow_unused=True)
        for out in (y.square().sum(), loss)
    )
    taught = {name for name, gradient in zip(named, of_loss, strict=True) if gradient is not None}
    assert taught == {name for name, gradient in zip(named, of_task, strict=True) if gradient is None}
    assert taught == {name for name in named if name.startswith("select.index.")}
    assert all(gradient.isfinite().all() for gradient in of_loss if gradient is not None)
    assert float(loss.detach()) > 0


KINDS = {
    "sliding_attention": None,
    "heavily_compressed_attention": {"kind": "pooled", "size": 5, "norm": {"kind": "rms", "eps": 1e-5}},
    "compressed_sparse_attention": {
        "kind": "pooled",
        "size": 3,
        "overlap": True,
        "norm": {"kind": "rms", "eps": 1e-5},
        "index": {"top": 2, "heads": 6, "dim": 6, "norm": {"kind": "rms", "eps": 1e-5}},
    },
}
ENTRIES = {
    "maps": "kv_proj.weight",
    "gate": "gate_proj.weight",
    "places": "position_bias",
    "norm.gain": "kv_norm.weight",
}
OWN = {
    "q_down": "q_a_proj.weight", "narrow_norm.gain": "q_a_norm.weight", "q": "q_b_proj.weight", "k": "kv_proj.weight",
    "k_norm.gain": "kv_norm.weight", "o_down": "o_a_proj.weight", "o": "o_b_proj.weight", "sink_logit": "sinks",
    **{f"select.entries.{ours}": f"compressor.{name}" for ours, name in ENTRIES.items()},
    **{f"select.index.entries.{ours}": f"compressor.indexer.{name}" for ours, name in ENTRIES.items()},
    "select.index.q": "compressor.indexer.q_b_proj.weight",
    "select.index.weigh": "compressor.indexer.scorer.weights_proj.weight",
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_attention_is_that_of_deepseek(kind: str) -> None:
    """Narrow queries, keys that are values, turned back, grouped outputs, entries: outputs and gradients of x."""
    other = theirs("DeepseekV4Attention", 0, q_lora_rank=10, layer_types=[kind])
    rms = {"kind": "rms", "eps": 1e-5}
    mix = {
        "kind": "attention", "heads": 4, "kv_heads": 1, "head_dim": 8, "sink_logit": True, "values": "turned_keys",
        "stencil": {"kind": "window", "size": 6}, "low_rank": {"q": 10, "norm": rms, "o": 3, "groups": 2},
        "qk_norm": {**rms, "gain": False}, "k_norm": rms, "select": KINDS[kind],
        "position": {"kind": "rope", "theta": 100.0, "dims": 4, "pairs": "neighbours", "at": "last"},
    }  # fmt: skip
    ours = built(block_of(plan([stage("s", mix)]), "mixer"))
    weights = dict(other.named_parameters())
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            parameter.copy_(weights[OWN[name]].reshape(parameter.shape))
    assert len(weights) == len(list(ours.parameters()))
    x = inputs().requires_grad_()
    places = torch.arange(CONTEXT)[None]
    angles = (places[..., None] * torch.tensor([1.0, 0.1])).double()
    turns = dict.fromkeys(("main", "compress"), (angles.cos(), angles.sin()))
    t, s = torch.arange(CONTEXT)[:, None], torch.arange(CONTEXT)
    mask = torch.zeros(CONTEXT, CONTEXT, dtype=torch.float64).masked_fill((s > t) | (s <= t - 6), -torch.inf)
    wanted = other(x, turns, places, mask.expand(2, 1, -1, -1), None)[0]
    got = Whole(ours)(x)
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
    gradients = [torch.autograd.grad((y * inputs(seed=4)).sum(), x, retain_graph=True)[0] for y in (got, wanted)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"values": "turned_keys", "differ": 0.4}, "EVO308"),
        ({"values": "turned_keys", "persistent": 2}, "EVO308"),
        ({"values": "turned_keys", "kv_to": "both"}, "EVO308"),
        ({"low_rank": {"o": 3, "groups": 3}}, "EVO308"),
        ({"low_rank": {}}, "EVO330"),
        ({"low_rank": {"q": 6, "norm": {"kind": "rms", "groups": 4}}}, "EVO303"),
    ],
)
def test_what_cannot_be_one_or_narrow_is_told(changes: dict[str, Any], code: str) -> None:
    """Keys that are values beside what tells both apart, and groups that divide no heads."""
    mix = {"kind": "attention", "heads": 2, **changes}
    found = check(from_data({"evo": 1, "organism": {"width": 16, "context": 32, "stages": [stage("s", mix)]}}))
    assert [diagnostic.code for diagnostic in found] == [code]
