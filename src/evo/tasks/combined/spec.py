"""Several tasks at once, as a document names them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from evo.dsl.canonical import to_data
from evo.dsl.genes import FIXED
from evo.dsl.organism import OrganismSpec
from evo.dsl.spec import AsTuple, Fault, ListOf, RoleOf
from evo.dsl.task import Score, TaskSpec
from evo.dsl.yaml import Data


class CombinedSpec(TaskSpec):
    """One organism learns several tasks, a row of a batch each in turn: `task: {combined: [{kind: bytes}, ...]}`.

    Each task has symbols of its own, so that its rows are known by their first, and each row the same weight. The score
    is the mean over the tasks of what is left between their primary scores and perfect ones, 1 for a uniform guess.
    """

    kind: ClassVar[str | None] = "combined"
    primary: ClassVar[Score] = Score("remainder", lower_is_better=True, uniform=1.0, unit="remainder")
    builder: ClassVar[str] = "evo.tasks.combined.task:open_combined"
    is_keyed: ClassVar[bool] = True

    combined: Annotated[tuple[TaskSpec, ...], AsTuple, ListOf(), RoleOf("task"), Field(min_length=2), FIXED]
    """The tasks."""

    @property
    def smallest_vocab(self) -> int:
        """That of each task, one after another."""
        return sum(task.smallest_vocab for task in self.combined)

    @property
    def needs_causal(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride] - depends on the tasks
        """Whether one of the tasks does."""
        return any(task.needs_causal for task in self.combined)

    def relocated(self, before: Path, after: Path) -> dict[str, Data]:
        """The tasks with their own fields as they have to be written."""
        moved = [task.relocated(before, after) for task in self.combined]
        if not any(moved):
            return {}
        return {"combined": [{**to_data(task), **own} for task, own in zip(self.combined, moved, strict=True)]}

    def problems_with(self, organism: OrganismSpec) -> Iterator[Fault]:
        """Too small a vocabulary for all of them, and what each task says of itself."""
        yield from super().problems_with(organism)
        for task in self.combined:
            yield from task.problems_with(organism)
