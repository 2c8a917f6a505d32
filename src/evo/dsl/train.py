"""How an organism is trained."""

from typing import Annotated, Literal

from pydantic import Field

from evo.dsl.budget import BudgetSpec
from evo.dsl.genes import FIXED, Gene
from evo.dsl.life import LifeSpec
from evo.dsl.rates import RatesSpec
from evo.dsl.schedules import ScheduleSpec
from evo.dsl.spec import DEFAULT, RoleOf, Spec
from evo.dsl.task import TaskSpec

Rate = Annotated[float, Field(ge=0, lt=1), Gene(0, 0.3, "linear")]


class DropoutSpec(Spec):
    """How likely a value becomes 0 in a training step, where it stands (Srivastava et al. 2014)."""

    attention: Rate = 0.0
    """A probability of an attention, after the softmax."""
    residual: Rate = 0.0
    """A channel of what a block adds to the residual stream."""
    embedding: Rate = 0.0
    """A channel of what enters the first stage."""

    block: Rate = 0.0
    """All that a block adds to the residual stream of a sequence (stochastic depth, Huang et al. 1603.09382; with one
    block a layer, LayerDrop, Fan et al. 1909.11556)."""

    def rates(self) -> dict[str, float]:
        """Those above 0, by place."""
        found = {name: getattr(self, name) for name in ("attention", "residual", "embedding", "block")}
        return {place: rate for place, rate in found.items() if rate}


class TrainSpec(Spec):
    """One training run: what on, how long, by which rule."""

    task: Annotated[TaskSpec, RoleOf("task", default="bytes"), FIXED] = DEFAULT
    """What is learned, and from which text."""
    steps: Annotated[int, Field(ge=1, le=100_000_000), FIXED] = 200
    """Optimizer steps, where no budget is given. A search gives every candidate the FLOPs that they cost its seed."""
    budget: Annotated[BudgetSpec | None, RoleOf("budget"), FIXED] = None
    """How much it is trained in another unit than steps; a search gives every candidate as much."""
    batch: Annotated[int, Field(ge=1, le=65_536), FIXED] = 16
    """Sequences a step."""
    context: Annotated[int | None, Field(ge=1), FIXED] = None
    """Tokens a sequence; the organism's context if left out."""
    optimizer: Annotated[Spec, RoleOf("optimizer", default="adamw")] = DEFAULT
    """The rule that updates the weights."""
    rates: Annotated[RatesSpec | None, RoleOf("rates"), FIXED] = None
    """How the learning rates of weights follow their widths; all alike if left out."""
    schedule: Annotated[ScheduleSpec, RoleOf("schedule", default="wsd")] = DEFAULT
    """The learning rate over time."""
    clip: Annotated[float | None, Field(gt=0), Gene(0.1, 10, "scale", optional=True)] = 1.0
    """The largest norm of the whole gradient; null for no clipping."""
    life: Annotated[LifeSpec | None, RoleOf("life")] = None
    """What lives beside the steps: how pools of pseudopods are born and die; nothing if left out."""
    dropout: DropoutSpec | None = None
    """What training drops; nothing if left out. Nothing is ever dropped where a model is scored or probed."""
    precision: Annotated[Literal["auto", "fp32", "bf16"], FIXED] = "auto"
    """Arithmetic of the forward pass: `auto` is bf16 autocast on a GPU and fp32 on a CPU."""
    activation_checkpointing: Annotated[bool, FIXED] = False
    """Whether the backward pass computes each layer again, so that only the residual stream between layers is kept.
    That costs a forward pass a step, which no budget counts; losses and gradients are the same."""
    seed: Annotated[int, Field(ge=0, lt=2**63), FIXED] = 0
    """Seeds the initial weights and the order of the text."""
