"""An optimizer's step as the end of a device step: fused over all groups where the rules can, else as it is."""

from __future__ import annotations

import torch
from torch import Tensor

from evo.training.optimizer import Optimizer


class DeviceUpdate:
    """The clipped step of an optimizer, nothing of which is read by the host.

    copies: half-precision copies by parameter, which a step renews if `renews_copies`.
    """

    def __init__(self, optimizer: Optimizer, copies: dict[Tensor, Tensor] | None = None) -> None:
        self.optimizer, self.copies = optimizer, copies
        self.parameters: list[Tensor] = [p for group in optimizer.groups for p in group.parameters]
        self.fused = optimizer.fuse()

    def apply(self, scale: Tensor) -> None:
        """Clip and update by each parameter's `.grad`, at `scale` (a scalar tensor) times the peak rates."""
        if any(p.grad is None for p in self.parameters):
            self.fused = None
        if self.fused is None:
            self.optimizer.step(scale)
            return
        if not torch.cuda.is_current_stream_capturing():
            self.find_gradients()
        self.fused.launch(self.optimizer.peak_G * scale)

    def find_gradients(self) -> None:
        """Look up where the gradients lie: before every step, or once after a capture."""
        if self.fused is not None:
            self.fused.point_at([p.grad for p in self.parameters if p.grad is not None], self.copies)

    def let_go(self) -> None:
        """Hold no gradient, until the next backward pass makes them anew."""
        for parameter in self.parameters:
            parameter.grad = None
        if self.fused is not None:
            self.fused.let_go()

    def gradient_norm(self) -> Tensor | None:
        """Of all gradients at the last step, before they were clipped; None where nothing is clipped."""
        return self.optimizer.gradient_norm if self.fused is None else self.fused.gradient_norm()

    @property
    def renews_copies(self) -> bool:
        """Whether `apply` writes the copies too."""
        return self.fused is not None

    def state(self) -> list[Tensor]:
        """Every tensor that a step changes, parameters included."""
        return self.optimizer.tensors()
