"""The Triton recurrence against the float64 equation: values, final states and gradients.

On a CUDA device: `pytest -m gpu tests/kernels`.
Under the interpreter: `TRITON_INTERPRET=1 pytest tests/kernels -k triton`.
"""

import pytest
import torch
from tests.kernels.device import RUNS_KERNELS
from tests.kernels.recurrence.checks import BOUNDS, DTYPES, TIME, answer, check, draw, errors, widened

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
    ("channel", "dplr"),
    ("token", "dplr"),
    ("none", "dplr"),
    ("channel", "dplr+bonus"),
]
MEMBERS = PLAIN + GENERALISED
# One of each operator.
FAMILIES = [("token", "bonus"), ("channel", "bonus"), ("token", "delta"), ("channel", "delta"), ("channel", "dplr")]
# In the interpreter, one of each kernel where that is enough.
KERNELS = [*FAMILIES, ("head", "outer"), ("head", "delta")] if is_interpreting() else MEMBERS
SINGLES = [(*member, torch.float32) for member in FAMILIES]
# The interpreter's float16 is right, its bfloat16 is not; of halves the delta rules make their inverses in bfloat16.
HALVES = [
    (*member, dtype)
    for member in FAMILIES
    for dtype in (torch.float16, torch.bfloat16)
    if not is_interpreting() or (dtype == torch.float16 and member[1] == "bonus")
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("decay", "update"), MEMBERS)
def test_every_member(decay, update, dtype):
    """An odd length over several chunks, with an initial state and a loss on the final one."""
    segmented = decay == "token" and update in ("outer", "bonus")
    T = 70 if segmented and is_interpreting() else TIME
    check(*draw(decay, update, T=T, dtype=dtype))


@pytest.mark.parametrize(("decay", "update"), MEMBERS)
@pytest.mark.parametrize("T", [1, 17])
def test_short_sequences(T, decay, update):
    """One token, and a little more than a sub-chunk without an initial state."""
    check(*draw(decay, update, T=T, H=1 if is_interpreting() else 2, state=T == 1))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("decay", "update"), KERNELS)
def test_wide_and_odd_heads(decay, update, dtype):
    """Head dims that are no power of two and span several column blocks."""
    check(*draw(decay, update, B=1, T=40 if is_interpreting() else 200, H=1, K=40, V=72, dtype=dtype))


@pytest.mark.parametrize(("decay", "update", "dtype"), HALVES, ids=str)
def test_one_token_of_halves(decay, update, dtype):
    """One token in half precision."""
    check(*draw(decay, update, T=1, dtype=dtype))


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


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("decay", "update"), [m for m in PLAIN if m[0] != "none"])
def test_strong_decays(decay, update, dtype):
    """Log decays of -200 a step underflow to zero without a NaN."""
    found = errors(*draw(decay, update, H=1 if is_interpreting() else 2, strength=200.0, dtype=dtype))
    del found["log_decay"]
    bound = max(BOUNDS[dtype], 1e-4)
    assert all(error < bound for error in found.values()), found


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize(("decay", "update"), KERNELS)
def test_every_output_is_written(decay, update):
    """On NaN-poisoned memory an odd length leaves no NaN behind."""
    check(*draw(decay, update, B=2, T=37))


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize(("decay", "update", "dtype"), HALVES, ids=str)
def test_every_output_of_halves_is_written(decay, update, dtype):
    """The same in half precision."""
    check(*draw(decay, update, T=37, dtype=dtype))


@pytest.mark.parametrize(("decay", "update", "dtype"), SINGLES + HALVES, ids=str)
def test_non_contiguous_inputs(decay, update, dtype):
    """Heads-first storage of inputs, and parts with a gap after each number, give the same answer."""
    inputs, parts = draw(decay, update, T=37, dtype=dtype)
    inputs = [x.detach().transpose(1, 2).contiguous().transpose(1, 2).requires_grad_() for x in inputs]
    parts = {n: torch.stack([x.detach(), x.detach()], -1)[..., 0].requires_grad_() for n, x in parts.items()}
    check(inputs, parts)


@pytest.mark.skipif(is_interpreting(), reason="the interpreter has one order; it runs this of `test_operators`")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("decay", "update"), [*FAMILIES, ("head", "outer"), ("channel", "dplr+bonus")])
def test_same_inputs_give_the_same_bytes(decay, update, dtype):
    """No atomics: values, states and the gradients of decays, bonuses and states too repeat bit by bit."""
    inputs, parts = draw(decay, update, dtype=dtype)
    first, second = (answer(inputs, parts, backend="triton") for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(("B", "T"), [(0, 5), (2, 0)])
@pytest.mark.parametrize(("decay", "update"), FAMILIES)
def test_empty_batches_and_sequences(decay, update, B, T):
    """Nothing in, nothing out; the state and its gradient pass through; what batches share has a gradient of zero."""
    inputs, parts = draw(decay, update, B=B, T=T)
    dplr = {"dplr": tuple(inputs[3:])} if inputs[3:] else {}
    o, state = recur(*inputs[:3], **dplr, **parts, backend="triton")
    assert o.shape == (B, T, 2, 24)
    torch.testing.assert_close(state, parts["initial_state_BHKV"])
    leaves = {"q": inputs[0], **parts}
    found = dict(zip(leaves, torch.autograd.grad(o.sum() + state.sum(), leaves.values()), strict=True))
    for name, x in leaves.items():
        wanted = torch.ones_like(x) if name == "initial_state_BHKV" else torch.zeros_like(x)
        torch.testing.assert_close(found[name], wanted)
