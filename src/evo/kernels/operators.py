"""Kernels as custom operators where something traces, and as plain functions where nothing does.

torch.compile needs an operator with a fake implementation. Its dispatch costs the host about as much as the launches
inside it, which on short sequences is what a step waits for; so eager calls, CUDA-graph capture included, go round it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

PLAIN = (Tensor, nn.Parameter)


class Operator:
    """`run` as the operator `evo::name`, which is `traced`. Calls give all arguments of the schema, by position."""

    def __init__(self, name: str, run: Callable[..., Any]) -> None:
        self.run = run
        self.traced = torch.library.custom_op(f"evo::{name}", run, mutates_args=())
        self._function: Any = None

    def register_fake(self, fake: Callable[..., Any]) -> Callable[..., Any]:
        """What `torch.library.register_fake` does."""
        return self.traced.register_fake(fake)

    def register_autograd(self, backward: Callable[..., Any], *, setup_context: Callable[..., None]) -> None:
        """What `torch.library.register_autograd` does. Second derivatives raise."""
        self.traced.register_autograd(backward, setup_context=setup_context)
        run, once = self.run, once_differentiable(backward)

        class Function(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, *inputs: Any) -> Any:
                output = run(*inputs)
                setup_context(ctx, inputs, output)
                return output

            backward: Any = staticmethod(once)

        self._function = Function

    def __call__(self, *inputs: Any) -> Any:
        if is_traced(inputs):
            return self.traced(*inputs)
        if self._function is None or not torch.is_grad_enabled():
            return self.run(*inputs)
        return self._function.apply(*inputs)


def operator(name: str) -> Callable[[Callable[..., Any]], Operator]:
    """Decorator: the function, annotated as `torch.library.custom_op` asks, as an `Operator`."""

    def made(run: Callable[..., Any]) -> Operator:
        return Operator(name, run)

    return made


def is_traced(inputs: tuple[Any, ...]) -> bool:
    """Whether torch.compile runs, or a tensor stands for another, as fake tensors do."""
    return torch.compiler.is_compiling() or any(isinstance(x, Tensor) and type(x) not in PLAIN for x in inputs)
