"""Stages whose maps are read in another form, against the papers' equations: values and gradients of every weight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from block_variants import WIDTH, inputs, organism, stage
from torch import Tensor

from evo.blocks.flow import Flow
from evo.blocks.stages.stage import Stage
from evo.compiler.check import check
from evo.compiler.organism import Organism, OrganismState
from evo.compiler.promises import require_promises
from evo.dsl.document import from_data
from evo.training.moments import InputMoments

TAIL = {"position": {"kind": "none"}, "norm": {"kind": "rms", "gain": False}}
BODY = stage("b", {"kind": "attention", "heads": 2}, ffn={"kind": "gated", "hidden": 24}, **TAIL)


def recast(of: dict[str, Any] = BODY, **settings: Any) -> Organism:
    """An organism of one such stage, with large weights."""
    found = organism([{"name": "a", "kind": "recast", "of": of, **settings}])
    with torch.no_grad():
        for seed, weight in enumerate(found.parameters()):
            weight.add_(0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed)).to(weight.dtype))
    return found


def through(q: Tensor, w: Tensor) -> Tensor:
    """The straight-through estimator, as BitNet's code has it."""
    return w + (q - w).detach()


def ternary(w: Tensor, _: bool) -> Tensor:
    """`weight_quant` of the authors ("The Era of 1-bit LLMs: training tips, code and FAQ")."""
    scale = 1.0 / w.abs().mean().clamp_(min=1e-5)
    return through((w * scale).round().clamp_(-1, 1) / scale, w)


def binary(w: Tensor, _: bool) -> Tensor:
    """Sign(W - alpha) beta (2310.11453, eqs. 1 to 3 and 12)."""
    return through(torch.where(w > w.mean(), 1.0, -1.0).to(w.dtype) * w.abs().mean(), w)


def unit(w: Tensor, writes: bool) -> Tensor:
    """Unit vectors along the width of the stream (nGPT)."""
    return F.normalize(w, dim=0 if writes else 1, eps=1e-30)


def int8(x: Tensor) -> Tensor:
    """`activation_quant` of the authors, of one token."""
    scale = 127.0 / x.abs().max(dim=-1, keepdim=True).values.clamp_(min=1e-5)
    return through((x * scale).round().clamp_(-128, 127) / scale, x)


def own(x: Tensor) -> Tensor:
    return x


@pytest.mark.parametrize(("weights", "form"), [("ternary", ternary), ("binary", binary), ("unit", unit)])
@pytest.mark.parametrize(("inputs_as", "read"), [("own", own), ("int8", int8)])
def test_maps_are_read_in_another_form(
    weights: str, form: Callable[[Tensor, bool], Tensor], inputs_as: str, read: Callable[[Tensor], Tensor]
):
    """A layer written out, every product of a rounded input and a recast map."""
    settings = {"weights": weights, **({"inputs": inputs_as} if inputs_as != "own" else {})}
    found, x = recast(**settings).stages["a"], inputs()
    assert isinstance(found, Stage)
    w = {name.removeprefix("of_b.0."): weight for name, weight in found.named_parameters()}

    def product(y: Tensor, name: str) -> Tensor:
        return read(y) @ form(w[name], name.endswith((".o", ".down"))).T

    h = F.rms_norm(x, (WIDTH,), None, 1e-6)
    q, k, v = (product(h, f"mixer.{name}").unflatten(-1, (2, -1)).transpose(1, 2) for name in "qkv")
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(-2)
    z = x + product(y, "mixer.o")
    h = F.rms_norm(z, (WIDTH,), None, 1e-6)
    theirs = z + product(F.silu(product(h, "ffn.gate")) * product(h, "ffn.up"), "ffn.down")
    ours = found.run({"x": [x]}, Flow()).value()
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    cotangent = inputs(seed=4)
    got, wanted = (torch.autograd.grad((out * cotangent).sum(), list(w.values())) for out in (ours, theirs))
    for name, one, other in zip(w, got, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9, msg=name)


@pytest.mark.parametrize("settings", [{}, {"inputs": "int8", "on": ["v", "up"]}, {"weights": "unit"}])
def test_decoding_is_the_whole_pass(settings: dict[str, Any]):
    """Token by token, in two layers with experts."""
    experts = {"kind": "experts", "count": 3, "top": 2, "of": {"kind": "gated", "hidden": 8}}
    found = recast(stage("b", {"kind": "attention", "heads": 2}, ffn=experts, repeat=2), **settings)
    tokens = torch.randint(0, 256, (1, 9), generator=torch.Generator().manual_seed(0))
    state, parts = OrganismState(), []
    for token_B1 in tokens.split(1, dim=1):
        logits, state = found.extend(token_B1, state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, 1), found(tokens), rtol=1e-9, atol=1e-9)


def test_whoever_looks_on_knows_the_maps():
    """Moments are those of each map's inputs, whatever stands for it; and no promise is broken."""
    found = recast()
    require_promises(found)
    moments, plain = InputMoments(found), InputMoments(found)
    tokens = torch.randint(0, 256, (1, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found(tokens, Flow(project=moments))
        found.stages["a"].child("of_b").run({"x": [found.embedding.weight[tokens]]}, Flow(project=plain))
    path = "stages.a.of_b.0.mixer.q"
    torch.testing.assert_close(moments.means()[path], plain.means()[path])


@pytest.mark.parametrize("adapters", [{"kind": "lora", "rank": 2}, {"kind": "svf"}])
def test_adapters_stand_beside_what_stands_for_a_map(adapters: dict[str, Any]):
    """They change what is computed; and four bits are refused, since the map itself is gone then."""
    one = {"name": "a", "kind": "recast", "of": BODY}
    found = organism([one], adapters=adapters)
    tokens = torch.randint(0, 256, (1, 9), generator=torch.Generator().manual_seed(0))
    before = found(tokens)
    with torch.no_grad():
        for name, weight in found.named_parameters():
            if "adapters" in name:
                weight.add_(0.5)
    assert (found(tokens) - before).abs().max() > 1e-3


def test_what_cannot_be_is_told():
    """EVO359: a map that is not there, nothing in another form; EVO335: maps that are gone."""

    def codes(stages: list[dict[str, Any]], **more: Any) -> list[str]:
        found = check(from_data({"evo": 1, "organism": {"width": WIDTH, "stages": stages, **more}}))
        return [diagnostic.code for diagnostic in found if diagnostic.severity == "error"]

    one = {"name": "a", "kind": "recast", "of": BODY}
    assert codes([one]) == []
    assert codes([{**one, "on": ["w"]}]) == ["EVO359"]
    assert codes([{**one, "weights": "own"}]) == ["EVO359"]
    assert codes([one], adapters={"kind": "lora", "four_bits": {}}) == ["EVO335"]
