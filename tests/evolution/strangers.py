"""Kinds of a search that evo does not ship, as another package would bring them: a fidelity of two rungs."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from evo.dsl import index
from evo.dsl.fidelity import FidelitySpec

if TYPE_CHECKING:
    from evo.dsl.document import Document


class Halving(FidelitySpec):
    """Two rungs: of all candidates so far, the best 1 / eta are trained eta times as long (Li et al. 2020, ASHA)."""

    kind: ClassVar[str | None] = "halving"

    eta: Annotated[int, Field(ge=2)] = 2

    def steps(self, document: "Document", rung: int) -> int:
        """The document's own at the first rung, `eta` times as many at the second."""
        return document.train.steps * self.eta**rung

    def promote(self, rungs: Sequence[Mapping[str, float]]) -> list[tuple[str, int]]:
        """The best floor(n / eta) of the first rung that are not on the second; ties by id."""
        first, second = rungs[0], rungs[1] if len(rungs) > 1 else {}
        best = sorted(first, key=lambda id: (first[id], id))[: len(first) // self.eta]
        return [(id, 1) for id in best if isfinite(first[id]) and id not in second]


ROWS = {"fidelity": {"halving": "strangers:Halving"}}


def install() -> None:
    """Let the index of this process know them."""
    for role, rows in ROWS.items():
        index.KINDS[role].update(rows)
