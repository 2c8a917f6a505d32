"""A model with every weight moved for a while, and a model that is put back as it was."""

# pyright: reportPrivateImportUsage=false, reportPrivateUsage=false
# torch exports its foreach functions under a leading underscore only.

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
def differentiable(weight: Tensor) -> Iterator[None]:
    """Let gradients be asked of a weight that training leaves alone."""
    was_trained = weight.requires_grad
    weight.requires_grad_(True)
    try:
        yield
    finally:
        weight.requires_grad_(was_trained)


@contextmanager
def moved(model: Organism, stream: Stream) -> Iterator[None]:
    """Every weight moved by a share of its tensor's root mean square, zeros replaced by draws of that size.

    The draws are made on the model's own device.
    """
    parameters = list(model.parameters())
    sizes, shapes = [parameter.numel() for parameter in parameters], [parameter.shape for parameter in parameters]
    before_N = torch.cat([parameter.detach().flatten() for parameter in parameters])
    generator = torch.Generator(before_N.device).manual_seed(stream.integer())
    draws_N = torch.randn(before_N.shape, generator=generator, device=before_N.device).to(before_N.dtype)
    moved_N = before_N + draws_N * _move_sizes(before_N, parameters)
    try:
        _put_back(_pairs(parameters, moved_N, sizes, shapes))
        yield
    finally:
        _put_back(_pairs(parameters, before_N, sizes, shapes))


def _move_sizes(before_N: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """By how much each number moves. A tensor of nothing but zeros gets what a linear map or a gain starts with.

    before_N: the numbers of all parameters in one row, which a GPU goes through in a few launches.
    """
    with torch.no_grad():
        norms = torch.stack(torch._foreach_norm(list(parameters)))
    counts = norms.new_tensor([float(max(1, parameter.numel())) for parameter in parameters])
    starts = norms.new_tensor([p.shape[-1] ** -0.5 if p.ndim > 1 else 0.5 for p in parameters])
    rms = torch.where(norms == 0, starts, norms * counts.rsqrt())
    repeats = torch.tensor([parameter.numel() for parameter in parameters], device=before_N.device)
    size_N = rms.to(before_N.dtype).repeat_interleave(repeats, output_size=len(before_N))
    return torch.where(before_N == 0, size_N, MOVE * size_N)


def _pairs(
    parameters: Sequence[Tensor], values_N: Tensor, sizes: list[int], shapes: list[torch.Size]
) -> list[tuple[Tensor, Tensor]]:
    rows = values_N.split(sizes)
    return [(p.detach(), row.view(shape)) for p, row, shape in zip(parameters, rows, shapes, strict=True)]


@torch.no_grad()
def _put_back(saved: Sequence[tuple[Tensor, Tensor]]) -> None:
    if saved:
        torch._foreach_copy_([tensor for tensor, _ in saved], [value for _, value in saved])
