"""Cases of a benchmark that are small enough for any machine: products of two tensors, right and wrong."""

import time
from collections.abc import Callable

import torch
from torch import Tensor

from evo.bench.kernels_cases import Call, Case


def pairs(B: int, T: int, H: int) -> list[Tensor]:
    """Two inputs (B, T, H)."""
    return [torch.randn(B, T, H), torch.randn(B, T, H)]


def product(x: Tensor, y: Tensor) -> Tensor:
    """The definition."""
    return x * y


def case(ours: Call = product, peer: Callable[[], Call] = lambda: product, name: str = "product") -> Case:
    """`ours` beside `peer()`, and checked against the product."""
    return Case(name, (2, 7, 3), "theirs", pairs, ours, product, peer)


def with_gradients(of_x: Callable[[Tensor], Tensor], of_y: Callable[[Tensor], Tensor]) -> Call:
    """A product of the right value, whose right gradients are passed through these."""

    class Product(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, y):
            ctx.save_for_backward(x, y)
            return x * y

        @staticmethod
        def backward(ctx, *gradients):
            x, y = ctx.saved_tensors
            return of_x(gradients[0] * y), of_y(gradients[0] * x)

    return lambda x, y: Product.apply(x, y)


def raising(failure: Exception) -> Callable[..., Tensor]:
    """A call that only raises."""

    def refuse(*_: object) -> Tensor:
        raise failure

    return refuse


def compiled(name: str, who: str) -> float:
    """Stands for a compilation: one that never ends, one that fails, others that are done at once."""
    if (name, who) == ("slow", "peer"):
        time.sleep(600)
    if name == "bad":
        raise ValueError("no such tile")
    return 0.0
