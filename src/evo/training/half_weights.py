"""Half-precision copies of the weights of linear maps, made once a step in one launch, and maps of one input together.

Autocast casts each weight on its own, and each of its gradients back: two launches a weight, most of what is left to
launch in a small model's step. Here the gradient is written in float32 by the product itself. Queries, keys and
values, or gate and up, read one input: their copies lie side by side, and one wide product does for all of them.
Gains of channels that enter a map are folded into a copy of it, made where it is read.

Nothing in a backward pass waits for a weight's gradient. So those products run aside, on a second stream, where they
fill what the small kernels of the pass leave idle; `collect` brings them in.
"""

# pyright: reportPrivateImportUsage=false
# torch exports its foreach functions under a leading underscore only.

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.kernels.fused.channel_gains import folded, scaled_channels, unfolded
from evo.kernels.fused.project import project
from evo.kernels.grouped import Groups
from evo.kernels.packed_grad import packed
from evo.training.side_stream import SideStream

Call = tuple[Tensor, nn.Parameter]


class HalfWeights:
    """A `Project` that reads float32 parameters, where there is no bias, through copies in `dtype`.

    The first forward, up to `end_forward`, shows which weights are there and which of them read one input;
    `freeze_groups` groups them, once its backward, which may run layers again, is done. After that every forward must
    make the same calls. `refresh` renews the copies. Backward leaves the gradients of these weights to `collect`, which
    must follow it.
    """

    def __init__(self, dtype: torch.dtype, side: SideStream) -> None:
        self.dtype, self.side = dtype, side
        self._gradients: list[tuple[tuple[nn.Parameter, ...], Tensor]] = []
        self.copies: dict[Tensor, Tensor] = {}
        self._groups: dict[nn.Parameter, tuple[tuple[nn.Parameter, ...], Tensor]] = {}
        self._calls: list[Call] = []
        self._is_listening = True
        self._made: dict[nn.Parameter, tuple[Tensor, Tensor]] = {}

    @torch.no_grad()
    def refresh(self) -> None:
        """Bring every copy up to its weight."""
        if self.copies:
            torch._foreach_copy_(list(self.copies.values()), list(self.copies))

    def end_forward(self) -> None:
        """Note no more calls: what comes next is not the forward pass."""
        self._is_listening = False

    @torch.no_grad()
    def freeze_groups(self) -> None:
        """Group the weights that the first forward has shown, once."""
        self.end_forward()
        if not self._calls:
            return
        for weights in _runs(self._calls):
            sizes = [weight.shape[0] for weight in weights]
            joint = torch.empty(sum(sizes), weights[0].shape[1], dtype=self.dtype, device=weights[0].device)
            self.copies.update(zip(weights, joint.split(sizes), strict=True))
            self._groups[weights[0]] = weights, joint
        self._calls.clear()
        self.refresh()

    @torch.no_grad()
    def collect(self) -> None:
        """Wait for the gradients made aside and add them to their weights', in the order they were made."""
        self.side.wait()
        for weights, joint in self._gradients:
            for weight, gradient in zip(weights, joint.split([w.shape[0] for w in weights]), strict=True):
                weight.grad = gradient if weight.grad is None else weight.grad.add_(gradient)
        self._gradients.clear()

    def differentiate(self, weights: tuple[nn.Parameter, ...], dy_NO: Tensor, x_NI: Tensor) -> None:
        """Begin the joint gradient dy^T x of weights side by side, in float32, unless training leaves them alone."""
        if not weights[0].requires_grad:
            return
        with self.side.launch(dy_NO, x_NI):
            gradient = _wide_product(dy_NO.t(), x_NI)
        self._gradients.append((weights, gradient))

    def differentiate_folded(self, weight: nn.Parameter, gains_P: nn.Parameter, dy_NO: Tensor, x_NI: Tensor) -> None:
        """Begin the gradients of a weight and of the gains that were folded into its copy."""
        with self.side.launch(dy_NO, x_NI):
            gradients = unfolded(_wide_product(dy_NO.t(), x_NI), weight, gains_P)
        for parameter, gradient in zip((weight, gains_P), gradients, strict=True):
            if parameter.requires_grad:
                self._gradients.append(((parameter,), gradient))

    def begin(self) -> None:
        """Forget what the last forward left: before each one."""
        self._made.clear()
        self._gradients.clear()

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None = None, groups: Groups | None = None) -> Tensor:
        if not _is_read(x, weight, bias):
            return project(x, weight, bias, groups)
        assert isinstance(weight, nn.Parameter)
        if self._is_listening:
            self._calls.append((x, weight))
        if weight not in self.copies:
            return project(x, weight)
        if weight in self._made:
            source, y = self._made.pop(weight)
            if source is x:
                return y
        return self._product(x, weight)

    def folded(self, x: Tensor, weight: Tensor, gains_P: Tensor) -> Tensor:
        """See `FoldingProject`."""
        if not _is_read(x, weight) or not isinstance(gains_P, nn.Parameter):
            return project(scaled_channels(x, gains_P), weight)
        assert isinstance(weight, nn.Parameter)
        with torch.no_grad():
            copy = folded(weight, gains_P, self.dtype)
        differentiate = partial(self.differentiate_folded, weight, gains_P)
        (y,) = _Linear.apply(x, copy, differentiate, [len(weight)], weight, gains_P)  # pyright: ignore[reportGeneralTypeIssues]
        return y

    def _product(self, x: Tensor, weight: nn.Parameter) -> Tensor:
        """x W^T; those of the other weights of its group are kept for when they are asked for."""
        weights, joint = self._groups.get(weight, ((weight,), self.copies[weight]))
        sizes = [weight.shape[0] for weight in weights]
        differentiate = partial(self.differentiate, weights)
        y, *others = _Linear.apply(x, joint, differentiate, sizes, *weights)  # pyright: ignore[reportGeneralTypeIssues]
        self._made.update({other: (x, value) for other, value in zip(weights[1:], others, strict=True)})
        return y


def _is_read(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    is_float = isinstance(weight, nn.Parameter) and weight.ndim == 2 and weight.dtype == torch.float32
    return bias is None and is_float and x.ndim >= 2 and x.numel() > 0


def _wide_product(a_ON: Tensor, b_NI: Tensor) -> Tensor:
    """a b in float32, of which the CPU has no product of narrower inputs."""
    if not a_ON.is_cuda:
        return a_ON.float() @ b_NI.float()
    return torch.mm(a_ON, b_NI, out_dtype=torch.float32)


def _runs(calls: Sequence[Call]) -> list[tuple[nn.Parameter, ...]]:
    """The weights in runs of calls on one input, all trained or none. A weight that is called twice stands alone."""
    seen: dict[nn.Parameter, int] = {}
    for _, weight in calls:
        seen[weight] = seen.get(weight, 0) + 1
    runs: list[tuple[Tensor | None, list[nn.Parameter]]] = []
    for x, weight in calls:
        is_shared = seen[weight] > 1
        is_alike = runs and runs[-1][0] is x and runs[-1][1][-1].requires_grad == weight.requires_grad
        if is_alike and not is_shared:
            runs[-1][1].append(weight)
        else:
            runs.append((None if is_shared else x, [weight]))
    found = {weights[0]: tuple(weights) for _, weights in runs}
    return list(found.values())


class _Linear(torch.autograd.Function):
    """x W^T in columns of some sizes, for a copy W of `weights`; dx in x's dtype. What `differentiate` does with dy and
    x, (N, O) and (N, I) in the copy's dtype, gives the weights their gradients."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        copy: Tensor,
        differentiate: Callable[[Tensor, Tensor], None],
        sizes: Sequence[int],
        *weights: nn.Parameter,
    ) -> tuple[Tensor, ...]:
        half = x.to(copy.dtype)
        ctx.save_for_backward(half, copy)
        ctx.dtype, ctx.differentiate, ctx.weights = x.dtype, differentiate, len(weights)
        with torch.autocast(half.device.type, enabled=False):
            y = F.linear(half, copy)
        return (y,) if len(sizes) == 1 else y.split(sizes, -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        half, copy = ctx.saved_tensors
        dy_NO = packed([gradient.to(copy.dtype).flatten(0, -2) for gradient in gradients])
        # detached: what is under way aside is held for a while, and must not hold the graph of a pass with it
        ctx.differentiate(dy_NO, half.detach().flatten(0, -2))
        dx = (dy_NO @ copy).view(half.shape).to(ctx.dtype) if ctx.needs_input_grad[0] else None
        return dx, None, None, None, *[None] * ctx.weights
