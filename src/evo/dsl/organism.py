"""The organism: a graph of stages over named mixers."""

from typing import Annotated, ClassVar

from pydantic import Field

from evo.dsl.genes import FIXED, Gene
from evo.dsl.spec import DEFAULT, AsTuple, Kind, Many, Names, Spec, Table

NAME = r"^[A-Za-z_][A-Za-z0-9_-]*$"
Name = Annotated[str, Field(pattern=NAME, max_length=64)]


class StageSpec(Spec):
    """A named, repeated run of blocks. Reads the stage before it, or the stages named by `from`, added up."""

    kind: ClassVar[str | None] = "blocks"

    name: Annotated[Name, FIXED]
    """The stage's name: what `from` refers to and what its weights are called."""
    from_: Annotated[Annotated[tuple[Name, ...], Field(min_length=1)] | None, AsTuple, Many(bare=True), FIXED] = None
    """The stages this one reads (`embedding` is the input). Several are summed, each scaled by learned gains."""
    repeat: Annotated[int, Field(ge=1, le=512), Gene(1, 12, "+1")] = 1
    """How many layers: each is a mixer and a feed-forward."""
    mix: Annotated[tuple[Name | Spec, ...], AsTuple, Many(bare=True), Kind("mixer"), Names(), Field(min_length=1)]
    """The mixer of its layers, or a list that cycles over the repeats. Text names an entry of `pseudopods`."""
    ffn: Annotated[tuple[Spec, ...], AsTuple, Many(bare=True), Kind("ffn", default="gated"), Field(min_length=1)] = (
        DEFAULT
    )
    """The feed-forward of its layers, or a list that cycles over the repeats."""
    norm: Annotated[Spec | None, Kind("norm")] = None
    """Overrides the organism's norm."""
    position: Annotated[Spec | None, Kind("position")] = None
    """Overrides the organism's position encoding."""
    share: bool = False
    """Whether the repeats share one set of weights (one set for each entry of a cycling list)."""


class ReadoutSpec(Spec):
    """From the last stage to logits."""

    tie: bool = True
    """Whether the readout uses the embedding's weights."""
    soft_cap: Annotated[float | None, Field(gt=0), Gene(5, 50, "scale", optional=True)] = None
    """Bounds logits to ±cap by `cap * tanh(logits / cap)` (Gemma 2)."""


class OrganismSpec(Spec):
    """One whole model."""

    width: Annotated[int, Field(ge=1, le=32768), Gene(32, 1024, "scale", multiple=16)]
    """The width of the residual stream."""
    vocab: Annotated[int, Field(ge=2, le=1_000_000), FIXED] = 256
    """The number of symbols; 256 for bytes."""
    context: Annotated[int, Field(ge=1, le=10_000_000), FIXED] = 256
    """The longest sequence the model is made for, in tokens."""
    position: Annotated[Spec, Kind("position", default="rope")] = DEFAULT
    """How order enters; a stage or an attention may override it."""
    norm: Annotated[Spec, Kind("norm", default="rms")] = DEFAULT
    """The normalisation of every block and before the readout; a stage may override it."""
    pseudopods: Annotated[dict[Name, Spec], Table(), Kind("mixer")] = Field(default_factory=dict[str, Spec])
    """Named mixers, used by the stages."""
    stages: Annotated[tuple[Spec, ...], AsTuple, Many(), Kind("stage"), Field(min_length=1, max_length=256)]
    """The graph, in order; the last stage is read out."""
    readout: ReadoutSpec = Field(default_factory=ReadoutSpec)
    """From the last stage to logits."""
