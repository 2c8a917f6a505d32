"""What keeps a position encoding from a mixer without scores to add to: it may turn queries and keys alone."""

from collections.abc import Iterator
from dataclasses import replace

from evo.blocks.position.spec import PositionSpec
from evo.dsl.index import kind_class, kinds
from evo.dsl.spec import Fault, Spec

TURNS = ("queries and keys", "nothing")
"""What an encoding may act on there."""


def turning_problems(position: Spec | None, head_dim: int, reader: str) -> Iterator[Fault]:
    """Faults of the field `position` of a mixer, called `reader`, whose keys have this width; none if left out."""
    if not isinstance(position, PositionSpec):
        return
    if not _turns(type(position)):
        message = f"{reader} cannot use position {position.kind}"
        known = ", ".join(kind for kind in kinds("position") if _turns(kind_class("position", kind)))
        yield Fault("EVO304", ("position",), message, f"known here: {known}")
        return
    if position.acts_on == "nothing":
        message = f"{reader} has no position encoding anyway"
        yield Fault("EVO330", ("position",), message, "remove it", "warning")
    for problem in position.attention_problems(head_dim):
        yield replace(problem, path=("position", *problem.path))


def _turns(position: type[Spec]) -> bool:
    return issubclass(position, PositionSpec) and position.acts_on in TURNS and position.widens == 1
