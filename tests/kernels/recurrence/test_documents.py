"""Packed documents equal separate ones, for every member and backend, in values and gradients."""

import itertools

import pytest
import torch
from tests.kernels.device import DEVICE, RUNS_KERNELS
from tests.kernels.recurrence.checks import BOUNDS
from torch.nn.functional import normalize

import oracles
from evo.kernels.dispatch import choose
from evo.kernels.recurrence import plan, recur
from evo.kernels.recurrence.backends import TABLE
from evo.kernels.recurrence.documents import next_start, reset_decay
from evo.kernels.triton_support import is_interpreting

MEMBERS = list(
    itertools.product(("none", "head", "token", "channel"), ("outer", "bonus", "delta", "dplr", "dplr+bonus"))
)
LENGTHS = (9, 1, 17, 2, 33, 40)
IDS = (4, 7, 4, 0, 5, 6)  # an id that returns names a new document


def draw(decay, update, lengths=LENGTHS, B=2, H=2, K=6, V=5):
    """float64 leaves of one member on the CPU: q, k, v, the parts, and the ids."""
    T = sum(lengths)
    stream = torch.Generator().manual_seed(0)
    normal = lambda *shape: torch.randn(*shape, generator=stream, dtype=torch.float64)  # noqa: E731
    uniform = lambda *shape: torch.rand(*shape, generator=stream, dtype=torch.float64)  # noqa: E731
    inputs = normal(B, T, H, K), normalize(normal(B, T, H, K), dim=-1), normal(B, T, H, V)
    parts = {"initial_state_BHKV": normal(B, H, K, V)}
    shapes = {"head": (H,), "token": (B, T, H), "channel": (B, T, H, K)}
    if decay != "none":
        parts["log_decay"] = -0.3 * uniform(*shapes[decay])
    if update == "delta":
        parts["beta_BTH"] = uniform(B, T, H)
    if update.startswith("dplr"):
        a = normalize(normal(B, T, H, K), dim=-1)
        parts["dplr"] = (a, -a * uniform(B, T, H, K))
    if update.endswith("bonus"):
        parts["bonus_HK"] = normal(H, K)
    ids_BT = torch.tensor(IDS[: len(lengths)]).repeat_interleave(torch.tensor(lengths)).expand(B, T)
    return inputs, parts, ids_BT


def converted(inputs, parts, change):
    """Fresh leaves made by `change`."""
    leaf = lambda x: change(x.detach()).requires_grad_()  # noqa: E731
    parts = {name: tuple(map(leaf, x)) if isinstance(x, tuple) else leaf(x) for name, x in parts.items()}
    return tuple(map(leaf, inputs)), parts


def gradients(o, state, inputs, parts):
    """Of a loss that weighs both results."""
    leaves = [*inputs, *itertools.chain(*(x if isinstance(x, tuple) else (x,) for x in parts.values()))]
    weights = torch.cos(torch.arange(o.numel(), device=o.device)).reshape(o.shape).to(o.dtype)
    return torch.autograd.grad((o * weights).sum() + (state * torch.sin(state.detach())).sum(), leaves)


def separate(inputs, parts, lengths):
    """Each document by itself; the initial state is the first one's, the final state the last one's."""
    outputs, start, state = [], 0, parts["initial_state_BHKV"]
    for length in lengths:
        piece = slice(start, start + length)
        rest = {n: x for n, x in parts.items() if n in ("log_decay", "beta_BTH", "bonus_HK")}
        rest = {n: x[:, piece] if n != "bonus_HK" and x.ndim > 1 else x for n, x in rest.items()}
        if "dplr" in parts:
            rest["dplr"] = tuple(x[:, piece] for x in parts["dplr"])
        q, k, v = (x[:, piece] for x in inputs)
        o, state = recur(q, k, v, **rest, initial_state_BHKV=state if start == 0 else None, backend="reference")
        outputs.append(o)
        start += length
    return torch.cat(outputs, dim=1), state


@pytest.mark.parametrize("backend", ["reference", "chunked"])
@pytest.mark.parametrize(("decay", "update"), MEMBERS)
def test_packed_documents_are_separate_documents(decay, update, backend):
    """Outputs, final state and every gradient, in float64."""
    inputs, parts, ids_BT = draw(decay, update)
    inputs, parts = converted(inputs, parts, torch.clone)
    expected = separate(inputs, parts, LENGTHS)
    found = recur(*inputs, **parts, segments_BT=ids_BT, backend=backend)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradients(*found, inputs, parts), gradients(*expected, inputs, parts))


@pytest.mark.parametrize(("decay", "update"), MEMBERS)
def test_nothing_of_a_loud_document_is_left(decay, update):
    """A first document a million times louder leaves the second's outputs as they are, to float32 accuracy."""
    (q, k, v), parts, ids_BT = draw(decay, update, lengths=(30, 20))
    loud = v.clone()
    loud[:, :30] *= 1e6
    run = lambda v, parts: recur(q, k, v, **parts, segments_BT=ids_BT)[0][:, 30:]  # noqa: E731
    torch.testing.assert_close(run(loud, parts), run(v, parts), rtol=1e-5, atol=1e-6)


def test_rounding_of_later_documents_stays_there():
    """What a backend's sums leave at a document's start is taken from the gradients of the document before."""
    starts_BT = torch.tensor([[False, False, True, False, True, False]])
    assert next_start(starts_BT).tolist() == [[2, 2, 4, 4, 6, 6]]
    decay = torch.randn(1, 6, 2, requires_grad=True)
    arriving = torch.randn(1, 6, 2)
    (found,) = torch.autograd.grad(reset_decay(decay, starts_BT[..., None, None], decay[..., None]), decay, arriving)
    left = torch.cat([arriving[:, [2, 2, 4, 4]], torch.zeros(1, 2, 2)], dim=1)
    torch.testing.assert_close(found, (arriving - left).masked_fill(starts_BT[..., None], 0.0))


def relative_errors(found, expected):
    """Frobenius, against 0.1 an element where the expected is about zero."""
    sizes = [w.norm().clamp(min=0.1 * w.numel() ** 0.5) for w in expected]
    return [((g.double() - w).norm() / size).item() for g, w, size in zip(found, expected, sizes, strict=True)]


class TestKernels:
    """The Triton backends, on a CUDA device or interpreted."""

    pytestmark = RUNS_KERNELS

    @pytest.mark.parametrize("dtype", BOUNDS, ids=str)
    @pytest.mark.parametrize(("decay", "update"), MEMBERS)
    def test_triton_keeps_documents_apart(self, decay, update, dtype):
        """Values and gradients of packed documents against the float64 equation."""
        if is_interpreting() and dtype != torch.float32:
            pytest.skip("one dtype in the interpreter")
        B, H, lengths = 2, 2, (100, 1, 17, 2, 130)
        if is_interpreting():  # several chunks of what is not made a decay per token first
            B, H, lengths = 1, 1, (9, 1, 17, 2, 8) if decay in ("token", "channel") else (9, 1, 17)
        inputs, parts, ids_BT = draw(decay, update, lengths, B, H, K=16, V=24)
        ids_BT = ids_BT.to(DEVICE)
        narrow, narrow_parts = converted(inputs, parts, lambda x: x.float().to(DEVICE))
        narrow = tuple(x.detach().to(dtype).requires_grad_() for x in narrow)
        problem = plan(*narrow, **narrow_parts, segments_BT=ids_BT)
        why_not = TABLE.named("triton").reasons(problem)
        if why_not:
            pytest.skip("; ".join(why_not))
        wide, wide_parts = converted(narrow, narrow_parts, torch.Tensor.double)
        expected = recur(*wide, **wide_parts, segments_BT=ids_BT, backend="reference")
        found = recur(*narrow, **narrow_parts, segments_BT=ids_BT, backend="triton")
        errors = relative_errors(
            [*found, *gradients(*found, narrow, narrow_parts)], [*expected, *gradients(*expected, wide, wide_parts)]
        )
        assert max(errors) < BOUNDS[dtype], errors

    @pytest.mark.parametrize(("decay", "update"), MEMBERS)
    def test_triton_steps_keep_documents_apart(self, decay, update):
        """Documents that end inside a few decoded tokens."""
        H, lengths = (1, (2, 1, 2)) if is_interpreting() else (2, (5, 1, 4))
        inputs, parts, ids_BT = draw(decay, update, lengths, B=1, H=H, K=16, V=24)
        inputs, parts = converted(inputs, parts, lambda x: x.float().to(DEVICE))
        wide, wide_parts = converted(inputs, parts, torch.Tensor.double)
        ids_BT = ids_BT.to(DEVICE)
        with torch.no_grad():
            expected = recur(*wide, **wide_parts, segments_BT=ids_BT, backend="reference")
            found = recur(*inputs, **parts, segments_BT=ids_BT, backend="step")
        assert max(relative_errors(found, expected)) < 1e-5


def heads_first(*tensors):
    return [x.transpose(1, 2) for x in tensors]


def naive_linear(naive, q, k, v, _):
    return naive(q, k, v)[0]


def naive_gated(naive, q, k, v, parts):
    return naive(q, k, v, parts["log_decay"])[0]


def naive_bonus(naive, q, k, v, parts):
    return naive(*heads_first(q, k, v, parts["log_decay"]), parts["bonus_HK"])[0].transpose(1, 2)


def naive_delta(naive, q, k, v, parts):
    return naive(q, k, v, parts["beta_BTH"], parts["log_decay"])[0]


def naive_channel_delta(naive, q, k, v, parts):
    return naive(q, k, v, parts["log_decay"], parts["beta_BTH"])[0]


def naive_dplr(naive, q, k, v, parts):
    return naive(*heads_first(q, k, v, *parts["dplr"], parts["log_decay"]))[0].transpose(1, 2)


ORACLES = [
    ("none", "outer", "fla.ops.linear_attn.naive:naive_recurrent_linear_attn", naive_linear),
    ("token", "outer", "fla.ops.simple_gla.naive:naive_recurrent_simple_gla", naive_gated),
    ("channel", "outer", "fla.ops.gla.naive:naive_recurrent_gla", naive_gated),
    ("channel", "bonus", "fla.ops.rwkv6.recurrent_naive:naive_recurrent_rwkv6", naive_bonus),
    ("token", "delta", "fla.ops.gated_delta_rule.naive:naive_recurrent_gated_delta_rule", naive_delta),
    ("channel", "delta", "fla.ops.kda.naive:naive_recurrent_kda", naive_channel_delta),
    ("channel", "dplr", "fla.ops.generalized_delta_rule.dplr.naive:dplr_recurrence", naive_dplr),
]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("backend", ["reference", "chunked"])
@pytest.mark.parametrize(("decay", "update", "path", "call"), ORACLES, ids=[f"{x[0]}-{x[1]}" for x in ORACLES])
def test_fla_document_by_document(decay, update, path, call, backend):
    """What fla's naive functions give for each document alone."""
    theirs = oracles.naive(path)
    lengths = (20, 1, 11)
    inputs, parts, ids_BT = draw(decay, update, lengths, K=16, V=16)
    del parts["initial_state_BHKV"]
    inputs, parts = converted(inputs, parts, torch.Tensor.float)
    pieces, start = [], 0
    for length in lengths:
        piece = slice(start, start + length)
        rest = {n: x for n, x in parts.items() if n == "bonus_HK"}
        rest |= {n: x[:, piece] for n, x in parts.items() if n in ("log_decay", "beta_BTH")}
        if "dplr" in parts:
            rest["dplr"] = tuple(x[:, piece] for x in parts["dplr"])
        pieces.append(call(theirs, *(x[:, piece] for x in inputs), rest))
        start += length
    found = recur(*inputs, **parts, segments_BT=ids_BT, backend=backend)[0]
    torch.testing.assert_close(found, torch.cat(pieces, dim=1), rtol=2e-4, atol=2e-4)


def test_the_dispatcher_sees_the_decay_that_documents_need():
    """Borders make a decay per token of none and of one per head; one per channel stays."""
    for decay, expected in (("none", "token"), ("head", "token"), ("token", "token"), ("channel", "channel")):
        inputs, parts, ids_BT = draw(decay, "outer")
        problem = plan(*inputs, **parts, segments_BT=ids_BT)
        assert problem.decay == expected
        assert choose(TABLE, problem).backend.name == "chunked"


@pytest.mark.parametrize("ids", [torch.zeros(2, 5, dtype=torch.int64), torch.zeros(2, 102)])
def test_ids_that_do_not_fit_are_refused(ids):
    """Another shape, or numbers that are no integers."""
    inputs, parts, _ = draw("none", "outer")
    with pytest.raises(ValueError, match=r"segments_BT must be integers \(2, 102\)"):
        recur(*inputs, **parts, segments_BT=ids)
