"""The Triton recurrence against the float64 equation: values, final states and gradients.

On a CUDA device: `pytest -m gpu tests/kernels`.
Under the interpreter: `TRITON_INTERPRET=1 pytest tests/kernels -k triton`.
"""

import pytest
import torch
from tests.kernels.device import RUNS_KERNELS
from tests.kernels.recurrence.proof import DTYPES, answer, check, draw, errors, widened

from evo.kernels.recurrence import recur
from evo.kernels.triton_support import is_interpreting

pytestmark = RUNS_KERNELS
PLAIN = [
    ("none", "outer"),
    ("head", "outer"),
    ("token", "outer"),
    ("head", "bonus"),
    ("token", "bonus"),
    ("channel", "outer"),
    ("channel", "bonus"),
    ("none", "delta"),
    ("head", "delta"),
    ("token", "delta"),
]
GENERALISED = [
    ("channel", "delta"),
    ("channel", "removal"),
    ("token", "removal"),
    ("none", "removal"),
    ("channel", "removal+bonus"),
]
MEMBERS = PLAIN + GENERALISED


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("decay", "update"), MEMBERS)
def test_every_member(decay, update, dtype):
    """An odd length over several chunks, with an initial state and a loss on the final one."""
    check(*draw(decay, update, dtype=dtype))


@pytest.mark.parametrize(("decay", "update"), MEMBERS)
@pytest.mark.parametrize("T", [1, 17])
def test_short_sequences(T, decay, update):
    """One token, and a little more than a sub-chunk without an initial state."""
    check(*draw(decay, update, T=T, state=T == 1))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("decay", "update"), MEMBERS)
def test_wide_and_odd_heads(decay, update, dtype):
    """Head dims that are no power of two and span several column blocks."""
    check(*draw(decay, update, B=1, T=40 if is_interpreting() else 200, H=1, K=40, V=72, dtype=dtype))


@pytest.mark.skipif(is_interpreting(), reason="too large for the interpreter")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("decay", "update"), PLAIN)
def test_benchmarked_heads(decay, update, dtype):
    """The head dims and block sizes that the benchmark times; the equation's own steps would take 16 GB here."""
    check(*draw(decay, update, B=8, T=300, H=16, K=128, V=128, dtype=dtype), exact="chunked")


@pytest.mark.skipif(is_interpreting(), reason="too large for the interpreter")
@pytest.mark.parametrize(("decay", "update"), PLAIN)
def test_the_widest_heads(decay, update):
    """256 channels, many heads and few."""
    for B, H in ((1, 2), (4, 16)):
        check(*draw(decay, update, B=B, T=150, H=H, K=256, V=256, dtype=torch.bfloat16), exact="chunked")


@pytest.mark.skipif(is_interpreting(), reason="too long for the interpreter")
@pytest.mark.parametrize("update", ["outer", "bonus", "delta"])
def test_decay_gradients_of_long_sequences(update):
    """In bfloat16, at the start of 8192 tokens, where sums from the end have the longest way behind them."""
    inputs, parts = draw("token", update, B=1, T=8192, K=64, V=64, dtype=torch.bfloat16, strength=0.1)
    place = 5 + list(parts).index("log_decay")
    found = answer(inputs, parts, backend="triton")[place][:, :1024].double()
    expected = answer(*widened(inputs, parts), backend="chunked")[place][:, :1024]
    assert (found - expected).norm() < 1.25e-2 * expected.norm()


@pytest.mark.parametrize(("decay", "update"), [m for m in PLAIN if m[0] != "none"])
def test_strong_decays(decay, update):
    """Log decays of -200 a step underflow to zero without a NaN."""
    found = errors(*draw(decay, update, strength=200.0))
    del found["log_decay"]
    assert all(error < 1e-4 for error in found.values()), found


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize(("decay", "update"), MEMBERS)
def test_every_output_is_written(decay, update):
    """On NaN-poisoned memory an odd length leaves no NaN behind."""
    check(*draw(decay, update, T=37))


@pytest.mark.parametrize(("decay", "update"), [("token", "outer"), ("channel", "removal")])
def test_non_contiguous_inputs(decay, update):
    """Heads-first storage gives the same answer."""
    inputs, parts = draw(decay, update)
    inputs = [x.detach().transpose(1, 2).contiguous().transpose(1, 2).requires_grad_() for x in inputs]
    check(inputs, parts)


@pytest.mark.parametrize(("B", "T"), [(0, 5), (2, 0)])
@pytest.mark.parametrize(("decay", "update"), [("token", "outer"), *GENERALISED[:2]])
def test_empty_batches_and_sequences(decay, update, B, T):
    """Nothing in, nothing out; the state and its gradient pass through."""
    inputs, parts = draw(decay, update, B=B, T=T)
    removal = {"removal": tuple(inputs[3:])} if inputs[3:] else {}
    o, state = recur(*inputs[:3], **removal, **parts, backend="triton")
    assert o.shape == (B, T, 2, 24)
    torch.testing.assert_close(state, parts["initial_state_BHKV"])
    (given,) = torch.autograd.grad(state.sum(), [parts["initial_state_BHKV"]])
    torch.testing.assert_close(given, torch.ones_like(given))
