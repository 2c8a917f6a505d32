"""A model with every weight moved for a while, and a model that is put back as it was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from evo.base.streams import Stream
from evo.compiler.organism import Organism

MOVE = 0.25
"""By how much weights that are not zero are moved, relative to their root mean square."""


@contextmanager
def untouched(model: Organism) -> Iterator[None]:
    """Put mode, buffers and torch's generators back at the end."""
    device, was_training = model.embedding.weight.device, model.training
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.enable_grad():
        try:
            yield
        finally:
            model.train(was_training)
            _put_back(buffers)


@contextmanager
def moved(model: Organism, stream: Stream) -> Iterator[None]:
    """Every weight moved by a share of its tensor's root mean square, zeros replaced by draws of that size.

    The draws are made on the model's own device.
    """
    before = [(parameter, parameter.detach().clone()) for parameter in model.parameters()]
    device = model.embedding.weight.device
    generator = torch.Generator(device).manual_seed(stream.integer())
    try:
        with torch.no_grad():
            for parameter, _ in before:
                draws = torch.randn(parameter.shape, generator=generator, device=device)
                parameter.add_(draws.to(parameter.dtype) * _move_sizes(parameter))
        yield
    finally:
        _put_back(before)


def _move_sizes(weight: Tensor) -> Tensor:
    """By how much each number moves. A tensor of nothing but zeros gets what a linear map or a gain starts with."""
    is_zero = weight == 0
    count = (~is_zero).sum()
    fallback = weight.shape[-1] ** -0.5 if weight.ndim > 1 else 0.5
    rms = (weight.square().sum() / count.clamp_min(1)).sqrt()
    size = torch.where(count == 0, torch.full_like(rms, fallback), rms)
    return torch.where(is_zero, size, MOVE * size)


@torch.no_grad()
def _put_back(saved: Sequence[tuple[Tensor, Tensor]]) -> None:
    for tensor, value in saved:
        tensor.copy_(value)
