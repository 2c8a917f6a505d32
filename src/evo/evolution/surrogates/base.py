"""What every surrogate is, and the choice of one child among several by its guesses."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from evo.dsl.canonical import to_yaml
from evo.dsl.surrogate import SurrogateSpec
from evo.evolution.emitters.base import Offspring
from evo.evolution.settings import Settings

Known = Sequence[tuple[str, float]]
"""Documents that were tried, as canonical YAML, each with its objective, oldest first; minus infinity for failures."""

GUESSES = "guesses"
"""Under `guesses/GENERATION` the journal has what was guessed of each candidate that was chosen."""


class Surrogate(Protocol):
    """A guess at candidates before they are trained."""

    def guess(self, documents: Sequence[str], known: Known, pending: Sequence[str]) -> list[float] | None:
        """How good each document is thought to be, higher is better, in a unit of its own; None while it cannot tell.

        A pure function of its arguments, on any machine that computes alike. documents: canonical YAML. pending: those
        that are chosen already and not tried yet.
        """
        ...


@dataclass(frozen=True)
class Chooser:
    """Chooses children in one generation, one after another. chosen: the documents of those so far."""

    surrogate: Surrogate
    known: Known
    chosen: list[str] = field(default_factory=list[str])

    def choose(self, children: Sequence[Offspring]) -> tuple[Offspring, float | None]:
        """The child that is thought best, the first among equals, with what was guessed; without a guess the first."""
        texts = [to_yaml(own.child.document) for own in children]
        guesses = self.surrogate.guess(texts, self.known, self.chosen)
        best = 0 if guesses is None else max(range(len(children)), key=lambda place: (guesses[place], -place))
        self.chosen.append(texts[best])
        return children[best], None if guesses is None else guesses[best]


def make_surrogate(spec: SurrogateSpec, settings: Settings) -> Surrogate:
    """The surrogate of a spec."""
    module, _, name = spec.builder.partition(":")
    return getattr(importlib.import_module(module), name)(spec, settings)
