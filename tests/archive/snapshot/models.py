"""Small made-up weights and losses for the snapshot tests. Not a test itself."""

from collections.abc import Callable

import torch
from torch import Tensor

Weights = dict[str, Tensor]


def made_up(seed: int = 0, rank: int = 2, noise: float = 0.0, size: float = 1e-2) -> tuple[Weights, Weights]:
    """A base and trained weights of odd shapes: low-rank changes plus noise; unchanged, small, scalar, stacked."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    shapes = {
        "a.weight": (64, 48),
        "b.weight": (33, 65),
        "experts": (3, 32, 40),
        "norm": (48,),
        "gain": (),
        "taps": (48, 4),
    }
    base = {name: draw(*shape) for name, shape in shapes.items()} | {"frozen": draw(40, 40)}
    trained = {name: tensor.clone() for name, tensor in base.items()}
    for name in shapes:
        trained[name] += size * noise * draw(*shapes[name])
        if len(shapes[name]) >= 2:
            rows = trained[name][..., 0].numel()
            trained[name] += size * (draw(rows, rank) @ draw(rank, shapes[name][-1])).reshape(shapes[name])
    return base, trained


def distance(trained: Weights) -> Callable[[Weights], list[float]]:
    """A loss that is 1 at the trained weights and grows with the squared distance from them."""

    def evaluate(weights: Weights) -> list[float]:
        return [1.0 + sum(float((weights[name] - trained[name]).double().square().sum()) for name in trained)]

    return evaluate
