"""The organism: a graph of stages over named mixers."""

from collections.abc import Iterator
from functools import cache
from typing import Annotated, ClassVar

from pydantic import Field

from evo.dsl.acts import Act, Word
from evo.dsl.genes import FIXED, WIDENING, Gene
from evo.dsl.layers import Reads, StagePlan
from evo.dsl.spec import DEFAULT, AsTuple, ListOf, MapOf, RoleOf, Scope, Sources, Spec, SpecField, spec_fields

NAME = r"^[A-Za-z_][A-Za-z0-9_-]*$"
Name = Annotated[str, Field(pattern=NAME, max_length=64)]


def vectors_of(stage: str) -> str:
    """What a pass calls the vectors, (B, T, J, D), that a stage of that name gives tokens besides its output."""
    return f"vectors of {stage}"


class StageSpec(Spec):
    """A node of the graph: what every kind of stage has. Reads the stage before it, or those named by `from`."""

    called: ClassVar[str | None] = "this stage"

    name: Annotated[Name, Field(examples=["body"]), FIXED]
    """The stage's name: what `from` refers to and what its weights are called."""
    from_: Annotated[
        Annotated[tuple[Name, ...], Field(min_length=1)] | None, AsTuple, ListOf(bare=True), Sources("x"), FIXED
    ] = None
    """The stages this one reads (`embedding` is the input). Several are summed, each scaled by learned gains."""

    @property
    def depth(self) -> int:
        """How many layers write into the residual stream."""
        return 0

    @property
    def is_read_by_turn(self) -> bool:
        """Whether training reads out what it gives at each of its turns: then it is the last stage."""
        return False

    @property
    def own_norm(self) -> Spec | None:
        """What overrides the organism's norm."""
        return None

    @property
    def reads_norm(self) -> bool:
        """Whether its layers take the organism's norm, and its place."""
        return False

    @property
    def is_normed(self) -> bool:
        """Whether a norm of its own makes the organism's final norm needless."""
        return False

    @property
    def own_position(self) -> Spec | None:
        """What overrides the organism's position encoding."""
        return None

    def borrowed(self, scope: Scope) -> tuple["StageSpec", ...]:
        """The stages above that it runs with their own weights; called where its problems leave no error."""
        del scope
        return ()

    def stands(self, scope: Scope) -> bool:
        """Whether it can be planned: neither it nor a stage above that it runs has an error."""
        return all(fault.severity == "warning" for fault in self.problems(scope))

    def reads(self, before: str) -> Reads:
        """The stages that it reads, by input; as x the stage `before` it unless it names others."""
        found: list[tuple[str, tuple[str, ...]]] = []
        for slot, names in self.written_sources().items():
            if names is not None or slot == "x":
                found.append((slot, names or (before,)))
        return tuple(found)

    def written_sources(self) -> dict[str, tuple[str, ...] | None]:
        """What its fields name as each input; None for a field that is left out."""
        written = {slot: getattr(self, shape.name) for slot, shape in self.source_fields().items()}
        return {slot: (value,) if isinstance(value, str) else value for slot, value in written.items()}

    @classmethod
    @cache
    def source_fields(cls) -> dict[str, SpecField]:
        """The field that names the sources of each input."""
        found = ((shape.meta(Sources), shape) for shape in spec_fields(cls).values())
        return {sources.slot: shape for sources, shape in found if sources is not None}

    @property
    def vectors(self) -> int:
        """How many vectors it gives each token besides its output, for cross attention to read."""
        return 0

    @property
    def layer_names(self) -> tuple[str, ...]:
        """What its layers are called in the paths of weights, in the order they run; shared ones come several times."""
        return ()

    def single(self, name: str, mixer: str | Spec) -> "StageSpec | None":
        """A stage of one layer like the first of this one, with that mixer; None if it has no such layer."""
        del name, mixer
        return None

    def part(self, name: str, start: int, count: int) -> "StageSpec | None":
        """Some consecutive layers as a stage that computes what they do here; None if it cannot be cut."""
        del name, start, count
        return None

    def longer(self, count: int) -> "StageSpec | None":
        """The stage with so many more layers of its kind behind its own; None if it cannot have more."""
        del count
        return None

    def entries(self) -> Iterator[tuple[str | Spec, int]]:
        """Each mixer that it names or writes, and how many of its layers run it."""
        return iter(())

    def plan(self, scope: Scope) -> StagePlan:
        """The stage with every dimension a concrete number; see `Spec.plan`."""
        raise NotImplementedError


class EmbeddingSpec(Spec):
    """From tokens to the first stage: norm(gain * (project(scale * table[token]) + bias) + positions), or with
    `project_last`, gain * (project(norm(scale * table[token] + positions)) + bias)."""

    width: Annotated[int | None, Field(ge=1, le=32768), Gene(16, 1024, "scale", multiple=8), WIDENING] = None
    """Width of the vectors of tokens, projected to that of the stream; the stream's if left out (ELECTRA)."""
    bias: Annotated[bool, FIXED] = False
    """Whether one learned vector is added to every token."""
    gain: Annotated[bool, FIXED] = False
    """Whether each channel is multiplied by a learned number (ZAYA1, 2511.17127)."""
    scale: Annotated[float | None, Field(gt=0, le=1e6), FIXED] = None
    """What the vectors of tokens are multiplied by (Gemma: the root of the width)."""
    norm: Annotated[Spec | None, RoleOf("norm"), FIXED] = None
    """A norm of the sum, after positions are added (BERT)."""
    norm_first: Annotated[bool, FIXED] = False
    """Whether the norm stands before positions are added."""
    project_last: Annotated[bool, FIXED] = False
    """Whether positions and the norm are those of the narrower vectors, which are projected after them (RemBERT)."""

    @property
    def unread(self) -> frozenset[str]:
        found = [("norm_first", self.norm is None), ("project_last", self.width is None)]
        return frozenset(name for name, is_unread in found if is_unread)

    def placed_width(self, width: int) -> int:
        """How wide the vectors are that positions are added to; width: the stream's."""
        return self.width if self.width is not None and self.project_last else width


class TransformSpec(Spec):
    """What the readout reads through: norm(act(W h + b)) (BERT)."""

    act: Act = "gelu"
    """The activation."""
    bias: bool = True
    """Whether the map has a bias."""
    norm: Annotated[Spec | None, RoleOf("norm")] = None
    """A norm of what is activated."""
    width: Annotated[int | None, Field(ge=1, le=32768), FIXED, WIDENING] = None
    """How wide its outputs are, where the readout has weights of its own (RemBERT); the stream's if left out."""


class MixtureSpec(Spec):
    """log sum over k of share_k softmax(readout(act(W_k h + b_k))), shares the softmax of V h: a mixture of softmaxes,
    whose logarithms have a higher rank than the readout is wide (Yang et al. 1711.03953)."""

    count: Annotated[int, Field(ge=2, le=64), Gene(2, 8, "x2")] = 4
    """How many softmaxes."""
    act: Word = "tanh"
    """What each one's own map of h passes."""
    bias: bool = True
    """Whether these maps have a bias."""


class ExitsSpec(Spec):
    """Losses of what the readout, and the norm before it, make of inner stages, so that each may be the last one
    (LayerSkip, Elhoushi et al. 2404.16710; deeply supervised nets, Lee et al. 1409.5185). Only training has them."""

    after: Annotated[Annotated[tuple[Name, ...], Field(min_length=1)], AsTuple, ListOf(bare=True), FIXED]
    """The stages that are read out besides the last."""
    weight: Annotated[float, Field(gt=0, le=10), Gene(0.05, 1.0, "scale")] = 0.1
    """Weight of the loss of each."""


class ReadoutSpec(Spec):
    """From the last stage to logits."""

    tie: bool = True
    """Whether the readout uses the embedding's weights."""
    soft_cap: Annotated[float | None, Field(gt=0), Gene(5, 50, "scale", optional=True)] = None
    """Bounds logits to ±cap by `cap * tanh(logits / cap)` (Gemma 2)."""
    bias: Annotated[bool, FIXED] = False
    """Whether every symbol has a bias (GPT-J)."""
    scale: Annotated[float | None, Field(gt=0, le=1e6), FIXED] = None
    """What logits are multiplied by before they are bounded (Cohere)."""
    unit: Annotated[bool, FIXED] = False
    """Whether each symbol's weights are read as a vector of unit length (NormHead, Baichuan 2; nGPT, 2410.01131)."""
    gain: Annotated[bool, FIXED] = False
    """Whether each symbol's logit, before its bias, is multiplied by a learned number, 1 at first (nGPT)."""
    init: Annotated[float, Field(gt=0, le=10), FIXED] = 0.02
    """The standard deviation of its weights at first: of the embedding's where it uses them."""
    z_loss: Annotated[float, Field(ge=0, le=10), FIXED] = 0.0
    """Weight of the mean of log(sum exp logits)^2, which keeps logits small (PaLM: 1e-4)."""
    transform: Annotated[TransformSpec | None, FIXED] = None
    """A map before the readout. With a narrower embedding and tied weights, there is one even if this is left out:
    linear and without a bias (OPT)."""

    exits: ExitsSpec | None = None
    """Which inner stages training reads out as well; none if left out."""
    mixture: MixtureSpec | None = None
    """Several softmaxes of maps of what is read, mixed; one softmax if left out."""

    @property
    def unread(self) -> frozenset[str]:
        return frozenset() if self.mixture is None else frozenset({"z_loss"})  # logits are logs of sums that are 1

    def read_width(self, embedding: EmbeddingSpec, width: int) -> int:
        """How wide the vectors are that meet the readout's weights; width: the stream's."""
        if self.tie:
            return embedding.width or width
        return (self.transform.width if self.transform is not None else None) or width


class OrganismSpec(Spec):
    """One whole model."""

    width: Annotated[int, Field(ge=1, le=32768), Gene(32, 1024, "scale", multiple=16)]
    """The width of the residual stream."""
    vocab: Annotated[int, Field(ge=2, le=1_000_000), FIXED] = 256
    """The number of symbols; 256 for bytes."""
    context: Annotated[int, Field(ge=1, le=10_000_000), FIXED] = 256
    """The longest sequence the model is made for, in tokens."""
    position: Annotated[Spec, RoleOf("position", default="rope")] = DEFAULT
    """How order enters; a stage or an attention may override it."""
    embedding: EmbeddingSpec = Field(default_factory=EmbeddingSpec)
    """From tokens to the first stage."""
    norm: Annotated[Spec, RoleOf("norm", default="rms")] = DEFAULT
    """The normalisation of every block and before the readout; a stage may override it."""
    pseudopods: Annotated[dict[Name, Spec], MapOf(), RoleOf("mixer")] = Field(default_factory=dict[str, Spec])
    """Named mixers, used by the stages."""
    layers: Annotated[dict[Name, Spec], MapOf(), RoleOf("layer")] = Field(default_factory=dict[str, Spec])
    """Named layers, each written out as sublayers, used by the stages."""
    stages: Annotated[tuple[Spec, ...], AsTuple, ListOf(), RoleOf("stage"), Field(min_length=1, max_length=256)]
    """The graph, in order; the last stage is read out."""
    readout: ReadoutSpec = Field(default_factory=ReadoutSpec)
    """From the last stage to logits."""
    ahead: Annotated[Spec | None, RoleOf("ahead")] = None
    """How training predicts tokens beyond the next; only the next one if left out."""
    adapters: Annotated[Spec | None, RoleOf("adapter"), FIXED] = None
    """What is trained beside the linear maps of the stages; nothing else is then trained."""

    @property
    def parts(self) -> dict[str, Spec]:
        """All that text in a stage, a layer or a composite may stand for: pseudopods and layers by name."""
        return {**self.pseudopods, **self.layers}
