"""What every mixer promises: shapes, causality, continuation, gradients."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from block_variants import (
    BLIND_AT_FIRST,
    BY_CHOICE,
    BY_FFT,
    CONTEXT,
    MIXERS,
    NORMS,
    WIDTH,
    Whole,
    block_of,
    built,
    host,
    inputs,
    mixer,
    mixer_plan,
    organism,
    plan,
    stage,
    token_ids,
)
from ffn_variants import FFNS, STATEFUL_FFNS
from torch.utils._python_dispatch import TorchDispatchMode

from evo.blocks.attention.plan import AttentionPlan
from evo.blocks.base import state_size
from evo.blocks.flow import Flow
from evo.compiler.organism import OrganismState
from evo.dsl.index import kinds
from evo.dsl.spec import INPUT, TOKENS

EVERY_MIXER = pytest.mark.parametrize("name", [*MIXERS, *STATEFUL_FFNS])


def kinds_in(data: object) -> set[str]:
    """Every kind that some data names."""
    if isinstance(data, dict):
        own = {data["kind"]} if "kind" in data else set(data)
        return own.union(*(kinds_in(value) for value in data.values()))
    return set().union(*(kinds_in(value) for value in data)) if isinstance(data, list) else set()


ELSEWHERE = [{"kind": kind} for kind in ("full", "none", "prefix", "shared", "cross_attention", "gated_memory")]
"""Nothing to test; and what sees the future, or reads another block, which have tests of their own."""


@pytest.mark.parametrize("role", ["mixer", "stencil", "select", "scaling", "ffn", "norm", "act"])
def test_every_registered_kind_is_under_contract(role: str):
    """No kind can be registered without entering this suite."""
    covered = kinds_in([*MIXERS.values(), *FFNS.values(), *STATEFUL_FFNS.values(), *NORMS.values(), *ELSEWHERE])
    assert set(kinds(role)) <= covered


@EVERY_MIXER
def test_shapes(name: str):
    """A mixer maps (B, T, D) to (B, T, D) for any T, with finite values."""
    for time in (1, 2, 7, CONTEXT):
        y = mixer(name)(inputs(time, batch=3))
        assert y.shape == (3, time, WIDTH)
        assert y.isfinite().all()


@EVERY_MIXER
def test_no_value_leaks_from_the_future(name: str):
    """Changing the input at j changes no output before j, and changes the output at j."""
    x, places = inputs(), (1, 11, CONTEXT - 1)
    changed = torch.stack([x, *(x for _ in places)])  # all in one batch, whose rows do not meet, as is shown below
    for index, at in enumerate(places, 1):
        changed[index, :, at] += 1.0
    before, *others = mixer(name)(changed.flatten(0, 1)).unflatten(0, (-1, len(x)))
    for at, after in zip(places, others, strict=True):
        torch.testing.assert_close(after[:, :at], before[:, :at], rtol=0, atol=1e-13)
        assert (after[:, at] - before[:, at]).abs().max() > 1e-6


@EVERY_MIXER
def test_no_gradient_leaks_to_the_future(name: str):
    """An output at i has a gradient of zero at every input after i, and not at i."""
    places = (0, 10, CONTEXT - 2)
    x = inputs().repeat(len(places), 1, 1).requires_grad_()
    y = mixer(name)(x)
    cotangent = torch.zeros_like(y).unflatten(0, (len(places), -1))
    for index, at in enumerate(places):
        cotangent[index, :, at] = torch.randn_like(cotangent[index, :, at])
    (gradients,) = torch.autograd.grad(y, [x], cotangent.flatten(0, 1))
    for at, gradient in zip(places, gradients.unflatten(0, (len(places), -1)), strict=True):
        rounding = 1e-14 * gradient.abs().max() if name in BY_FFT else 0.0
        assert (gradient[:, at + 1 :].abs() <= rounding).all()
        assert gradient[:, at].abs().max() > 1e-8 or (at == 0 and name in BLIND_AT_FIRST)


@EVERY_MIXER
def test_continuing_equals_parallel(name: str):
    """A sequence in one piece, in chunks and token by token gives the same outputs. After each chunk the state holds
    as many values as the plan says."""
    module, x = mixer(name), inputs()
    whole = module(x)
    for lengths in ((CONTEXT,), (1,) * CONTEXT, (5, 1, 1, 9, 2, 6), (1, 20, 3), (23, 1)):
        state, pieces = OrganismState(), []
        for chunk in x.split(list(lengths), dim=1):
            y, state = module.extend(chunk, state)
            pieces.append(y)
            assert name in BY_CHOICE or state_size(state) == host(name).cache_values(state.seen) * len(x)
        torch.testing.assert_close(torch.cat(pieces, dim=1), whole, rtol=1e-9, atol=1e-11)


@EVERY_MIXER
def test_continuing_carries_gradients(name: str):
    """Backpropagation through the state gives the gradients of the parallel form."""
    module, x = mixer(name), inputs()
    cotangent = inputs(seed=3)
    whole = torch.autograd.grad((module(x) * cotangent).sum(), list(module.parameters()), allow_unused=True)
    first, state = module.extend(x[:, :10], OrganismState())
    second, _ = module.extend(x[:, 10:], state)
    total = (torch.cat((first, second), dim=1) * cotangent).sum()
    parts = torch.autograd.grad(total, list(module.parameters()), allow_unused=True)
    torch.testing.assert_close(parts, whole, rtol=1e-8, atol=1e-10)


@EVERY_MIXER
def test_half_precision_activations(name: str):
    """Weights in float32, activations in bfloat16, as a GPU gives them: finite outputs and gradients, in both forms.
    With weights in bfloat16 as well, the outputs are such numbers."""
    module, x = Whole(built(mixer_plan(name))), (0.2 * inputs()).bfloat16().requires_grad_()
    module.block.float()
    with torch.autocast("cpu", torch.bfloat16):
        whole = module(x)
        first, state = module.extend(x[:, :10], OrganismState())
        second, _ = module.extend(x[:, 10:], state)
    for y in (whole, torch.cat((first, second), dim=1)):
        gradients = torch.autograd.grad(y.float().square().sum(), [x, *module.parameters()], allow_unused=True)
        assert y.isfinite().all()
        assert all(gradient.isfinite().all() for gradient in gradients if gradient is not None)
    module.block.bfloat16()
    assert module(x).dtype == torch.bfloat16


class NumbersSent(TorchDispatchMode):
    """Counts tensors that are made of numbers of the host."""

    count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.count += func is torch.ops.aten.lift_fresh.default
        return func(*args, **(kwargs or {}))


@EVERY_MIXER
def test_no_number_is_sent_to_the_device(name: str):
    """By the second pass: on a GPU a step that copies from the host cannot be captured."""
    module, x = mixer(name), inputs().requires_grad_()
    module(x)
    with NumbersSent() as sent:
        torch.autograd.grad(module(x).square().sum(), [x])
    assert sent.count == 0


class SumsInAnyOrder(TorchDispatchMode):
    """Notes the operations that a GPU would carry out in any order, and so to other bytes each time: floats that are
    added at one place by several."""

    def __init__(self) -> None:
        super().__init__()
        self.found = set[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__.rstrip("_")
        if name in ("scatter_add", "index_add"):
            into, dim, index, added = args[:4]
            if name == "index_add":
                index = index.view([-1 if d == dim % into.ndim else 1 for d in range(into.ndim)]).expand_as(added)
            counts = torch.zeros(into.shape).scatter_add(dim, index, (added != 0).float())
            if into.is_floating_point() and counts.max() > 1:
                self.found.add(name)
        return func(*args, **(kwargs or {}))


@EVERY_MIXER
def test_sums_are_added_up_in_one_order(name: str):
    """Training twice gives the same bytes on a GPU as well."""
    module, x = mixer(name), inputs().requires_grad_()
    learned = [p for p in module.parameters() if p.requires_grad]
    with SumsInAnyOrder() as sums:
        torch.autograd.grad(module(x).square().sum(), [x, *learned], allow_unused=True)
    assert not sums.found


FORGETTING = (
    "memory",
    "experts",
    "channel mix",
    "selective",
    "rg_lru",
    "rnn",
    "state space",
    "path attention",
    "gated slots",
    "gated scan",
    "wkv",
    "hyena",
    "spatial",
    "compressive",
    "mlstm",
    "recurrence",
    "convolution",
    "route",
)


@pytest.mark.parametrize("name", [n for n in [*MIXERS, *STATEFUL_FFNS] if n.startswith(FORGETTING)])
def test_packed_documents_do_not_meet(name: str):
    """A row of several documents gives what each gives by itself; an id that comes again is another document."""
    if "position" in MIXERS.get(name, {}):
        pytest.skip("positions run on through a row")
    module, x = mixer(name), inputs(batch=1)
    lengths, ids = (7, 1, 10, 6), (4, 2, 4, 9)
    segments = torch.repeat_interleave(torch.tensor(ids), torch.tensor(lengths))[None]
    flow = Flow(signals={TOKENS: token_ids(x), INPUT: x}, segments_BT=segments)
    alone = torch.cat([module(part) for part in x.split(list(lengths), dim=1)], dim=1)
    torch.testing.assert_close(flow.run(module.block, x), alone, rtol=1e-7, atol=1e-9)


@EVERY_MIXER
def test_state_is_left_as_it_was(name: str):
    """Extending twice from one state gives the same twice: states are values."""
    module, x = mixer(name), inputs()
    _, state = module.extend(x[:, :9], OrganismState())
    once, _ = module.extend(x[:, 9:15], state)
    twice, _ = module.extend(x[:, 9:15], state)
    assert torch.equal(once, twice)


@EVERY_MIXER
def test_batch_rows_do_not_meet(name: str):
    """Each sequence of a batch is computed as if it were alone."""
    module, x = mixer(name), inputs(batch=3)
    torch.testing.assert_close(module(x)[1:2], module(x[1:2]), rtol=1e-10, atol=1e-12)


@EVERY_MIXER
def test_gradients_reach_every_parameter(name: str):
    """No parameter of a mixer is dead."""
    module = mixer(name)
    y, losses = module.pass_(inputs())
    gradients = torch.autograd.grad(y.square().sum() + losses, module.parameters(), allow_unused=True)
    own = dict(zip((path for path, _ in module.named_parameters()), gradients, strict=True))
    assert {path for path, gradient in own.items() if gradient is None or gradient.abs().max() <= 1e-12} == set()


@pytest.mark.parametrize("data", [*FFNS.values(), {"kind": "none"}], ids=[*FFNS, "none"])
def test_feed_forwards_act_on_each_position_alone(data: dict):
    """A feed-forward keeps shapes, mixes no positions, and gradients reach every parameter that is not frozen."""
    whole = plan([stage("s", {"kind": "convolution"}, ffn=data)])
    if data["kind"] == "none":
        assert next(layer for _, layer in whole.stages[0].running_layers()).block_names() == ("mixer",)
        return
    block, x = block_of(whole, "ffn"), inputs()
    module = Whole(built(block))
    y, losses = module.pass_(x)
    torch.testing.assert_close(y[:, 3:4], module(x[:, 3:4]), rtol=1e-10, atol=1e-12)
    (y.square().sum() + losses).backward()
    reached = {name for name, p in module.named_parameters() if p.grad is not None and p.grad.abs().max() > 1e-12}
    frozen = {path for at, part in block.named_blocks("") if part.is_frozen for path, _ in part.named_weights(at)}
    assert reached == {name for name, _ in module.named_parameters() if f".{name}" not in frozen}


def test_attention_that_is_not_causal_sees_both_ways_and_does_not_continue():
    """causal: false reaches the mask, and decoding with it is refused."""
    block = mixer_plan("attention window, sinks")
    assert isinstance(block, AttentionPlan)
    module, x = Whole(built(replace(block, causal=False))), inputs().requires_grad_()
    module(x)[:, 5].sum().backward()
    assert x.grad is not None
    assert [bool(g.any()) for g in x.grad[0, :12]] == [True] * 10 + [False] * 2
    with pytest.raises(ValueError, match="not causal"):
        module.extend(x, OrganismState())


@pytest.mark.parametrize("data", NORMS.values(), ids=NORMS)
@pytest.mark.parametrize("place", ["pre", "post", "sandwich"])
def test_norms_stand_in_their_place(data: dict, place: str):
    """A layer computes x + f(N(x)), N(x + f(x)) or x + N'(f(N(x))) for its mixer and then for its feed-forward."""
    model = organism([stage("s", MIXERS["attention"], norm={**data, "place": place})])
    model = model.requires_grad_(False)
    for i, parameter in enumerate(model.parameters()):
        parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i)) * 0.1)
    layer, x = model.stages.get_submodule("s.0"), inputs()
    expected, flow = x, Flow()
    for part in ("mixer", "ffn"):
        f, norm = layer.get_submodule(part), layer.get_submodule(f"{part}_norm")
        if place == "pre":
            expected = expected + f(norm(expected, flow), flow)
        elif place == "post":
            expected = norm(expected + f(expected, flow), flow)
        else:
            expected = expected + layer.get_submodule(f"{part}_out_norm")(f(norm(expected, flow), flow), flow)
    torch.testing.assert_close(layer(x, flow), expected, rtol=1e-12, atol=1e-12)
