"""Adapters: a new one changes nothing, a map and its adapter are the merged map, and nothing else is trained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from block_variants import CONTEXT, MIXERS, STATEFUL_FFNS, document, stage
from ffn_variants import FFNS
from flip_hosts import FLOW, SLOW

from evo.blocks.adapters.module import SingularGains
from evo.blocks.adapters.nf4 import Packed
from evo.blocks.adapters.spec import FourBitSpec
from evo.blocks.base import Adapter
from evo.blocks.nf4 import LEVELS
from evo.compiler.adapters import held_weights, merged_weights
from evo.compiler.build import build
from evo.compiler.compute import step_flops
from evo.compiler.organism import Organism
from evo.compiler.resolve import resolve
from evo.dsl.document import Document
from evo.dsl.plan import matmul_flops
from evo.dsl.tree import replaced

LORA, SVF = {"kind": "lora", "rank": 3, "alpha": 4.5}, {"kind": "svf", "keep_sum": True}
MAPLESS = ("state space without maps", "convolution without maps", "moving averages", "moving averages, tanh")
BLOCKS = {name: block for name, block in {**MIXERS, **STATEFUL_FFNS, **FFNS}.items() if name not in MAPLESS}


def adapted(stages: list[dict[str, Any]], spec: dict[str, Any], **settings: Any) -> tuple[Document, Organism]:
    """An organism in float64 whose adapters have learned something."""
    whole = document(stages, **{"adapters": spec, **settings})
    model = build(resolve(whole.organism), 0).double()
    generator = torch.Generator().manual_seed(1)
    for _, adapter in adapters(model):
        for parameter in adapter.parameters():
            parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return whole, model


def adapters(model: Organism) -> Iterator[tuple[torch.Tensor, Adapter]]:
    """Each map with its adapter."""
    for _, block in model.named_blocks():
        yield from block.adapted()


def without(whole: Document, model: Organism) -> Organism:
    """The same with the adapters merged."""
    plain = build(resolve(replaced(whole, {("organism", "adapters"): None}).organism), 0).double()
    weights = merged_weights(model)
    for path, parameter in plain.named_parameters():
        parameter.data.copy_(weights[path])
    return plain


TOKENS_BT = torch.randint(256, (2, CONTEXT), generator=torch.Generator().manual_seed(3))
"""(2, T) int64."""


def assert_merged(whole: Document, model: Organism) -> None:
    """Whole and step by step, adapters compute what the merged maps do."""
    assert list(adapters(model)), "nothing is adapted"
    expected = without(whole, model)(TOKENS_BT)
    torch.testing.assert_close(model(TOKENS_BT), expected, rtol=1e-9, atol=1e-10)
    first, state = model.extend(TOKENS_BT[:, :7], model.initial_state())
    rest, _ = model.extend(TOKENS_BT[:, 7:], state)
    torch.testing.assert_close(torch.cat((first, rest), 1), expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", BLOCKS)
def test_a_merged_map_computes_what_its_adapter_does(name: str) -> None:
    """Beside every linear map of every block; decoding too."""
    assert_merged(*adapted([{"name": "s", "layers": {"sublayers": [{"block": BLOCKS[name]}]}}], LORA))


@pytest.mark.parametrize("name", ["graph", "written layers", *(name for name in SLOW if name != "codes")])
def test_a_merged_map_of_a_stage_computes_what_its_adapter_does(name: str) -> None:
    """Maps that stages have of their own, and layers that run several times."""
    settings = dict({**FLOW, **SLOW}[name])
    assert_merged(*adapted(settings.pop("stages"), SVF, **settings))


BODY = stage("body", {"kind": "attention", "heads": 2}, repeat=2)


@pytest.mark.parametrize("spec", [LORA, SVF, {"kind": "svf"}], ids=["lora", "svf with its sum", "svf"])
def test_a_new_adapter_changes_nothing(spec: dict[str, Any]) -> None:
    """To the last bit."""
    plain, own = (build(resolve(document([BODY], **more).organism), 0) for more in ({}, {"adapters": spec}))
    assert (own(TOKENS_BT) == plain(TOKENS_BT)).all()


def test_a_map_of_zeros_stays_one() -> None:
    """Its gains have no sum to keep, and are numbers all the same; with gradients."""
    _, model = adapted([BODY], {"kind": "svf", "keep_sum": True, "on": ["o"]})
    for weight, adapter in adapters(model):
        weight.data.zero_()
        adapter.begin(weight)
        assert (adapter.delta() == 0).all()
    model.loss(TOKENS_BT, TOKENS_BT).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_gains_scale_singular_values() -> None:
    """W' = U diag(z s) V^T, by torch's decomposition; with `keep_sum` the sum of the z s is that of the s."""
    for keeps in (False, True):
        _, model = adapted([BODY], {"kind": "svf", "keep_sum": keeps, "on": ["down"]})
        found = list(adapters(model))
        assert len(found) == 2
        for weight, adapter in found:
            assert isinstance(adapter, SingularGains)
            left, values, right = torch.linalg.svd(weight.double(), full_matrices=False)
            expected = values * adapter.gains
            if keeps:
                expected = expected * values.sum() / expected.sum()
            torch.testing.assert_close(weight + adapter.delta(), left @ expected.diag() @ right, rtol=0, atol=1e-6)


def test_only_adapters_are_trained() -> None:
    """Gradients reach every adapter and nothing else, and the plan says how many numbers that is."""
    _, model = adapted([BODY], {**LORA, "on": ["q", "up"]})
    model.loss(TOKENS_BT[:, :-1], TOKENS_BT[:, 1:]).backward()
    reached = {path for path, parameter in model.named_parameters() if parameter.grad is not None}
    assert reached == set(model.plan.trained)
    maps = [weight.shape for weight, _ in adapters(model)]
    assert len(maps) == 4
    assert model.plan.trained_parameters == sum(3 * (rows + columns) for rows, columns in maps)


@pytest.mark.parametrize("bits", [{}, {"four_bits": {"block": 16}}], ids=["float32", "four bits"])
def test_slots_of_a_pool_train_their_adapters(bits: dict[str, Any]) -> None:
    """A training step, where slots else run over stacked weights, loses as merged maps do and moves each adapter."""
    pool = {"kind": "pool", "slots": 2, "alive": 2, "of": {"kind": "convolution"}}
    whole, model = adapted([{"name": "s", "layers": {"sublayers": [{"block": pool}]}}], {**LORA, **bits})
    loss = model.loss(TOKENS_BT[:, :-1], TOKENS_BT[:, 1:])
    torch.testing.assert_close(loss, without(whole, model).loss(TOKENS_BT[:, :-1], TOKENS_BT[:, 1:]))
    loss.backward()
    assert {path for path, p in model.named_parameters() if p.grad is not None} == set(model.plan.trained)


def test_training_spares_the_gradients_of_frozen_weights() -> None:
    """FLOPs of a step: three passes, less one product a frozen map and the readout's."""
    whole, _ = adapted([BODY], LORA)
    plan = resolve(whole.organism)
    layers = [block for stage in plan.stages for block in stage.blocks() if not block.is_adapter]
    frozen = sum(matmul_flops(block.weights) for block in layers) + 2.0 * 16 * 256
    expected = (3.0 * plan.flops_per_token - frozen) * whole.train.batch * whole.context
    assert step_flops(whole) == pytest.approx(expected, rel=1e-12)


FOUR_BITS = {**LORA, "four_bits": {"block": 16}}


def test_four_bit_levels_are_those_of_a_normal_law() -> None:
    """Of equal probability: 8 quantiles above zero, 7 below, out of QLoRA's appendix E."""
    above = torch.special.ndtri(torch.linspace(0.9677083, 0.5, 9, dtype=torch.float64)[:-1])
    below = -torch.special.ndtri(torch.linspace(0.9677083, 0.5, 8, dtype=torch.float64)[:-1])
    levels = torch.cat((above, below, torch.zeros(1, dtype=torch.float64))).sort().values
    torch.testing.assert_close(levels / levels.max(), LEVELS.values, rtol=0, atol=1e-6)


@pytest.mark.parametrize("doubled", [False, True])
def test_four_bits_round_once(doubled: bool) -> None:
    """Each weight lies at the nearest level of its block's scale; what was rounded rounds to itself; bytes are few."""
    weight = torch.randn(37, 53, generator=torch.Generator().manual_seed(1)) * torch.logspace(-4, 0, 37)[:, None]
    packed = Packed(weight.shape, 64, doubled)
    packed.fill(weight)
    once = packed.whole()
    packed.fill(once)
    assert torch.equal(packed.whole(), once)
    flat = torch.nn.functional.pad(weight.flatten(), (0, -weight.numel() % 64)).view(-1, 64)
    scales = flat.abs().amax(1, keepdim=True)
    nearest = (flat[..., None] / scales[..., None] - LEVELS.values.float()).abs().argmin(-1)
    expected = (LEVELS.values.float()[nearest] * scales).flatten()[: weight.numel()].view_as(weight)
    if not doubled:
        torch.testing.assert_close(once, expected, rtol=1e-6, atol=0)
    gap, step = float(LEVELS.values.diff().max()) / 2, float(scales.max()) / 255 if doubled else 1e-9
    errors = torch.nn.functional.pad((once - weight).flatten(), (0, -weight.numel() % 64)).view(-1, 64).abs()
    assert bool((errors <= gap * scales + step).all())
    spec = FourBitSpec(block=64, double=doubled)
    assert spec.bytes_of(weight.numel()) == sum(buffer.nbytes for buffer in packed.buffers())


@pytest.mark.parametrize("name", ["attention", "latent", "experts", "gated"])
def test_four_bit_maps_compute_and_learn_as_rounded_ones(name: str) -> None:
    """A frozen map in four bits is a rounded one, whole and step by step, in gradients too; bytes are as planned."""
    block = {**BLOCKS, "gated": {"kind": "gated", "ratio": 1.0}}[name]
    whole, model = adapted([{"name": "s", "layers": {"sublayers": [{"block": block}]}}], FOUR_BITS)
    assert_merged(whole, model)
    rounded = build(resolve(replaced(whole, {("organism", "adapters", "four_bits"): None}).organism), 0).double()
    held = held_weights(model)
    for path, parameter in rounded.named_parameters():
        parameter.data.copy_(held[path])
    for one in (model, rounded):
        one.loss(TOKENS_BT[:, :-1], TOKENS_BT[:, 1:]).backward()
    gradients = {path: parameter.grad for path, parameter in rounded.named_parameters()}
    for path, parameter in model.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(parameter.grad, gradients[path], rtol=1e-8, atol=1e-10)
    built = build(resolve(whole.organism), 0)
    kept = sum(t.nbytes for t in (*built.parameters(), *built.buffers()))
    assert kept == built.plan.weight_bytes < 4 * built.plan.parameters
