"""Kernels as custom operators where something traces, and as plain functions where nothing does.

torch.compile needs an operator with a fake implementation. Its dispatch costs the host about as much as the launches
inside it, which on short sequences is what a step waits for; so eager calls, CUDA-graph capture included, go round it.
torch.func transforms (`vmap`, `grad`) get an autograd function with a rule for them, which eager calls do not pay for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack
from torch.autograd.function import once_differentiable

from evo.kernels.members import Folds, no_folds, over_members

PLAIN = (Tensor, nn.Parameter)

_inlining: ContextVar[bool] = ContextVar("inlining", default=False)

in_transform: Callable[[], bool] = torch._C._are_functorch_transforms_active
"""Whether a transform of torch.func runs, so that tensors may stand for those of many members."""


class Operator:
    """`run` as the operator `evo::name`, which is `traced`. Calls give all arguments of the schema, by position.

    folds: how a call for many members of a population is one call (`members`); without any it is one call a member.
    """

    def __init__(self, name: str, run: Callable[..., Any], folds: Folds = no_folds) -> None:
        self.run, self.folds = run, folds
        self.traced = torch.library.custom_op(f"evo::{name}", run, mutates_args=())
        self.traced.register_vmap(self._over_members)
        self._function: Any = None
        self._transformed: Any = self._function_for_transforms(_once_only, _save_nothing)

    def register_fake(self, fake: Callable[..., Any]) -> Callable[..., Any]:
        """What `torch.library.register_fake` does."""
        return self.traced.register_fake(fake)

    def register_autograd(self, backward: Callable[..., Any], *, setup_context: Callable[..., None]) -> None:
        """What `torch.library.register_autograd` does. Second derivatives raise."""
        self.traced.register_autograd(backward, setup_context=setup_context)
        run, once = self.run, once_differentiable(backward)

        class Function(torch.autograd.Function):
            """In one piece: torch binds the arguments of a separate `setup_context` by name, at 10 us a call."""

            @staticmethod
            def forward(ctx: Any, *inputs: Any) -> Any:
                output = run(*inputs)
                setup_context(ctx, inputs, output)
                return output

            backward: Any = staticmethod(once)

        self._function = Function
        self._transformed = self._function_for_transforms(backward, setup_context)

    def __call__(self, *inputs: Any) -> Any:
        if is_inlining():
            return self.run(*inputs)
        if is_traced(inputs):
            return self.traced(*inputs)
        if in_transform():
            return self._transformed.apply(*inputs)
        if self._function is None or not torch.is_grad_enabled():
            return self.run(*inputs)
        return self._function.apply(*inputs)

    def _over_members(self, info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[Any, Any]:
        """The rule for `vmap`."""
        return over_members(self, self.folds, info.batch_size, in_dims, inputs)

    def _function_for_transforms(self, back: Callable[..., Any], save: Callable[..., None]) -> Any:
        """The autograd function in the parts that torch.func asks for."""

        class Transformed(torch.autograd.Function):
            forward: Any = staticmethod(self.run)
            setup_context: Any = staticmethod(save)
            backward: Any = staticmethod(back)
            vmap: Any = staticmethod(self._over_members)

        return Transformed


def operator(name: str, folds: Folds = no_folds) -> Callable[[Callable[..., Any]], Operator]:
    """Decorator: the function, annotated as `torch.library.custom_op` asks, as an `Operator`."""

    def made(run: Callable[..., Any]) -> Operator:
        return Operator(name, run, folds)

    return made


def is_traced(inputs: tuple[Any, ...]) -> bool:
    """Whether torch.compile runs, or a tensor stands for another, as fake tensors do."""
    return torch.compiler.is_compiling() or any(isinstance(x, Tensor) and type(x) not in PLAIN for x in inputs)


def needs_grad(*tensors: Tensor | None) -> bool:
    """Whether a backward may follow a call on these. A tensor inside a transform need not know that it may."""
    if not torch.is_grad_enabled():
        return False
    return in_transform() or any(x is not None and x.requires_grad for x in tensors)


def is_inlining() -> bool:
    """Whether a trace goes through operators. torch.compile never does, and cannot read the variable."""
    return not torch.compiler.is_dynamo_compiling() and _inlining.get()


@contextmanager
def inlined() -> Iterator[None]:
    """A block in which a trace goes through operators, so that what it records needs none of them."""
    token = _inlining.set(True)
    try:
        yield
    finally:
        _inlining.reset(token)


@contextmanager
def lasting_tensors() -> Iterator[None]:
    """A block whose new tensors may be kept: neither inference mode nor a transform marks them as its own."""
    with temporarily_clear_interpreter_stack(), torch.inference_mode(False):
        yield


def _save_nothing(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    pass


def _once_only(ctx: Any, *gradients: Any) -> None:
    raise RuntimeError("the gradients of a kernel have no gradients of their own (as once_differentiable)")
