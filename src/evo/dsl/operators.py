"""Which class of mutation operators is tried: what each kind of choice is called, what it reads, and what it means.

A choice is a pure function of what operators brought so far and of a stream, so a resumed run chooses the same.
"""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from evo.dsl.spec import Spec

if TYPE_CHECKING:
    from evo.base.streams import Stream  # loads numpy

Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class Made:
    """One child that mutation made.

    families: the classes of its operators, in order. before: the last class that made its parent; empty for a seed or a
    child of other origin. gain: what it brought the result archive, in units of the objective: its objective in an
    empty cell, its improvement in an occupied one, 0 where it did not enter.
    """

    families: tuple[str, ...]
    before: str
    gain: float


class OperatorsSpec(Spec):
    """How often each class of operators is tried. learns: whether shares follow the history; only then it is read."""

    learns: ClassVar[bool] = True

    @abstractmethod
    def shares(
        self, usual: Mapping[str, float], history: Sequence[Made], before: str, stream: "Stream"
    ) -> Mapping[str, float]:
        """The share of each class for one child.

        usual: the shares that classes have by themselves, which add up to 1. history: oldest first. before: the last
        class that made the parent, see `Made`.
        """


class FixedOperators(OperatorsSpec):
    """Every class with the share that it has by itself."""

    kind: ClassVar[str | None] = "fixed"
    learns: ClassVar[bool] = False

    def shares(
        self, usual: Mapping[str, float], history: Sequence[Made], before: str, stream: "Stream"
    ) -> Mapping[str, float]:
        """See `OperatorsSpec.shares`."""
        del history, before, stream
        return usual


class LearningOperators(OperatorsSpec):
    """The base of choices that put one class first."""

    floor: Share = 0.3
    """The share of children whose class is drawn as by itself, whatever was learned."""

    def shares(
        self, usual: Mapping[str, float], history: Sequence[Made], before: str, stream: "Stream"
    ) -> Mapping[str, float]:
        """See `OperatorsSpec.shares`."""
        first = self.first(list(usual), history, before, stream)
        return {name: self.floor * share + (1 - self.floor) * (name == first) for name, share in usual.items()}

    @abstractmethod
    def first(self, families: list[str], history: Sequence[Made], before: str, stream: "Stream") -> str:
        """The class that is thought to bring most."""


class BanditOperators(LearningOperators):
    """Thompson sampling of the mean gain of each class (Thompson 1933), whose posterior is taken as normal.

    A class is as uncertain as the interval of its mean gain is wide; one child of the mean of all is the prior.
    """

    kind: ClassVar[str | None] = "bandit"

    def first(self, families: list[str], history: Sequence[Made], before: str, stream: "Stream") -> str:
        """See `LearningOperators.first`."""
        del before
        every = [made.gain for made in history] or [0.0]
        mean, spread = fmean(every), pstdev(every) or 1e-9
        rng, drawn = stream.numpy(), dict[str, float]()
        for name in families:
            gains = [made.gain for made in history if name in made.families]
            middle = (mean + sum(gains)) / (1 + len(gains))
            drawn[name] = middle + spread / math.sqrt(1 + len(gains)) * float(rng.normal())
        return max(drawn, key=lambda name: drawn[name])


class QLearningOperators(LearningOperators):
    """Tabular Q-learning over classes (Watkins and Dayan 1992).

    The state is the class that made the parent, an action the class that makes its child, the reward what the child
    brought the archive.
    """

    kind: ClassVar[str | None] = "q_learning"

    rate: Annotated[float, Field(gt=0, le=1)] = 0.2
    """How far a value moves towards what was seen."""
    discount: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """What the gain of a grandchild counts for."""

    def first(self, families: list[str], history: Sequence[Made], before: str, stream: "Stream") -> str:
        """See `LearningOperators.first`; ties are drawn."""
        values = self.values(families, history)
        own = [values.get((before, name), 0.0) for name in families]
        best = [name for name, value in zip(families, own, strict=True) if value == max(own)]
        return best[int(stream.numpy().integers(len(best)))]

    def values(self, families: Sequence[str], history: Sequence[Made]) -> dict[tuple[str, str], float]:
        """The value of each class after another, from all children so far, each with its last class."""
        values = dict[tuple[str, str], float]()
        for made in history:
            state, action = made.before, made.families[-1]
            ahead = max(values.get((action, name), 0.0) for name in families)
            old = values.get((state, action), 0.0)
            values[state, action] = old + self.rate * (made.gain + self.discount * ahead - old)
        return values
