"""A pool as a comonad: a value in focus among its neighbours, and functions that read it in that context.

`extract` is the value in focus; `extend` asks a question at every place; `duplicate` puts the whole view at every place
(Uustalu & Vene 2008, "Comonadic notions of computation"). What is relative to a neighbourhood is asked through it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

A = TypeVar("A")
B = TypeVar("B")
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Context(Generic[A]):
    """Values at places of behaviour space, one of them in focus.

    values: one a place. places: (N, M) as tuples, where they lie. focus: the index of the value that is looked from.
    """

    values: tuple[A, ...]
    places: tuple[tuple[float, ...], ...]
    focus: int

    def __post_init__(self) -> None:
        if len(self.values) != len(self.places) or not 0 <= self.focus < len(self.values):
            raise ValueError(f"{len(self.values)} values at {len(self.places)} places, {self.focus} in focus")

    def extract(self) -> A:
        """The value in focus."""
        return self.values[self.focus]

    def extend(self, ask: Callable[[Context[A]], B]) -> Context[B]:
        """The answers of `ask` at every place, with the same focus."""
        answers = tuple(ask(Context(self.values, self.places, index)) for index in range(len(self.values)))
        return Context(answers, self.places, self.focus)

    def duplicate(self) -> Context[Context[A]]:
        """This view from every place."""
        return self.extend(lambda view: view)

    def map(self, function: Callable[[A], B]) -> Context[B]:
        """`function` of each value."""
        return self.extend(lambda view: function(view.extract()))

    def nearest(self, count: int) -> tuple[A, ...]:
        """Up to `count` other values, the nearest to the focus first, those of lower index first among equals."""
        places_NM = np.array(self.places)
        order = np.linalg.norm(places_NM - places_NM[self.focus], axis=1).argsort(kind="stable").tolist()
        return tuple(self.values[index] for index in order if index != self.focus)[:count]


@dataclass(frozen=True)
class Neighbour:
    """What others may know of a pseudopod. pattern: of its output, any length, the same for all."""

    fitness: float
    gradient: float
    behaviour: tuple[float, ...]
    pattern: tuple[float, ...] = ()


NEIGHBOURS = 4
"""How many count as the neighbourhood."""


def relative_fitness(context: Context[Neighbour]) -> float:
    """The fitness in standard deviations above the neighbours' mean; 0 where they do not differ, or are not there."""
    others = np.array([other.fitness for other in context.nearest(NEIGHBOURS)])
    spread = float(others.std()) if len(others) else 0.0
    return (context.extract().fitness - float(others.mean())) / spread if spread > 0 else 0.0


def behavioural_divergence(context: Context[Neighbour]) -> Floats:
    """The behaviour minus the neighbours' mean, (M,); zeros without neighbours."""
    own, others = np.array(context.extract().behaviour), context.nearest(NEIGHBOURS)
    return own - np.mean([other.behaviour for other in others], axis=0) if others else np.zeros_like(own)


def gradient_rank(context: Context[Neighbour]) -> float:
    """The share of neighbours with a smaller gradient, those with the same counting half; 1/2 without neighbours."""
    own, others = context.extract().gradient, context.nearest(NEIGHBOURS)
    below = sum((other.gradient < own) + 0.5 * (other.gradient == own) for other in others)
    return below / len(others) if others else 0.5


def attention_coherence(context: Context[Neighbour]) -> float:
    """The mean cosine between the pattern and the neighbours', in [-1, 1]; 0 where there is nothing to compare."""
    own, others = np.array(context.extract().pattern), context.nearest(NEIGHBOURS)
    cosines = [_cosine(own, np.array(other.pattern)) for other in others]
    return float(np.mean(cosines)) if cosines else 0.0


def _cosine(a: Floats, b: Floats) -> float:
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / size if size > 0 else 0.0
