"""What is particular to the generalised delta rule and to delta rules with a decay per channel; see also `test_triton`.

On a CUDA device: `pytest -m gpu tests/kernels`.
Under the interpreter: `TRITON_INTERPRET=1 pytest tests/kernels -k triton`.
"""

import pytest
import torch
from tests.kernels.device import RUNS_KERNELS
from tests.kernels.recurrence.checks import BOUNDS, DTYPES, check, draw, errors

from evo.kernels.recurrence import recur
from evo.kernels.triton_support import is_interpreting

pytestmark = RUNS_KERNELS


@pytest.mark.skipif(is_interpreting(), reason="too large for the interpreter")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("dim", [64, 128, 256])
@pytest.mark.parametrize(("decay", "update"), [("token", "delta"), ("channel", "delta"), ("channel", "dplr")])
def test_benchmarked_heads(decay, update, dim, dtype):
    """The head dims that the benchmark times, and the widest."""
    check(*draw(decay, update, B=1, T=200, H=3, K=dim, V=dim, dtype=dtype), exact="chunked")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("strength", [2.0, 200.0])
@pytest.mark.parametrize(("decay", "update"), [("channel", update) for update in ("delta", "dplr", "dplr+bonus")])
def test_strong_decays(decay, update, strength, dtype):
    """Chunks that decay by more than one pivot can hold are made by halves; -200 a step underflows without a NaN."""
    T, H = (37, 1) if is_interpreting() else (70, 2)
    inputs, parts = draw(decay, update, T=T, H=H, strength=strength, dtype=dtype)
    found = errors(inputs, parts)
    if strength > 100:
        del found["log_decay"]
    bound = max(BOUNDS[dtype], 1e-4)
    assert all(error < bound for error in found.values()), found


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gentle_and_strong_chunks_in_one_sequence(dtype):
    """Every chunk decides for itself: decays that grow along the sequence."""
    T, H = (79, 1) if is_interpreting() else (150, 2)
    inputs, parts = draw("channel", "dplr", T=T, H=H, dtype=dtype)
    growing = torch.linspace(0.1, 20.0, T, device=parts["log_decay"].device)[None, :, None, None]
    parts["log_decay"] = (parts["log_decay"].detach() * growing).requires_grad_()
    check(inputs, parts)


def test_a_beta_of_zero_has_a_gradient():
    """Steps that write nothing still say what writing would have done."""
    inputs, parts = draw("channel", "delta", T=20 if is_interpreting() else 40)
    del parts["log_decay"]
    with torch.no_grad():
        parts["beta_BTH"][:, ::3] = 0.0
    check(inputs, parts)


def test_without_gradients_nothing_is_kept():
    """The output does not depend on whether a backward pass will follow."""
    inputs, parts = draw("channel", "dplr")
    with torch.no_grad():
        alone, _ = recur(*inputs[:3], dplr=tuple(inputs[3:]), **parts, backend="triton")
    both, _ = recur(*inputs[:3], dplr=tuple(inputs[3:]), **parts, backend="triton")
    assert torch.equal(alone, both)
