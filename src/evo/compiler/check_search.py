"""What a document says of a search that cannot be carried out, or not as it is meant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from evo.dsl.document import Document
from evo.dsl.spec import Fault
from evo.dsl.tree import found_at


def search_problems(document: Document) -> Iterator[Fault]:
    """The faults of `evolve`, with paths from the document's root."""
    yield from _objective(document)
    yield from _frozen(document)
    yield from _measures(document)
    yield from _rungs(document)


def _objective(document: Document) -> Iterator[Fault]:
    fitness = document.evolve.fitness
    if not fitness.task + fitness.efficiency + fitness.gradient:
        message = "every weight is 0, so all candidates would be equally good"
        yield Fault("EVO345", ("evolve", "fitness"), message, "give the task a weight above 0")


def _frozen(document: Document) -> Iterator[Fault]:
    """A path to be kept still at which nothing stands; or nothing that a search could change."""
    if {"organism", "train"} <= {*document.evolve.freeze}:
        message = "organism and train are both frozen, so no child could differ from its seed"
        yield Fault("EVO348", ("evolve", "freeze"), message, "leave out what the search is to change")
    for index, path in enumerate(document.evolve.freeze):
        try:
            found_at(document, tuple(path.split(".")))
        except KeyError as error:
            message = f"nothing stands at '{path}': there is no '{error.args[0]}'"
            help = "keys and names of stages joined by dots, from `organism` or `train` on"
            yield Fault("EVO348", ("evolve", "freeze", index), message, help)


def _measures(document: Document) -> Iterator[Fault]:
    """One measure as two axes of the archive."""
    for measure, count in Counter(document.evolve.measures).items():
        if count > 1:
            message = f"'{measure}' spans the archive {count} times, and would leave cells that nothing can reach"
            yield Fault("EVO362", ("evolve", "measures"), message, "name each measure once")


def _rungs(document: Document) -> Iterator[Fault]:
    """Rungs of less than a step, which cost a step all the same."""
    steps, (lowest, *_) = document.train.steps, document.evolve.fidelity.shares
    if document.train.budget is None and steps * lowest < 1:
        message = f"the lowest rung is {steps * lowest:.2g} steps, and takes a whole one"
        help = "train for more steps, or have fewer rungs"
        yield Fault("EVO362", ("evolve", "fidelity"), message, help, "warning")
