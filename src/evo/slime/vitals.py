"""What every step notes of each slot of a pool: moving averages on the device, changed in place."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from evo.blocks.pool.module import Pool


class Vitals:
    """Moving averages over about `horizon` steps, float32 (P,) each, on the pool's device.

    task_P: of (gain_p d loss / d gain_p)^2. The loss without slot p is, to first order, the loss minus what is squared
    here (Molchanov et al. 2017; Michel et al. 2019); a mean of squares does not vanish where training has brought the
    derivative to zero on average, and is then about the curvature's term by Fisher's information.
    gradient_P: of |d loss / d weights of p|^2.
    """

    def __init__(self, pool: Pool, horizon: int) -> None:
        self.pool, self.share = pool, 1.0 / horizon
        self.task_P = torch.zeros(pool.slots, device=pool.gain.device)
        self.gradient_P = torch.zeros_like(self.task_P)

    @torch.no_grad()
    def note(self) -> None:
        """Take in the gradients of a step. Nothing is read by the host."""
        gradient_P = self.pool.gain.grad
        if gradient_P is None:
            return
        gradients: Mapping[str, Tensor] = {
            path: p.grad for path, p in self.pool.named_parameters() if p.grad is not None
        }
        self.task_P.lerp_((self.pool.gain * gradient_P).square(), self.share)
        self.gradient_P.lerp_(self.pool.slot_squares(gradients), self.share)

    def tensors(self) -> dict[str, Tensor]:
        """What `note` changes, by name."""
        return {"task": self.task_P, "gradient": self.gradient_P}

    @torch.no_grad()
    def settle(self, slot: int, living: list[int]) -> None:
        """A newborn in a slot counts as the mean of the living until it is known better."""
        for values_P in self.tensors().values():
            values_P[slot] = values_P[living].mean()
