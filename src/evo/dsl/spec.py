"""What every spec class is: a frozen, strict record whose fields know their role and their genes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any, ClassVar, Literal, cast, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.fields import FieldInfo

from evo.dsl.index import kind_class
from evo.dsl.plan import BlockPlan


@dataclass(frozen=True)
class RoleOf:
    """Field metadata: the value is a spec of this role, chosen by its `kind` key, or by the one key of its name.

    default: the kind that stands there, with its own defaults, when the key is left out. The field then reads
    `= DEFAULT`; its class is imported only when somebody asks for the value.
    """

    role: str
    default: str | None = None

    def make_default(self) -> Spec:
        """A spec of the default kind with nothing set."""
        assert self.default is not None
        return kind_class(self.role, self.default)()

    def make_list(self) -> tuple[Spec, ...]:
        """The same for a field that holds a list."""
        return (self.make_default(),)


@dataclass(frozen=True)
class Ref:
    """Field metadata: where text stands for a spec of a role, it names an entry of one of the organism's tables."""


@dataclass(frozen=True)
class OrNumber:
    """Field metadata: where a number stands for a spec of a role, it is that number."""


@dataclass(frozen=True)
class ListOf:
    """Field metadata: a list of values; `bare` lists of one are written, and may be read, without brackets."""

    bare: bool = False


@dataclass(frozen=True)
class MapOf:
    """Field metadata: a mapping from names to values."""


@dataclass(frozen=True)
class Sources:
    """Field metadata: the names of stages that this one reads as its input `slot`."""

    slot: str


def _unnamed_default() -> Any:
    raise AssertionError("the field's Kind names no default")


DEFAULT: Any = Field(default_factory=_unnamed_default)
"""Stands behind a field whose `RoleOf` names the default kind."""


def _as_tuple(value: Any) -> Any:
    return tuple(cast(list[Any], value)) if isinstance(value, list) else value


AsTuple = BeforeValidator(_as_tuple)
"""Lets a YAML list stand for a tuple; everything else stays strict."""


@dataclass(frozen=True)
class Fault:
    """A fault of meaning inside one spec, before it is known where the spec stands in a file.

    inherited: a spec that was written elsewhere, and its field that is at fault: that place is shown instead.
    """

    code: str
    path: tuple[str | int, ...]
    message: str
    help: str | None = None
    severity: str = "error"
    inherited: tuple[Spec, str] | None = None


def dividing(count: int) -> str:
    """A line of help: the numbers that divide another."""
    return f"these do: {', '.join(str(n) for n in range(1, count + 1) if count % n == 0)}"


class Spec(BaseModel):
    """One mapping of the language. Immutable: a changed spec is made by applying a patch and by nothing else."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    kind: ClassVar[str | None] = None
    """Its name in the index; None for a class that is no kind of a role."""
    called: ClassVar[str | None] = None
    """What messages call a mapping of this class where its kind would tell nothing."""
    is_keyed: ClassVar[bool] = False
    """Whether it is written by the one key of its name, a required field, and without `kind`: `{parallel: [...]}`."""

    widths_apart: ClassVar[bool] = False
    """Whether its block may give another width than it reads: its plan goes by `Scope.given` then."""
    lives: ClassVar[bool] = False
    """Whether it has parts that are born and die between the steps of a training that lets them (`train.life`)."""
    stacks: ClassVar[bool] = False
    """Whether its module also runs with a stack of each of its weights, each row with an entry of its own: what experts
    are made of. All that it does with a weight is `flow.project` then."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Give fields whose `RoleOf` names a default that default (a list of one where the field is a list)."""
        super().__pydantic_init_subclass__(**kwargs)
        for info in cls.model_fields.values():
            kind: RoleOf | None = _metadata(info, RoleOf)
            if kind is not None and kind.default is not None:
                info.default_factory = kind.make_list if _metadata(info, ListOf) else kind.make_default

    @property
    def label(self) -> str:
        """What people call it."""
        return self.kind or type(self).__name__

    @property
    def reads_kv(self) -> bool:
        """Whether its keys and values follow what the stage around it gives them; see `Scope.kv`."""
        return False

    @property
    def reads_position(self) -> bool:
        """Whether it takes the position encoding of the stage it stands in; what is inside it answers for itself."""
        return False

    @property
    def reads_layer(self) -> bool:
        """Whether its plan depends on the number of the layer it stands in; what is inside it answers for itself."""
        return False

    @property
    def copies_norm(self) -> bool:
        """Whether it makes norms like the organism's that have a place of their own; what is inside it answers for
        itself."""
        return False

    recasts_maps: ClassVar[bool] = False
    """Whether maps inside are read in another form, in which new inputs and taps may change the others."""

    @property
    def signals(self) -> frozenset[str]:
        """The names of stages that it reads, wherever it stands; what is inside it answers for itself."""
        return frozenset()

    @property
    def is_causal(self) -> bool:
        """Whether no output of it depends on later inputs; what is inside it answers for itself."""
        return True

    @property
    def both_ways(self) -> int | None:
        """Of how many first tokens the outputs depend on later ones, but on none behind these; None: of any, on any."""
        return 0 if self.is_causal else None

    @property
    def unread(self) -> frozenset[str]:
        """The names of fields that mean nothing beside what the others say: no gene, and a warning where written."""
        return frozenset()

    @property
    def grows(self) -> frozenset[str]:
        """The names of numbers that, when raised, leave what a trained block computes as it was: new inputs of its maps
        and new taps start at zero."""
        return frozenset()

    def problems(self, scope: Scope) -> Iterator[Fault]:
        """Faults of meaning that need the surroundings (width, context, ...); paths are relative to this spec."""
        del scope
        return iter(())

    def beside(self, count: int, width: int) -> Spec | None:
        """One mixer that is the sum of `count` of these, each with weights of its own, over a stream of `width`.

        None where there is none. Whoever asks compares the plans: a weight or a part that the two share is not theirs.
        """
        del count, width
        return None

    def plan(self, scope: Scope) -> BlockPlan | None:
        """The block with every dimension a concrete number, or None for no block at all.

        Only called when `problems` yields no error.
        """
        raise TypeError(f"{type(self).__name__} does not build a block")


INPUT = "embedding"
"""The name of the graph's input among the sources of a stage."""
TOKENS = "tokens"
"""The name of the token ids among the signals of a pass."""
KV = "kv"
"""The name among the signals of what a stage gives to the keys and values of its mixers."""
VALUES = "values of kv"
"""The same of what it gives to their values alone."""


@dataclass(frozen=True)
class Scope:
    """What a block can see of the organism around it.

    depth: layers of the whole organism. position, norm: those of the organism, or of the stage around a block.
    before: the stage before this one, or the embedding. visiting: names being looked into, outermost first.
    kv: what the signal `KV` is to keys and values, whose input is otherwise that of the queries; `apart`: to keys, and
    `VALUES` is to values.
    earlier: the stages above this one by name; none inside a stage that gives another width, or other maps.
    layer: the number of the layer around a block, from 1 on; of a stage, of its first one; 1 outside of layers.
    gives: the width of what a block gives, where that is not the one of what it reads.
    """

    width: int
    context: int
    depth: int
    position: Spec
    pseudopods: Mapping[str, Spec] = field(default_factory=dict[str, Spec])
    visiting: tuple[str, ...] = ()
    norm: Spec | None = None
    before: str = INPUT
    layers: Mapping[str, Spec] = field(default_factory=dict[str, Spec])
    kv: Literal["", "added", "alone", "apart"] = ""
    earlier: Mapping[str, Spec] = field(default_factory=dict[str, Spec])
    vocab: int = 256
    gives: int | None = None
    layer: int = 1

    @property
    def given(self) -> int:
        """The width of what a block gives."""
        return self.gives or self.width

    @property
    def residual_gain(self) -> float:
        """The gain of a projection that writes into the residual stream: two writers a layer (Radford et al. 2019).

        An organism without a layer may write too: the encoder of a latent stage does.
        """
        return 1.0 / math.sqrt(2 * max(1, self.depth))


@dataclass(frozen=True)
class SpecField:
    """What the language knows of one field beyond its type. `key` is the YAML key; `name` differs for `from_`.

    words: where a field of a role takes text of its own, the words, each short for a spec or for none.
    """

    key: str
    name: str
    info: FieldInfo
    kind: RoleOf | None
    many: ListOf | None
    table: bool
    names: bool
    numbers: bool
    words: tuple[str, ...]
    nested: type[Spec] | None

    def meta(self, cls: type) -> Any:
        """The first metadata of a class on this field, or None."""
        return self._first.get(cls)

    @cached_property
    def _first(self) -> dict[type, Any]:
        """The first metadata of each class: mutation asks for it more than for anything else."""
        return {type(item): item for item in reversed(self.info.metadata)}

    @cached_property
    def default(self) -> Any:
        """The field's default, one and the same at every call; undefined for a required field."""
        return self.info.get_default(call_default_factory=True)

    @property
    def takes_null(self) -> bool:
        """Whether null may be written: where it is the default, and where it says that the default shall not be."""
        return type(None) in get_args(self.info.annotation)


def _metadata(info: FieldInfo, cls: type) -> Any:
    return next((item for item in info.metadata if isinstance(item, cls)), None)


@cache
def spec_fields(cls: type[Spec]) -> dict[str, SpecField]:
    """The fields of a spec class by YAML key, in order."""
    return {name.rstrip("_"): _shape(name, info) for name, info in cls.model_fields.items()}


def written(cls: type[Spec]) -> str:
    """How a kind is written, with all that has no default: `{kind: means, size: 4, top: 4}`, `{parallel: ...}`."""
    if cls.is_keyed:
        return f"{{{cls.kind}: ...}}"
    needed = {key: shape.info.annotation for key, shape in spec_fields(cls).items() if shape.info.is_required()}
    values = "".join(f", {key}: {4 if annotation is int else '...'}" for key, annotation in needed.items())
    return f"{{kind: {cls.kind}{values}}}"


def _spec_classes(annotation: Any) -> Iterator[type[Spec]]:
    """The spec classes that a type is made of."""
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        yield annotation
    for argument in get_args(annotation):
        yield from _spec_classes(argument)


def _literals(annotation: Any) -> tuple[str, ...]:
    """The words that a type is made of: those of its literals, in order."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return tuple(word for argument in get_args(annotation) for word in _literals(argument))


def _shape(name: str, info: FieldInfo) -> SpecField:
    annotation = info.annotation
    nested = next(_spec_classes(annotation), None)
    kind = _metadata(info, RoleOf)
    return SpecField(
        key=name.rstrip("_"),
        name=name,
        info=info,
        kind=kind,
        many=_metadata(info, ListOf),
        table=_metadata(info, MapOf) is not None,
        names=_metadata(info, Ref) is not None,
        numbers=_metadata(info, OrNumber) is not None,
        words=_literals(annotation) if kind else (),
        nested=None if kind else nested,
    )
