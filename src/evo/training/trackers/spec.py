"""What may follow a training beside metrics.jsonl."""

from typing import Annotated, ClassVar

from pydantic import Field

from evo.dsl.tracker import TrackerSpec

Name = Annotated[str, Field(min_length=1, max_length=128)]


class TensorBoardSpec(TrackerSpec):
    """Event files in the folder of the checkpoint, for `tensorboard --logdir`."""

    kind: ClassVar[str | None] = "tensorboard"
    builder: ClassVar[str] = "evo.training.trackers.tensorboard:begin"
    package: ClassVar[str] = "tensorboard"


class WandbSpec(TrackerSpec):
    """A run of Weights & Biases, with the document as its settings; its own environment says where that is kept."""

    kind: ClassVar[str | None] = "wandb"
    builder: ClassVar[str] = "evo.training.trackers.wandb:begin"
    package: ClassVar[str] = "wandb"

    project: Name = "evo"
    """The project that the run belongs to."""


class MlflowSpec(TrackerSpec):
    """A run of MLflow, with the document as an artifact; its own environment says where that is kept."""

    kind: ClassVar[str | None] = "mlflow"
    builder: ClassVar[str] = "evo.training.trackers.mlflow:begin"
    package: ClassVar[str] = "mlflow"

    experiment: Name = "evo"
    """The experiment that the run belongs to."""


class OpenTelemetrySpec(TrackerSpec):
    """Gauges of what is measured and a span of the training, to the providers of the process, which
    `opentelemetry-instrument` sets."""

    kind: ClassVar[str | None] = "opentelemetry"
    builder: ClassVar[str] = "evo.training.trackers.opentelemetry:begin"
    package: ClassVar[str] = "opentelemetry-sdk"
