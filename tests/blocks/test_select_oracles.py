"""Selections against transformers' DeepSeek-V3.2, GLM and MiniMax-M3, and fla's naive native sparse attention."""

from __future__ import annotations

import importlib
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from block_variants import block_of, built, plan
from torch import Tensor, nn

from evo.blocks.base import Block
from evo.blocks.flow import Flow
from oracles import alone

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
WIDTH, TIME = 32, 40
INDEX_HEADS = 14
"""So many that no token is scored 0 by all of them: of equal scores, topk takes any."""
ROPE = {"rope_type": "default", "rope_theta": 10000.0}


def their(family: str, name: str, **settings: Any) -> tuple[nn.Module, Any]:
    """A family's attention in float64 with normal weights, and its rotary embedding."""
    pytest.importorskip("transformers", reason="the oracle transformers is not installed")
    module = importlib.import_module(f"transformers.models.{family}.modeling_{family}")
    config_module = importlib.import_module(f"transformers.models.{family}.configuration_{family}")
    kind = f"{name}TextConfig" if hasattr(config_module, f"{name}TextConfig") else f"{name}Config"
    common = {"hidden_size": WIDTH, "num_hidden_layers": 1, "rope_parameters": ROPE, "attn_implementation": "eager"}
    config = getattr(config_module, kind)(**{**common, **settings})
    attention = getattr(module, f"{name}Attention")(config, layer_idx=0).double().eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    rotary = getattr(module, f"{name}RotaryEmbedding", None) or getattr(module, f"{name}TextRotaryEmbedding")
    return attention, rotary(config)


def our(block: dict[str, Any], weights: dict[str, Tensor]) -> Block:
    """The same block in this language, with those weights."""
    whole = plan([{"name": "s", "layers": {"sublayers": [{"block": block}]}}], width=WIDTH, context=64)
    module = built(block_of(whole, "0"))
    named = dict(module.named_parameters())
    assert named.keys() == weights.keys()
    with torch.no_grad():
        for name, parameter in named.items():
            parameter.copy_(weights[name])
    return module


def compare(ours: Block, theirs: nn.Module, rotary: Any, mask: Tensor) -> None:
    """Same weights, same input: same output, same gradient of the input."""
    x = torch.randn(2, TIME, WIDTH, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mine_x, their_x = x.clone().requires_grad_(), x.clone().requires_grad_()
    places = torch.arange(TIME)[None]
    cos, sin = (part.double() for part in rotary(x.float(), places))
    mine = ours(mine_x, Flow())
    wanted = theirs(their_x, position_embeddings=(cos, sin), attention_mask=mask, position_ids=places)[0]
    torch.testing.assert_close(mine, wanted, rtol=1e-5, atol=1e-5)
    cotangent = torch.randn(mine.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    got, expected = (
        torch.autograd.grad((y * cotangent).sum(), each)[0] for y, each in ((mine, mine_x), (wanted, their_x))
    )
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def causal() -> Tensor:
    """(1, 1, T, T): zero where a query sees, minus infinity elsewhere."""
    return torch.full((TIME, TIME), -torch.inf, dtype=torch.float64).triu(1)[None, None]


@pytest.mark.parametrize(
    ("family", "name", "pairs"), [("deepseek_v32", "DeepseekV32", "halves"), ("glm_moe_dsa", "GlmMoeDsa", "neighbours")]
)
def test_token_index(family: str, name: str, pairs: str) -> None:
    """Latent attention over the best tokens of DeepSeek's index, whose queries are made of the narrow ones."""
    heads, nope, rope, values, rank, q_rank = 4, 6, 4, 5, 10, 12
    attention, rotary = their(
        family,
        name,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        qk_nope_head_dim=nope,
        qk_rope_head_dim=rope,
        v_head_dim=values,
        kv_lora_rank=rank,
        q_lora_rank=q_rank,
        index_n_heads=INDEX_HEADS,
        index_head_dim=8,
        index_topk=7,
        attention_bias=False,
        rms_norm_eps=1e-6,
        indexer_types=["full"],
    )
    theirs = dict(attention.named_parameters())
    up = theirs["kv_b_proj.weight"].unflatten(0, (heads, nope + values))
    weights: dict[str, Tensor] = {
        "q_down": theirs["q_a_proj.weight"],
        "q_norm.gain": theirs["q_a_layernorm.weight"],
        "q": theirs["q_b_proj.weight"],
        "kv_down": theirs["kv_a_proj_with_mqa.weight"],
        "kv_norm.gain": theirs["kv_a_layernorm.weight"],
        "k": up[:, :nope].flatten(0, 1),
        "v": up[:, nope:].flatten(0, 1),
        "o": theirs["o_proj.weight"],
        "select.index.q": theirs["indexer.wq_b.weight"],
        "select.index.k": theirs["indexer.wk.weight"],
        "select.index.k_norm.gain": theirs["indexer.k_norm.weight"],
        "select.index.k_norm.bias": theirs["indexer.k_norm.bias"],
        "select.index.weigh": theirs["indexer.weights_proj.weight"],
    }
    block = {
        "kind": "latent",
        "heads": heads,
        "kv_rank": rank,
        "q_rank": q_rank,
        "nope_dim": nope,
        "rope_dim": rope,
        "value_dim": values,
        "position": {"kind": "rope", "pairs": "neighbours"},
        "select": {
            "kind": "tokens",
            "top": 7,
            "heads": INDEX_HEADS,
            "dim": 8,
            "norm": {"kind": "layer", "eps": 1e-6},
            "position": {"kind": "rope", "dims": rope, "pairs": pairs},
        },
    }
    compare(our(block, weights), attention, rotary, causal())


def test_block_index() -> None:
    """MiniMax-M3: the best blocks by their best token, one choice for each key head."""
    attention, rotary = their(
        "minimax_m3_vl",
        "MiniMaxM3VL",
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        index_n_heads=2,
        index_head_dim=8,
        index_block_size=4,
        index_topk_blocks=3,
        index_local_blocks=1,
        rms_norm_eps=1e-5,
        layer_types=["minimax_m3_sparse"],
        mlp_layer_types=["dense"],
    )
    theirs = dict(attention.named_parameters())
    names = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "o_proj"}
    weights: dict[str, Tensor] = {name: theirs[f"{their_name}.weight"] for name, their_name in names.items()}
    weights |= {f"select.index.{name}": theirs[f"indexer.{name}_proj.weight"] for name in ("q", "k")}
    for name in ("q_norm", "k_norm"):  # stored as the gain less one
        weights[f"{name}.gain"] = theirs[f"{name}.weight"] + 1.0
        weights[f"select.index.{name}.gain"] = theirs[f"indexer.{name}.weight"] + 1.0
    rms = {"kind": "rms", "eps": 1e-5}
    select = {"kind": "blocks", "size": 4, "top": 3, "dim": 8, "norm": rms, "q_norm": rms}
    block = {"kind": "attention", "heads": 4, "kv_heads": 2, "head_dim": 8, "qk_norm": rms, "select": select}
    dims = rotary.inv_freq.numel() * 2
    if dims < 8:
        block["position"] = {"kind": "rope", "dims": dims}
    compare(our(block, weights), attention, rotary, causal())


def test_mixture_of_block_attention() -> None:
    """The authors' naive code (Lu et al. 2025): a gate by mean keys, future blocks closed, the own one open."""
    heads, groups, dim, size, top = 4, 2, 6, 5, 3
    block = {"kind": "attention", "heads": heads, "kv_heads": groups, "head_dim": dim, "position": {"kind": "none"}}
    generator = torch.Generator().manual_seed(4)
    shapes = {
        "q": (heads * dim, WIDTH),
        "k": (groups * dim, WIDTH),
        "v": (groups * dim, WIDTH),
        "o": (WIDTH, heads * dim),
    }
    weights = {name: 0.4 * torch.randn(shape, generator=generator).double() for name, shape in shapes.items()}
    x = torch.randn(2, TIME + 2, WIDTH, generator=generator, dtype=torch.float64).requires_grad_()
    mine = our({**block, "select": {"kind": "means", "size": size, "top": top}}, weights)(x, Flow())
    q, k, v = (F.linear(x, weights[name]).unflatten(-1, (-1, dim)).transpose(1, 2) for name in "qkv")
    k, v = (part.repeat_interleave(heads // groups, dim=1) for part in (k, v))
    blocks = -(-x.shape[1] // size)
    means = torch.stack([k[:, :, i * size : (i + 1) * size].mean(2) for i in range(blocks)], dim=2)
    gate = q @ means.transpose(-1, -2)
    for i in range(blocks):
        gate[:, :, : (i + 1) * size, i] = -torch.inf
        gate[:, :, i * size : (i + 1) * size, i] = torch.inf
    is_open = torch.zeros_like(gate).scatter(-1, gate.topk(top).indices, 1.0).bool()
    is_open = is_open.repeat_interleave(size, dim=-1)[..., : x.shape[1]].tril()
    shares = (q @ k.transpose(-1, -2) * dim**-0.5).masked_fill(~is_open, -torch.inf).softmax(-1)
    wanted = F.linear((shares @ v).transpose(1, 2).flatten(-2), weights["o"])
    torch.testing.assert_close(mine, wanted)
    got, expected = (torch.autograd.grad(y.square().sum(), x, retain_graph=True)[0] for y in (mine, wanted))
    torch.testing.assert_close(got, expected)


def test_native_sparse_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    """Means of blocks, the best blocks and a window, gated: fla's three naive functions, put together as fla does."""
    unread = SimpleNamespace(prepare_chunk_offsets=None, mean_pooling=None)  # imported, and not called here
    for module in ("fla.ops.utils", "fla.ops.utils.pooling"):
        monkeypatch.setitem(sys.modules, module, unread)
    fla = alone("fla.ops.nsa.naive")
    heads, groups, dim, size, window = 4, 2, 6, 5, 7
    select = {"kind": "compressed", "size": size, "top": 4, "window": window}
    block = {"kind": "attention", "heads": heads, "kv_heads": groups, "head_dim": dim, "position": {"kind": "none"}}
    generator = torch.Generator().manual_seed(4)
    shapes = {"q": (heads * dim, WIDTH), "k": (groups * dim, WIDTH), "v": (groups * dim, WIDTH)}
    shapes |= {"o": (WIDTH, heads * dim), "select.gate": (3 * heads, WIDTH)}
    weights = {name: 0.4 * torch.randn(shape, generator=generator).double() for name, shape in shapes.items()}
    x = torch.randn(2, TIME, WIDTH, generator=generator)
    mine = our({**block, "select": select}, weights).float()(x, Flow())
    q, k, v = (F.linear(x, weights[n].float()).unflatten(-1, (-1, dim)) for n in ("q", "k", "v"))
    gates = F.linear(x, weights["select.gate"].float()).sigmoid().unflatten(-1, (heads, 3))
    k_means, v_means = (part.unflatten(1, (-1, size)).mean(2) for part in (k, v))
    compressed, _ = fla.naive_nsa_compression(q, k_means, v_means, size, dim**-0.5)
    chosen = fla.naive_nsa_topk(q, k_means, 4, size, dim**-0.5)
    selected = fla.naive_nsa_selection(q, k, v, chosen, size, dim**-0.5)
    ahead = torch.arange(TIME)[:, None] - torch.arange(TIME)
    near = F.scaled_dot_product_attention(
        *(part.transpose(1, 2) for part in (q, k, v)), attn_mask=(ahead >= 0) & (ahead < window), enable_gqa=True
    ).transpose(1, 2)
    parts = torch.stack((compressed, selected, near), -1)
    wanted = F.linear((parts * gates[..., None, :]).sum(-1).flatten(-2), weights["o"].float())
    torch.testing.assert_close(mine, wanted, rtol=1e-4, atol=1e-4)
