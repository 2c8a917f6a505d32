"""Decays per channel in Triton, whose chunks go one of two ways: one matmul, or by halves where it would overflow.

On a CUDA device: `pytest -m gpu tests/kernels`.
Under the interpreter: `TRITON_INTERPRET=1 pytest tests/kernels -k triton`.
"""

import pytest
import torch
from tests.kernels.device import DEVICE, RUNS_KERNELS
from tests.kernels.recurrence.checks import BOUNDS, answer, widened
from torch.nn.functional import normalize

from evo.kernels.triton_support import is_interpreting

pytestmark = RUNS_KERNELS
# The interpreter's bfloat16 is wrong, its float16 is not.
DTYPES = [torch.float32, torch.float16] + ([] if is_interpreting() else [torch.bfloat16])
HEADS = [(16, 24)] if is_interpreting() else [(16, 24), (64, 64), (128, 128)]
BATCH, TIME, MANY = (1, 70, 1) if is_interpreting() else (2, 333, 2)


def decays(kind, uniform, normal):
    """Log decays (BATCH, TIME, MANY, K). A chunk of 64 that decays below 2^-100 in any channel is made by halves."""
    if kind == "mild":
        return -0.2 * uniform
    if kind == "some chunks strong":
        strong = torch.arange(TIME) // 32 % 3 == 1
        return torch.where(strong[:, None, None], -8.0, -0.2) * uniform
    if kind == "some channels strong":
        return -torch.exp(normal - 1.5 + 3.0 * (uniform[:1, :1] < 0.1))
    if kind == "rare borders":
        return torch.where(uniform[..., :1] < 0.03, -90.0, -0.2 * uniform)
    return torch.zeros_like(uniform)


def draw(kind, K, V, dtype, bonus):
    stream = torch.Generator().manual_seed(K + len(kind))
    normal = lambda *shape: torch.randn(*shape, generator=stream)  # noqa: E731
    shape = (BATCH, TIME, MANY, K)
    inputs = [normal(*shape), normalize(normal(*shape), dim=-1), normal(*shape[:3], V)]
    parts = {"log_decay": decays(kind, torch.rand(*shape, generator=stream), normal(*shape))}
    parts["initial_state_BHKV"] = normal(BATCH, MANY, K, V)
    if bonus:
        parts["bonus_HK"] = normal(MANY, K)
    inputs = [x.to(DEVICE, dtype).requires_grad_() for x in inputs]
    return inputs, {name: x.to(DEVICE).requires_grad_() for name, x in parts.items()}


KINDS = ["none", "mild", "some chunks strong", "some channels strong", "rare borders"]


@pytest.mark.parametrize("bonus", [False, True], ids=["outer", "bonus"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("K", "V"), HEADS)
@pytest.mark.parametrize("kind", KINDS)
def test_values_and_gradients(kind, K, V, dtype, bonus):
    """Against float64, with chunks on either way and on both in one sequence; narrow heads once had a wrong dq."""
    inputs, parts = draw(kind, K, V, dtype, bonus)
    expected = answer(*widened(inputs, parts), backend="chunked")
    names = ["o", "state", "dq", "dk", "dv", *parts]
    found = dict(zip(names, answer(inputs, parts, backend="triton"), strict=True))
    errors = {
        name: ((found[name].double() - exact).norm() / exact.norm()).item()
        for name, exact in zip(names, expected, strict=True)
    }
    assert all(error < BOUNDS[dtype] for error in errors.values()), errors


def test_both_ways_are_taken():
    """The decays above do what they are for: some chunks are in range and some are not."""
    from evo.kernels.recurrence.triton.channel import LOG2_RANGE
    from evo.kernels.recurrence.triton.channel_operator import recur_channel

    shares = {}
    for kind in KINDS:
        (q, k, v), parts = draw(kind, 16, 24 if is_interpreting() else 16, torch.float32, False)
        worst = recur_channel(q, k, v, parts["log_decay"], None, None, 1.0)[-1]
        shares[kind] = (worst < -LOG2_RANGE.value).float().mean().item()
    assert shares["none"] == shares["mild"] == 0.0, shares
    assert all(0.0 < shares[kind] < 1.0 for kind in KINDS[2:]), shares


@pytest.mark.parametrize("kind", ["mild", "some chunks strong"])
def test_same_inputs_give_the_same_bytes(kind):
    """No atomics: values and gradients repeat bit by bit."""
    inputs, parts = draw(kind, 16, 24, torch.float32, True)
    first, second = (answer(inputs, parts, backend="triton") for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
