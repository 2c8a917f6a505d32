"""How an organism is trained."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evo.dsl.genes import FIXED, Gene
from evo.dsl.schedules import ScheduleSpec
from evo.dsl.spec import DEFAULT, Kind, Spec
from evo.dsl.task import TaskSpec

Beta = Annotated[float, Field(ge=0, lt=1)]
LearningRate = Annotated[float, Field(gt=0, le=10)]


class AdamWSpec(Spec):
    """AdamW (Loshchilov & Hutter 2019)."""

    kind: ClassVar[str | None] = "adamw"

    lr: Annotated[LearningRate, Gene(1e-4, 3e-2, "scale")] = 3e-3
    """Peak learning rate."""
    beta1: Annotated[Beta, Gene(0.8, 0.98, "linear")] = 0.9
    """Decay of the first moment."""
    beta2: Annotated[Beta, Gene(0.9, 0.999, "linear")] = 0.95
    """Decay of the second moment."""
    eps: Annotated[float, Field(gt=0, le=1), FIXED] = 1e-8
    """Added to the root of the second moment."""
    weight_decay: Annotated[float, Field(ge=0, le=10), Gene(1e-3, 0.5, "scale")] = 0.1
    """Decoupled decay of matrices; never of embeddings and vectors."""


class MuonSpec(Spec):
    """Muon (Jordan et al. 2024) for matrices, AdamW for embeddings and vectors."""

    kind: ClassVar[str | None] = "muon"

    lr: Annotated[LearningRate, Gene(1e-3, 0.1, "scale")] = 2e-2
    """Peak learning rate of matrices."""
    momentum: Annotated[Beta, Gene(0.8, 0.98, "linear")] = 0.95
    """Decay of the momentum."""
    nesterov: bool = True
    """Whether the update looks ahead along the momentum."""
    steps: Annotated[int, Field(ge=1, le=20), FIXED] = 5
    """Newton-Schulz iterations."""
    weight_decay: Annotated[float, Field(ge=0, le=10), Gene(1e-3, 0.5, "scale")] = 0.1
    """Decoupled decay of matrices."""
    adamw_lr: Annotated[LearningRate, Gene(1e-4, 3e-2, "scale")] = 3e-3
    """Peak learning rate of everything else."""


class LionSpec(Spec):
    """Lion (Chen et al. 2023)."""

    kind: ClassVar[str | None] = "lion"

    lr: Annotated[LearningRate, Gene(3e-5, 1e-2, "scale")] = 5e-4
    """Peak learning rate."""
    beta1: Annotated[Beta, Gene(0.8, 0.98, "linear")] = 0.9
    """Weight of the momentum in the update."""
    beta2: Annotated[Beta, Gene(0.9, 0.999, "linear")] = 0.99
    """Decay of the momentum."""
    weight_decay: Annotated[float, Field(ge=0, le=10), Gene(1e-2, 1.0, "scale")] = 0.3
    """Decoupled decay of matrices."""


class TrainSpec(Spec):
    """One training run: what on, how long, by which rule."""

    task: Annotated[TaskSpec, Kind("task", default="bytes"), FIXED] = DEFAULT
    """What is learned, and from which text."""
    steps: Annotated[int, Field(ge=1, le=100_000_000), FIXED] = 200
    """Optimizer steps; the budget of a candidate."""
    batch: Annotated[int, Field(ge=1, le=65_536), FIXED] = 16
    """Sequences a step."""
    context: Annotated[int | None, Field(ge=1), FIXED] = None
    """Tokens a sequence; the organism's context if left out."""
    optimizer: Annotated[Spec, Kind("optimizer", default="adamw")] = DEFAULT
    """The rule that updates the weights."""
    schedule: Annotated[ScheduleSpec, Kind("schedule", default="wsd")] = DEFAULT
    """The learning rate over time."""
    clip: Annotated[float | None, Field(gt=0), Gene(0.1, 10, "scale", optional=True)] = 1.0
    """The largest norm of the whole gradient; null for no clipping."""
    precision: Annotated[Literal["auto", "fp32", "bf16"], FIXED] = "auto"
    """Arithmetic of the forward pass: `auto` is bf16 autocast on a GPU and fp32 on a CPU."""
    seed: Annotated[int, Field(ge=0, lt=2**63), FIXED] = 0
    """Seeds the initial weights and the order of the text."""
