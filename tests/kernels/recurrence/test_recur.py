"""recur: the chunked form equals the stepwise equation for every member of the family, in values and gradients."""

import itertools

import pytest
import torch

from evo.kernels.dispatch import choose
from evo.kernels.recurrence import plan, recur
from evo.kernels.recurrence.backends import TABLE

DECAYS = ("none", "head", "token", "channel")
UPDATES = ("outer", "bonus", "delta", "dplr", "dplr+bonus")
MEMBERS = list(itertools.product(DECAYS, UPDATES))


def draw(decay, update, B=2, T=37, H=2, K=6, V=5, state=True, dtype=torch.float64, seed=0, strength=1.0):
    """Leaf tensors of one member: positional q, k, v and keyword parts."""
    stream = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=stream, dtype=dtype)  # noqa: E731
    uniform = lambda *shape: torch.rand(*shape, generator=stream, dtype=dtype)  # noqa: E731
    keys = torch.nn.functional.normalize(normal(B, T, H, K), dim=-1)
    parts = {}
    shapes = {"head": (H,), "token": (B, T, H), "channel": (B, T, H, K)}
    if decay != "none":
        parts["log_decay"] = -strength * uniform(*shapes[decay])
    if update == "delta":
        parts["beta_BTH"] = uniform(B, T, H)
    if update.startswith("dplr"):
        a = torch.nn.functional.normalize(normal(B, T, H, K), dim=-1)
        parts["dplr"] = (a, -a * uniform(B, T, H, K))
    if update.endswith("bonus"):
        parts["bonus_HK"] = normal(H, K)
    if state:
        parts["initial_state_BHKV"] = normal(B, H, K, V)
    return (normal(B, T, H, K), keys, normal(B, T, H, V)), parts


def leaves(inputs, parts):
    found = [*inputs]
    for part in parts.values():
        found += part if isinstance(part, tuple) else [part]
    return [x.requires_grad_() for x in found]


def answer(inputs, parts, **options):
    """Outputs, final state and the gradients of a loss that uses both."""
    tensors = leaves(inputs, parts)
    o, state = recur(*inputs, **parts, **options)
    weights = torch.linspace(-1, 1, o.numel(), dtype=o.dtype).reshape(o.shape)
    loss = (o * weights).sum() + state.square().sum()
    return (o, state, *torch.autograd.grad(loss, tensors))


@pytest.mark.parametrize("T", [1, 2, 16, 37, 64])
@pytest.mark.parametrize(("decay", "update"), MEMBERS)
def test_chunked_equals_stepwise(decay, update, T):
    """Any length, with an initial state: same outputs, final state and gradients to float64 accuracy."""
    inputs, parts = draw(decay, update, T=T)
    expected = answer(inputs, parts, backend="reference")
    for got, wanted in zip(answer(inputs, parts, backend="chunked", chunk=32), expected, strict=True):
        torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("chunk", [1, 2, 16, 64])
def test_chunk_size_changes_nothing(chunk):
    """The size of a chunk is a matter of speed only."""
    inputs, parts = draw("channel", "delta")
    expected = recur(*inputs, **parts, backend="reference")
    torch.testing.assert_close(recur(*inputs, **parts, chunk=chunk), expected)


@pytest.mark.parametrize(("decay", "update"), MEMBERS)
def test_gradients_are_those_of_finite_differences(decay, update):
    """gradcheck passes through every input of the chunked form."""
    inputs, parts = draw(decay, update, B=1, T=5, H=1, K=3, V=2)
    names = list(parts)
    flat = leaves(inputs, parts)

    def run(q, k, v, *rest):
        rest = list(rest)
        again = {n: (rest.pop(0), rest.pop(0)) if n == "dplr" else rest.pop(0) for n in names}
        return recur(q, k, v, **again, chunk=2)

    assert torch.autograd.gradcheck(run, flat)


@pytest.mark.parametrize(("decay", "update"), MEMBERS)
def test_a_sequence_in_two_pieces_is_the_whole(decay, update):
    """The final state of a prefix continues to the same outputs: what prefill and decode rely on."""
    (q, k, v), parts = draw(decay, update)
    whole, final = recur(q, k, v, **parts)

    def cut(piece):
        keep = {n: x for n, x in parts.items() if n != "initial_state_BHKV"}
        for name in ("log_decay", "beta_BTH"):
            if name in keep and keep[name].ndim > 1:
                keep[name] = keep[name][:, piece]
        if "dplr" in keep:
            keep["dplr"] = tuple(x[:, piece] for x in keep["dplr"])
        return (q[:, piece], k[:, piece], v[:, piece]), keep

    state, outputs = parts["initial_state_BHKV"], []
    for piece in (slice(0, 20), slice(20, 36), slice(36, 37)):
        inputs, rest = cut(piece)
        o, state = recur(*inputs, **rest, initial_state_BHKV=state)
        outputs.append(o)
    torch.testing.assert_close(torch.cat(outputs, dim=1), whole)
    torch.testing.assert_close(state, final)


@pytest.mark.parametrize("strength", [50.0, 1e4])
@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("decay", ["token", "channel"])
def test_strong_decays_neither_overflow_nor_poison(decay, update, strength):
    """Log decays far below the range of exp give finite float32 values and gradients, equal to the equation's."""
    inputs, parts = draw(decay, update, dtype=torch.float32, strength=strength)
    expected = answer(inputs, parts, backend="reference")
    for got, wanted in zip(answer(inputs, parts, backend="chunked"), expected, strict=True):
        assert got.isfinite().all()
        torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-3)


def test_low_precision_inputs_accumulate_in_float32():
    """bfloat16 in: bfloat16 outputs, float32 state, close to the equation on the same numbers."""
    inputs, parts = draw("token", "delta", dtype=torch.bfloat16)
    parts["log_decay"] = parts["log_decay"].float()
    o, state = recur(*inputs, **parts)
    assert o.dtype == torch.bfloat16
    assert state.dtype == torch.float32
    torch.testing.assert_close((o, state), recur(*inputs, **parts, backend="reference"), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("backend", ["reference", "chunked"])
@pytest.mark.parametrize(("B", "T"), [(0, 5), (2, 0)])
def test_empty_batches_and_sequences(B, T, backend):
    """Nothing in, nothing out; the state passes through."""
    inputs, parts = draw("token", "delta", B=B, T=T)
    o, state = recur(*inputs, **parts, backend=backend)
    assert o.shape == (B, T, 2, 5)
    torch.testing.assert_close(state, parts["initial_state_BHKV"])


def test_scale_defaults_to_the_inverse_root_of_the_key_dim():
    """No scale means K ** -0.5."""
    inputs, parts = draw("head", "outer")
    torch.testing.assert_close(recur(*inputs, **parts), recur(*inputs, **parts, scale=6**-0.5))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chunk": 24}, "chunk must be a power of two"),
        ({"log_decay": torch.zeros(3)}, "log_decay must be"),
        ({"beta_BTH": torch.zeros(2, 37, 1)}, "beta_BTH must be"),
        ({"beta_BTH": torch.zeros(2, 37, 2), "bonus_HK": torch.zeros(2, 6)}, "goes with neither"),
        ({"bonus_HK": torch.zeros(6)}, "bonus_HK must be"),
        ({"initial_state_BHKV": torch.zeros(2, 2, 5, 6)}, "initial_state must be"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(change, message):
    """A wrong shape is an error that shows what was found."""
    inputs, _ = draw("none", "outer")
    with pytest.raises(ValueError, match=message):
        recur(*inputs, **change)


def test_the_choice_is_printable():
    """A plan from meta tensors names the backend."""
    inputs, _ = draw("none", "outer")
    problem = plan(*(x.to("meta") for x in inputs))
    assert choose(TABLE, problem, "reference").backend.name == "reference"
    assert (problem.decay, problem.update) == ("none", "outer")
