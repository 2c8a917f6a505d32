"""How a model learns: an optimizer whose step may be captured, one whose host reads, and a schedule."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from evo.blocks.companion import Aside, Companion, Event, Surroundings, in_turn
from evo.dsl.budget import BudgetSpec
from evo.dsl.genes import FIXED, Gene
from evo.dsl.life import LifeSpec
from evo.dsl.plan import Weight
from evo.dsl.rates import RatesSpec, Step
from evo.dsl.schedules import ScheduleSpec
from evo.dsl.tracker import TrackerSpec
from evo.optimizers.rule import Rule, State
from evo.optimizers.spec import OptimizerSpec
from evo.training.trackers.base import Tracked


@dataclass(frozen=True)
class SignDescent(Rule):
    """p = p - lr sign(g); on the device alone, unless `reads` has the host look at the rate."""

    reads: bool = False

    def init(self, parameter: Tensor) -> State:
        """Nothing but a count."""
        return {"count": torch.zeros((), device=parameter.device)}

    def step(self, parameters: list[Tensor], gradients: list[Tensor], states: list[State], lr: Tensor | float) -> None:
        """One by one."""
        for parameter, gradient, state in zip(parameters, gradients, states, strict=True):
            parameter.sub_(gradient.sign() * (float(lr) if self.reads else lr))
            state["count"] += 1


class SignSpec(OptimizerSpec):
    """The optimizer of another package."""

    kind: ClassVar[str | None] = "sign"

    lr: Annotated[float, Field(gt=0), Gene(1e-5, 1e-1, "scale")] = 1e-3
    """The peak learning rate."""
    reads: bool = False
    """Whether the host looks at the rate."""
    forgets: bool = False
    """Leaves a weight out."""

    def assign(self, weights: Mapping[str, Weight]) -> Mapping[str, Rule]:
        """One group."""
        return dict.fromkeys(list(weights)[int(self.forgets) :], SignDescent(self.lr, self.reads))


class BreathSpec(LifeSpec):
    """The life of another package."""

    kind: ClassVar[str | None] = "breath"
    builder: ClassVar[str] = "strangers.training:Breath"

    depth: Annotated[float, Field(gt=0), Gene(0.1, 10, "scale")] = 1.0
    """How much of each loss is taken in."""


class Breath(Companion):
    """Sums up losses, and changes nothing."""

    every = 1

    def __init__(self, spec: BreathSpec, around: Surroundings) -> None:
        self.spec = spec
        self.air = torch.zeros((), device=next(around.model.parameters()).device)

    def note(self, loss: Tensor, aside: Aside = in_turn) -> None:
        """Breathe in."""
        with aside(loss):
            self.air.add_(loss, alpha=self.spec.depth)

    def tensors(self) -> list[Tensor]:
        """The air."""
        return [self.air]

    def between(self, step: int) -> list[Event]:
        """Tell."""
        return [{"step": step, "event": "breath", "air": float(self.air)}]

    def state_dict(self) -> dict[str, Tensor]:
        """The air."""
        return {"air": self.air}

    def load_state_dict(self, saved: Mapping[str, Tensor]) -> None:
        """Go on."""
        self.air.copy_(saved["air"])

    def figures(self) -> dict[str, float]:
        """The air."""
        return {"air": float(self.air)}


class LateSchedule(ScheduleSpec):
    """Half the rate, and all of it at the end."""

    kind: ClassVar[str | None] = "late"

    late: Annotated[float, Field(ge=0, le=1), Gene(0.1, 0.9, "linear")] = 0.5
    """The share of the steps at the full rate."""

    def scale(self, step: int, steps: int) -> float:
        """See `ScheduleSpec.scale`."""
        return 1.0 if step >= steps - self.late * steps else 0.5


class RootRates(RatesSpec):
    """By the root of the width."""

    kind: ClassVar[str | None] = "root"

    def of_map(self, rows: int, columns: int, width: int, step: Step) -> float:
        """See `RatesSpec.of_map`."""
        return (self.base / width) ** 0.5


class KilotokensBudget(BudgetSpec):
    """Thousands of tokens."""

    kind: ClassVar[str | None] = "kilotokens"
    unit: ClassVar[str] = "thousand tokens"

    kilotokens: Annotated[float, Field(gt=0), FIXED]

    @property
    def amount(self) -> float:
        """How many."""
        return self.kilotokens

    def of_step(self, flops: float, tokens: int) -> float:
        """Its tokens."""
        return tokens / 1000


class ListedTracker(TrackerSpec):
    """Keeps what it is told."""

    kind: ClassVar[str | None] = "listed"
    builder: ClassVar[str] = "strangers.training:Listed"


class Listed:
    """A tracker whose notes a test reads."""

    told: ClassVar[list[tuple[int, dict[str, float]]]] = []
    ends: ClassVar[list[str]] = []

    def __init__(self, spec: ListedTracker, tracked: Tracked) -> None:
        del spec
        self.name = tracked.name

    def note(self, step: int, values: Mapping[str, float]) -> None:
        """Keep it."""
        self.told.append((step, dict(values)))

    def close(self) -> None:
        """Keep that too."""
        self.ends.append(self.name)
