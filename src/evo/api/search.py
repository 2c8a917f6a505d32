"""The search as a program drives it: asked for trials, told their evaluations, kept in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from evo.api.documents import File, Source, document_of, holds_tensors
from evo.compiler.check import require_valid
from evo.dsl.canonical import to_yaml
from evo.dsl.document import Document, parse
from evo.dsl.evolve import EvolveSpec
from evo.dsl.patch import apply, rewrite
from evo.dsl.relocate import relocated
from evo.dsl.spec import spec_fields
from evo.dsl.tree import Path as Place
from evo.engines.inline import InlineSpec
from evo.engines.jobs import Engine, Limits, make_engine
from evo.evolution import search
from evo.evolution.evaluate import EVALUATE
from evo.evolution.journal import Journal
from evo.evolution.run import corpora_of
from evo.evolution.rundir import root_of
from evo.evolution.settings import Settings, budget_after
from evo.evolution.told import untrue
from evo.evolution.trial import Evaluation, Trial
from evo.training.behaviour import MEASURES


class Search(search.Search):
    """A search over documents in memory. (`evo evolve` keeps one in a run directory, from which it resumes.)

    `run()` trains and measures every trial here. Whoever measures them elsewhere, or measures something else, asks and
    tells: an `evo.Evaluation` has the task's primary score and `gradient_evenness` under `scores`, and five `measures`
    in [0, 1].

    Args:
        seeds: the documents that it begins with; the settings of the first one's `evolve` hold.
        root: the folder that relative corpus paths start from; those of a file's document start beside the file.
        evaluate: what `run` calls with each trial's job, as 'package.module:name'.
        device, kernels: where and by which kernels trials train.
        evolve: fields of the document's `evolve` section, instead of those written there.

    Raises:
        DiagnosticError: as `load`; a field outside its limits, or of no meaning for the first seed.
        TypeError: no seed, or a field that `evolve` does not have.

    >>> from evo import Evaluation, Search
    >>> with Search("examples/first.yaml", generations=2, population=3, cells=8) as search:
    ...     while trials := search.ask():
    ...         for trial in trials:
    ...             bits = 2.0 + search.document(trial).train.steps / 1000  # what a cluster measured
    ...             scores = {"bits_per_byte": bits, "gradient_evenness": 1.0}
    ...             search.tell({trial: Evaluation(scores=scores, measures=(0.5,) * 5)})
    ...     print(len(search.journal.candidates()), search.best().name)
    7 first
    """

    def __init__(
        self,
        *seeds: Source,
        root: File = ".",
        evaluate: str = EVALUATE,
        device: str = "cpu",
        kernels: str = "auto",
        **evolve: Any,
    ) -> None:
        if not seeds:
            raise TypeError("a search begins with at least one document")
        root = Path(root).resolve()
        documents = [_placed(seed, root) for seed in seeds]
        settings = Settings(
            seeds=tuple(map(to_yaml, documents)),
            root=str(root),
            evolve=_changed(documents[0], evolve).evolve,
            device=device,
            kernels=kernels,
            budget=budget_after(documents[0]),
        )
        super().__init__(settings, Journal(":memory:"), evaluate=evaluate)

    def run(self, engine: Engine | None = None) -> None:
        """Ask, evaluate and tell, to the end. Raises what `ask` does.

        engine: where jobs run; by default the engine that the settings name, or this process where they name none.
        """
        if self.evaluate == EVALUATE and not self.settings.task_digest:
            digest = next(iter(corpora_of(self.settings).values()))
            self.settings = replace(self.settings, task_digest=digest)
        if engine is not None:
            super().run(engine)
            return
        with make_engine(self.evolve.engine or InlineSpec(), Limits()) as own:
            super().run(own)

    def tell(self, results: Mapping[Trial, Evaluation], seconds: Mapping[Trial, float] | None = None) -> None:
        """Record what came of some of the trials that were asked for; `seconds` is the wall time of each.

        What is told of a trial again does not count.

        Raises:
            ValueError: a trial that was not asked for, or an evaluation without numbers that it must have. Nothing is
                recorded then. What failed is told with its `cause`, such as "diverged", and needs none.
        """
        for trial, evaluation in results.items():
            if not self.journal.has(trial):
                raise ValueError(f"{trial.id} is no trial that this search asked for")
            fault = next(untrue(evaluation, self.settings.primary, len(MEASURES)), None)
            if fault is not None:
                raise ValueError(f"what is told of {trial.id} cannot be: {fault}")
        super().tell(results, seconds)

    def document(self, trial: Trial) -> Document:
        """What a trial trains, for `trial.steps` steps."""
        return parse(trial.candidate.document).document

    def best(self) -> Document:
        """The document of the highest objective so far. Raises ValueError before the first generation is placed."""
        best = self.archives.best()
        if best is None:
            raise ValueError("nothing is placed yet: ask and tell until a generation is complete")
        return parse(self.journal.candidate(best.id).document).document

    def close(self) -> None:
        """Forget the search."""
        self.journal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _placed(seed: Source, root: Path) -> Document:
    """The document of a source, with paths from `root`."""
    document = document_of(seed)
    if isinstance(seed, Document) or holds_tensors(seed):
        return document
    return relocated(document, root_of(Path(seed)), root)


def _changed(document: Document, evolve: dict[str, Any]) -> Document:
    """The document with other values of some fields of its `evolve` section."""
    if unknown := evolve.keys() - spec_fields(EvolveSpec).keys():
        raise TypeError(f"`evolve` has no field {sorted(unknown)}; it has {', '.join(spec_fields(EvolveSpec))}")
    changes: dict[Place, Any] = {("evolve", name): value for name, value in evolve.items()}
    return require_valid(apply(rewrite(document, changes), document))
