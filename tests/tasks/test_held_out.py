"""Bits per byte do not depend on how a text is cut into tokens, and count what a target weighs."""

import math

import pytest
import torch
from torch import Tensor

from evo.tasks.base import Batch
from evo.tasks.held_out import bits_per_byte, bits_per_target

TEXT = torch.tensor([[1, 0, 3, 2, 1, 1, 0, 2, 3]])
"""Nine symbols of two bits each."""


def uniform(vocab: int):
    """A model that knows nothing."""
    return lambda tokens_BT: torch.zeros(*tokens_BT.shape, vocab)


def knowing(tokens_BT: Tensor) -> Tensor:
    """A model of five tokens with an opinion."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*tokens_BT.shape, 5, generator=generator)


def paired(symbols_1T: Tensor) -> Tensor:
    """The same text in tokens of two symbols each."""
    return symbols_1T[:, 0::2] * 4 + symbols_1T[:, 1::2]


def test_cutting_text_otherwise_changes_nothing() -> None:
    """A model that knows nothing has the same bits per byte on bytes and on pairs of bytes."""
    single = Batch(TEXT[:, :-1], TEXT[:, 1:])
    pairs = paired(TEXT[:, 1:])
    double = Batch(torch.zeros_like(pairs), pairs)
    one = bits_per_byte(uniform(4), [single], torch.ones(4, dtype=torch.int64))
    two = bits_per_byte(uniform(16), [double], torch.full((16,), 2))
    assert one == pytest.approx(2.0, rel=1e-6)
    assert two == pytest.approx(one, rel=1e-6)
    assert bits_per_target(uniform(16), [double]) == pytest.approx(4.0, rel=1e-6)


def test_tokens_of_no_bytes_are_left_out() -> None:
    """A target that stands for no byte counts neither its nats nor its bytes."""
    inputs, targets = torch.zeros(1, 4, dtype=torch.int64), torch.tensor([[4, 1, 2, 4]])
    sizes = torch.tensor([1, 1, 3, 1, 0])
    logits = knowing(inputs)[0].double().log_softmax(-1)
    expected = -float(logits[1, 1] + logits[2, 2]) / math.log(2) / 4
    assert bits_per_byte(knowing, [Batch(inputs, targets)], sizes) == pytest.approx(expected, rel=1e-6)
    assert math.isnan(bits_per_byte(knowing, [Batch(inputs, targets)], torch.zeros_like(sizes)))


def test_weights_weigh_both_sums() -> None:
    """The mean is by weight: 0 ignores a target, and equal weights are no weights."""
    inputs, targets = torch.zeros(1, 3, dtype=torch.int64), torch.tensor([[4, 1, 2]])
    other = torch.tensor([[0, 1, 2]])
    weights = torch.tensor([[0.0, 1.0, 3.0]])
    logits = knowing(inputs)[0].double().log_softmax(-1)
    expected = -float(logits[1, 1] + 3 * logits[2, 2]) / math.log(2) / 4
    found = bits_per_target(knowing, [Batch(inputs, targets, weights)])
    assert found == pytest.approx(expected, rel=1e-6)
    assert found == bits_per_target(knowing, [Batch(inputs, other, weights)])
    plain = bits_per_target(knowing, [Batch(inputs, targets)])
    assert bits_per_target(knowing, [Batch(inputs, targets, 2 * torch.ones(1, 3))]) == pytest.approx(plain, rel=1e-6)
