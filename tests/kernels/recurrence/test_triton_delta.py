"""The Triton kernels of the generalised delta rule, and of decays per channel, against the float64 equation.

On a CUDA device: `pytest -m gpu tests/kernels`.
Under the interpreter: `TRITON_INTERPRET=1 pytest tests/kernels -k triton`.
"""

import pytest
import torch
from tests.kernels.device import RUNS_KERNELS
from tests.kernels.recurrence.proof import BOUNDS, DTYPES, check, draw, errors

from evo.kernels.recurrence import recur
from evo.kernels.triton_support import is_interpreting

pytestmark = RUNS_KERNELS
MEMBERS = [
    ("channel", "delta"),
    ("channel", "removal"),
    ("token", "removal"),
    ("none", "removal"),
    ("channel", "removal+bonus"),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("decay", "update"), MEMBERS)
def test_every_member(decay, update, dtype):
    """An odd length over several chunks, with an initial state and a loss on the final one."""
    check(*draw(decay, update, dtype=dtype))


@pytest.mark.parametrize(("decay", "update"), MEMBERS)
@pytest.mark.parametrize("T", [1, 17])
def test_short_sequences(T, decay, update):
    """One token, and a little more than the smallest chunk without an initial state."""
    check(*draw(decay, update, T=T, state=T == 1))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("decay", "update"), MEMBERS)
def test_wide_and_odd_heads(decay, update, dtype):
    """Head dims that are no power of two and span several blocks of channels and of columns."""
    check(*draw(decay, update, B=1, T=40 if is_interpreting() else 200, H=1, K=40, V=72, dtype=dtype))


@pytest.mark.skipif(is_interpreting(), reason="too large for the interpreter")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("dim", [64, 128, 256])
@pytest.mark.parametrize(("decay", "update"), [("token", "delta"), ("channel", "delta"), ("channel", "removal")])
def test_benchmarked_heads(decay, update, dim, dtype):
    """The head dims that the benchmark times, and the widest."""
    check(*draw(decay, update, B=1, T=200, H=3, K=dim, V=dim, dtype=dtype), exact="chunked")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("strength", [2.0, 200.0])
@pytest.mark.parametrize(("decay", "update"), [m for m in MEMBERS if m[0] == "channel"])
def test_strong_decays(decay, update, strength, dtype):
    """Chunks that decay by more than one pivot can hold are made by halves; -200 a step underflows without a NaN."""
    inputs, parts = draw(decay, update, T=70, strength=strength, dtype=dtype)
    found = errors(inputs, parts)
    if strength > 100:
        del found["log_decay"]
    bound = max(BOUNDS[dtype], 1e-4)
    assert all(error < bound for error in found.values()), found


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gentle_and_strong_chunks_in_one_sequence(dtype):
    """Every chunk decides for itself: decays that grow along the sequence."""
    inputs, parts = draw("channel", "removal", T=150, dtype=dtype)
    growing = torch.linspace(0.1, 20.0, 150, device=parts["log_decay"].device)[None, :, None, None]
    parts["log_decay"] = (parts["log_decay"].detach() * growing).requires_grad_()
    check(inputs, parts)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize(("decay", "update"), MEMBERS)
def test_every_output_is_written(decay, update):
    """On NaN-poisoned memory an odd length leaves no NaN behind."""
    check(*draw(decay, update, T=37))


def test_non_contiguous_inputs():
    """Heads-first storage gives the same answer."""
    inputs, parts = draw("channel", "removal")
    inputs = [x.detach().transpose(1, 2).contiguous().transpose(1, 2).requires_grad_() for x in inputs]
    check(inputs, parts)


@pytest.mark.parametrize(("B", "T"), [(0, 5), (2, 0)])
@pytest.mark.parametrize(("decay", "update"), [("channel", "delta"), ("channel", "removal")])
def test_empty_batches_and_sequences(decay, update, B, T):
    """Nothing in, nothing out; the state and its gradient pass through."""
    inputs, parts = draw(decay, update, B=B, T=T)
    removal = {"removal": tuple(inputs[3:])} if inputs[3:] else {}
    o, state = recur(*inputs[:3], **removal, **parts, backend="triton")
    assert o.shape == (B, T, 2, 24)
    torch.testing.assert_close(state, parts["initial_state_BHKV"])
    (given,) = torch.autograd.grad(state.sum(), [parts["initial_state_BHKV"]])
    torch.testing.assert_close(given, torch.ones_like(given))


def test_a_beta_of_zero_has_a_gradient():
    """Steps that write nothing still say what writing would have done."""
    inputs, parts = draw("channel", "delta", T=40)
    del parts["log_decay"]
    with torch.no_grad():
        parts["beta_BTH"][:, ::3] = 0.0
    check(inputs, parts)


def test_without_gradients_nothing_is_kept():
    """The output does not depend on whether a backward pass will follow."""
    inputs, parts = draw("channel", "removal")
    with torch.no_grad():
        alone, _ = recur(*inputs[:3], removal=tuple(inputs[3:]), **parts, backend="triton")
    both, _ = recur(*inputs[:3], removal=tuple(inputs[3:]), **parts, backend="triton")
    assert torch.equal(alone, both)
