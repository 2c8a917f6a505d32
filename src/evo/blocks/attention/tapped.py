"""The short convolutions of one pass through an attention."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from evo.blocks.attention.taps import TapsSpec
from evo.blocks.flow import Flow
from evo.kernels.convolution import plan as plan_convolution
from evo.kernels.convolution import short_convolution
from evo.kernels.dispatch import AUTO, KernelCall


@dataclass
class Taps:
    """Runs them, or, where `calls` is a list, notes what they would ask for.

    before: the projections at the latest W - 1 positions by name, zeros where there is none; after: the same for who
    comes next.
    """

    spec: TapsSpec | None
    before: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    calls: list[KernelCall] | None = None
    backend: str = AUTO
    after: dict[str, Tensor] = field(default_factory=dict[str, Tensor])

    def __call__(self, name: str, x_BTC: Tensor, weight_CW: Tensor | None, flow: Flow) -> Tensor:
        """The projection of that name, (B, T, C), as its taps leave it."""
        if self.spec is None or weight_CW is None:
            return x_BTC
        act = None if self.spec.act == "none" else self.spec.act
        if self.calls is not None:
            self.calls.append(plan_convolution(x_BTC, weight_CW, activation=act))
            return x_BTC
        y_BTC, self.after[name] = short_convolution(
            x_BTC,
            weight_CW,
            activation=act,
            state_BWD=self.before.get(name),
            segments_BT=flow.segments_BT,
            backend=self.backend,
        )
        return x_BTC + y_BTC if self.spec.residual else y_BTC
