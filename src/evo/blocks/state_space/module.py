"""State spaces that no token changes, as a mixer; equations in README.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from evo.blocks.base import Block, compute_dtype
from evo.blocks.flow import Flow, State
from evo.blocks.state_space.spec import StateSpacePlan
from evo.kernels.dispatch import KernelCall
from evo.kernels.fused import ACTS
from evo.kernels.scan import plan as plan_scan
from evo.kernels.scan import scan

TURN = 2 * torch.pi


@dataclass(frozen=True)
class StateSpaceState(State):
    """h, its real parts and then its imaginary ones, (B, 2 R N), float32 or wider."""

    memory_BX: Tensor


class StateSpace(Block):
    """o(act(Re(C h) + D x)), perhaps gated by a map of the same, or without o."""

    rate: nn.Parameter
    frequency: nn.Parameter
    skip: nn.Parameter
    c: nn.Parameter
    o: nn.Parameter | None
    b: nn.Parameter | None
    gain: nn.Parameter | None
    step: nn.Parameter | None
    gate: nn.Parameter | None

    def __init__(self, plan: StateSpacePlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.plan = plan

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self.extend(x_BTD, self.initial_state(x_BTD.shape[0], x_BTD.device, x_BTD.dtype), flow)[0]

    def problems(self, x_BTD: Tensor, flow: Flow) -> list[KernelCall]:
        """The scan of a parallel pass."""
        wide_BTX = x_BTD.new_empty(*x_BTD.shape[:2], 2 * self.plan.rows * self.plan.state, dtype=compute_dtype(x_BTD))
        return [plan_scan(wide_BTX, wide_BTX)]

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> StateSpaceState:
        """Zeros, as before the first token."""
        kept = torch.promote_types(dtype, torch.float32)
        return StateSpaceState(torch.zeros(batch, 2 * self.plan.rows * self.plan.state, device=device, dtype=kept))

    def extend(self, x_BTD: Tensor, state: StateSpaceState, flow: Flow) -> tuple[Tensor, StateSpaceState]:
        """The next T positions."""
        compute = compute_dtype(x_BTD)
        log_modulus_RN, angle_RN, input_RN2 = (x.to(compute) for x in self._system(compute))
        in_BTRN2 = _times(self._input(x_BTD, flow).to(compute), input_RN2)
        turns_T = torch.arange(1, x_BTD.shape[1] + 1, device=x_BTD.device).double()
        # Whole turns are taken out in float64: at far positions float32 holds no angle.
        angle_TRN = (turns_T[:, None, None] * angle_RN.double()).remainder(TURN).to(compute)
        turn_TRN2 = torch.stack((angle_TRN.cos(), angle_TRN.sin()), dim=-1)
        g_BTX, _ = scan(
            log_modulus_RN.exp().flatten().repeat(2).expand(*x_BTD.shape[:2], -1),
            _parts(_times(in_BTRN2, _conjugate(turn_TRN2))),
            state.memory_BX,
            segments_BT=flow.segments_BT,
            backend=self.backend,
        )
        h_BTRN2 = _times(g_BTX.unflatten(-1, (2, *angle_RN.shape)).movedim(2, -1), turn_TRN2)
        y_BTD = ACTS[self.plan.act](self._read(h_BTRN2, x_BTD.dtype, flow) + self.skip.to(x_BTD.dtype) * x_BTD)
        o_BTD = y_BTD if self.o is None else flow.project(y_BTD, self.o)
        if self.gate is not None:
            o_BTD = o_BTD * flow.project(y_BTD, self.gate).sigmoid()
        return o_BTD, StateSpaceState(_parts(h_BTRN2[:, -1]))

    def _system(self, compute: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """log |lambda| and the angle of lambda, (R, N), and what inputs are multiplied by, (R, N, 2)."""
        rate_RN, frequency_RN = self.rate.to(compute).exp(), self.frequency.to(compute)
        if self.gain is not None:
            scale_RN = self.gain.to(compute).exp() * (-torch.expm1(-2 * rate_RN)).sqrt()
            return -rate_RN, frequency_RN.exp(), torch.stack((scale_RN, torch.zeros_like(scale_RN)), dim=-1)
        assert self.step is not None
        step_RN = self.step.to(compute).exp()
        step_RN = step_RN[None] if self.b is not None else step_RN[:, None]
        log_modulus_RN, angle_RN = -step_RN * rate_RN, step_RN * frequency_RN
        # (lambda - 1) / A = (lambda - 1) conj(A) / |A|², with lambda - 1 from expm1, for steps near 0.
        real_RN = torch.expm1(log_modulus_RN) * angle_RN.cos() - 2 * (angle_RN / 2).sin().square()
        moved_RN2 = torch.stack((real_RN, log_modulus_RN.exp() * angle_RN.sin()), dim=-1)
        conjugate_RN2 = torch.stack((-rate_RN, -frequency_RN), dim=-1)
        return log_modulus_RN, angle_RN, _times(moved_RN2, conjugate_RN2 / conjugate_RN2.square().sum(-1, keepdim=True))

    def _input(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """What the states take in before it is scaled, (B, T, R, N or 1, 2)."""
        if self.b is not None:
            return flow.project(x_BTD, self.b).unflatten(-1, (2, 1, -1)).movedim(2, -1)
        return torch.stack((x_BTD, torch.zeros_like(x_BTD)), dim=-1)[..., None, :]

    def _read(self, h_BTRN2: Tensor, dtype: torch.dtype, flow: Flow) -> Tensor:
        """Re(C h), (B, T, D), in the dtype of the activations."""
        if self.b is not None:
            real_BTN, imaginary_BTN = h_BTRN2[:, :, 0].unbind(-1)
            return flow.project(torch.cat((real_BTN, -imaginary_BTN), dim=-1).to(dtype), self.c)
        return (h_BTRN2 * _conjugate(self.c.to(h_BTRN2.dtype))).sum((-2, -1)).to(dtype)


def _times(a: Tensor, b: Tensor) -> Tensor:
    """The product of complex numbers, each (..., 2)."""
    (a_real, a_imaginary), (b_real, b_imaginary) = a.unbind(-1), b.unbind(-1)
    return torch.stack((a_real * b_real - a_imaginary * b_imaginary, a_real * b_imaginary + a_imaginary * b_real), -1)


def _conjugate(a: Tensor) -> Tensor:
    """Of complex numbers, each (..., 2)."""
    real, imaginary = a.unbind(-1)
    return torch.stack((real, -imaginary), dim=-1)


def _parts(x_RN2: Tensor) -> Tensor:
    """Real parts and then imaginary ones, (..., R, N, 2) -> (..., 2 R N)."""
    return x_RN2.movedim(-1, -3).flatten(-3)
