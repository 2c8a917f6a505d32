"""What is noted of each slot of a pool: moving averages on the device, changed in place."""

# pyright: reportPrivateImportUsage=false
# torch exports its foreach functions under a leading underscore only.

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from evo.blocks.companion import Aside
from evo.blocks.pool.module import Pool

LATEST = 0.5
"""What the gradient of the latest look counts against those before it."""


class Vitals:
    """Moving averages, float32 (P,) each, on the pool's device.

    task_P: of (gain_p d loss / d gain_p)^2, over about `horizon` steps. The loss without slot p is, to first order, the
    loss minus what is squared here (Molchanov et al. 2017; Michel et al. 2019); a mean of squares does not vanish where
    training has brought the derivative to zero on average, and is then about the curvature's term by Fisher's
    information.
    gradient_P: of |d loss / d weights of p|^2, as the optimizer left the gradient, at the steps before looks: to read
    all gradients at every step costs more than a life is allowed to.
    """

    def __init__(self, pool: Pool, horizon: int) -> None:
        self.pool, self.share = pool, 1.0 / horizon
        self.task_P = torch.zeros(pool.slots, device=pool.gain.device)
        self.gradient_P = torch.zeros_like(self.task_P)
        self.captured: dict[str, Tensor] = {}
        """Where a captured step puts the gradients; nobody else knows where they are once it is captured."""

    @torch.no_grad()
    def look(self) -> None:
        """Take in the gradients of the last step. Nothing is read by the host."""
        gradients = _gradients(self.pool) or self.captured
        if gradients:
            squares_P, known_P = self.pool.slot_squares(gradients).float(), self.gradient_P
            known_P.copy_(torch.where(known_P == 0.0, squares_P, torch.lerp(known_P, squares_P, LATEST)))

    def rows(self) -> Tensor:
        """(P, 3) on the device: gain, task_P, gradient_P."""
        return torch.stack([self.pool.gain.detach().float(), self.task_P, self.gradient_P], dim=1)

    def tensors(self) -> dict[str, Tensor]:
        """Both averages, by name."""
        return {"task": self.task_P, "gradient": self.gradient_P}

    @torch.no_grad()
    def settle(self, slot: int) -> None:
        """A newborn in a slot that is empty yet counts as the mean of the living until it is known better."""
        alive_P = (self.pool.gain != 0.0).float()
        for values_P in self.tensors().values():
            values_P[slot].copy_((values_P * alive_P).sum() / alive_P.sum())


@torch.no_grad()
def note(vitals: Sequence[Vitals], aside: Aside) -> None:
    """Take in a step: a launch and two aside, however many pools there are. Nothing is read by the host."""
    held = [(one, one.pool.gain, one.pool.gain.grad) for one in vitals]
    felt = [(one, gain_P, gradient_P) for one, gain_P, gradient_P in held if gradient_P is not None]
    if not felt:
        return
    felt_by, gains, gradients = map(list, zip(*felt, strict=True))
    shares = [share_P.float() for share_P in torch._foreach_mul(gains, gradients)]
    with aside(*shares):
        torch._foreach_mul_(shares, shares)
        torch._foreach_lerp_([one.task_P for one in felt_by], shares, felt_by[0].share)
    if gains[0].is_cuda and torch.cuda.is_current_stream_capturing():
        for one in felt_by:
            one.captured = _gradients(one.pool)


def _gradients(pool: Pool) -> dict[str, Tensor]:
    """The gradients of a pool's weights that are in place, by path."""
    held: Mapping[str, Tensor | None] = {path: p.grad for path, p in pool.named_parameters()}
    return {path: gradient for path, gradient in held.items() if gradient is not None}
