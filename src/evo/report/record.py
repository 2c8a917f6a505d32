"""The report of a search as a record: what the page, the summary and search_report.json are made of. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, cast

from evo.dsl.evolve import EvolveSpec
from evo.dsl.task import Score
from evo.evolution.fitness import Terms
from evo.evolution.summary import Summary
from evo.report.conclusion import Conclusion, conclusion
from evo.slime.lives import Lived
from evo.training.curve import Curve

if TYPE_CHECKING:
    from evo.evolution.verdict import Verdict

REPORT_VERSION = 1


@dataclass(frozen=True)
class Variant:
    """One candidate: its file beside the report, its cost by the plan, and what was measured or why nothing was.

    document: canonical YAML. held_values: parameters and what is cached after a full context. steps: of training.
    score: the primary one, among `scores`; None where it failed. terms: its objective, once it was placed. curves: of
    its trainings, the first at each rung. step_flops: what a step of training takes. lives: of pseudopods, in the last.
    """

    id: str
    file: str
    hash: str
    parents: tuple[str, ...]
    operators: tuple[str, ...]
    parameters: int
    flops_per_token: float
    document: str = field(default="", repr=False)
    held_values: int = 0
    steps: int = 0
    cause: str = ""
    message: str = ""
    score: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict[str, float])
    terms: Terms | None = None
    measures: tuple[float, ...] = ()
    curves: tuple[Curve, ...] = field(default=(), repr=False)
    step_flops: float = 0.0
    lives: tuple[Lived, ...] = ()

    @property
    def generation(self) -> int:
        """The generation that made it."""
        return int(self.id.partition("/")[0])

    @property
    def objective(self) -> float | None:
        """What the search maximises."""
        return None if self.terms is None else self.terms.objective

    @property
    def snapshot_ratio(self) -> float | None:
        """How many times smaller than fp32 its snapshot is, if it has one."""
        size = self.scores.get("snapshot_bytes")
        return self.scores["fp32_bytes"] / size if size else None

    def to_data(self, primary: Score) -> dict[str, Any]:
        """Its row of search_report.json: every score and every term of the objective under its own name."""
        names = (
            "id",
            "file",
            "hash",
            "parents",
            "operators",
            "parameters",
            "flops_per_token",
            "held_values",
            "steps",
            "cause",
        )
        data: dict[str, Any] = {name: getattr(self, name) for name in names}
        data |= {"parents": list(self.parents), "operators": list(self.operators)}
        data |= {"step_flops": self.step_flops, "curves": _listed(self.curves)}
        data |= {"lives": [asdict(lived) for lived in self.lives]} if self.lives else {}
        if self.score is None:
            return {**data, "message": self.message}
        scores = {primary.name: self.score, **self.scores}
        counts = {name: int(scores[name]) for name in ("snapshot_bytes", "fp32_bytes") if name in scores}
        terms = asdict(self.terms) if self.terms else {}
        ratio = {} if self.snapshot_ratio is None else {"snapshot_ratio": self.snapshot_ratio}
        return {**data, **scores, **counts, **terms, "measures": list(self.measures), **ratio}


@dataclass(frozen=True)
class Guessed:
    """How guesses rank what was trained: Spearman's correlation with the primary score, positive where better guesses
    went with better scores; None for fewer than three.

    correlation: of a surrogate of some `kind`, over the `count` candidates that it chose. foresight: of the training
    losses that the first halves of `curves` learning curves foretell by power laws.
    """

    kind: str
    count: int
    correlation: float | None
    curves: int
    foresight: float | None


@dataclass(frozen=True)
class Step:
    """One member of the best variant's line of first parents, with the patch from the one before."""

    id: str
    operators: tuple[str, ...]
    score: float
    patch: str = ""


@dataclass(frozen=True)
class Credit:
    """What an operator brought: children it took part in, how many failed, how many were better than their first
    parent in the primary score, and the mean change, None where all failed, with half the width of its 95 % interval,
    None where fewer than two did not."""

    operator: str
    children: int
    failed: int
    better_than_parent: int
    mean_change: float | None
    half_width: float | None = None


@dataclass(frozen=True)
class SnapshotFigures:
    """Sizes against fp32 and losses after restoring, over all snapshots."""

    median_ratio: float
    median_increase: float
    worst_increase: float


@dataclass(frozen=True)
class Trained:
    """Tokens trained on, and training FLOPs (three times the forward pass's) by the plans; failures left out."""

    tokens: int
    flops: float


@dataclass(frozen=True)
class Occasion:
    """When, where and on what a run was carried out. Equal runs differ in it, so only the page tells of it.

    corpora: names. versions: of evo, torch and others, by name. began: of the first trial, seconds since 1970, or None.
    wall_s: during which some trial was going on; pauses between a stop and a resume are left out. busy_s: wall seconds
    of trials, summed over workers. The trainings of the verdict are in neither.
    """

    corpora: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict[str, str])
    began: float | None = None
    wall_s: float = 0.0
    busy_s: float = 0.0


@dataclass(frozen=True, eq=False)
class Report:
    """Everything that the files tell.

    run: the directory as it was given. variants: in the order of the journal. elites: cell -> id, of the result
    archive. best: the id of the highest objective. best_scored: of the best primary score. lineage: the seed first.
    failures: cause -> how many candidates. noise: the standard deviation of the primary score of one trial, or None
    while no candidate had several. founders: in a search that was begun warm, by seed, whose weights it began from.
    """

    run: str
    device: str
    evolve: EvolveSpec
    primary: Score
    measures: tuple[str, ...]
    centroids: list[list[float]]
    generations: tuple[Summary, ...]
    variants: tuple[Variant, ...]
    elites: dict[int, str]
    best: str | None
    best_scored: str | None
    lineage: tuple[Step, ...]
    diff_from_seed: str
    verdict: Verdict | None
    operators: tuple[Credit, ...]
    failures: dict[str, int]
    snapshots: SnapshotFigures | None
    trained: Trained
    occasion: Occasion
    noise: float | None = None
    warnings: tuple[str, ...] = ()
    surrogate: Guessed | None = None
    founders: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def name(self) -> str:
        """What the run is called: the last step of its path."""
        return PurePath(self.run).name or self.run

    @cached_property
    def by_id(self) -> dict[str, Variant]:
        """The variants by their ids."""
        return {variant.id: variant for variant in self.variants}

    @cached_property
    def conclusion(self) -> Conclusion:
        """What the verdict says, for every reader alike."""
        return conclusion(self.verdict, self.primary, self.evolve.verify.seeds)

    @property
    def best_variant(self) -> Variant | None:
        """The variant with the highest objective."""
        return None if self.best is None else self.by_id[self.best]

    @property
    def leader(self) -> Variant | None:
        """The variant with the best primary score."""
        return None if self.best_scored is None else self.by_id[self.best_scored]

    @property
    def seeds(self) -> list[Variant]:
        """The variants without parents."""
        return [variant for variant in self.variants if not variant.parents]

    @property
    def best_seed(self) -> Variant | None:
        """The seed with the best primary score, the first among equals."""
        scored = [(self.primary.cost(seed.score), seed) for seed in self.seeds if seed.score is not None]
        return min(scored, key=lambda pair: pair[0], default=(0.0, None))[1]

    @property
    def own_seed(self) -> Variant | None:
        """The seed that the best variant's line of first parents began with."""
        return self.by_id[self.lineage[0].id] if self.lineage else None

    @property
    def inherits(self) -> bool:
        """Whether some child started from trained weights."""
        return any(variant.parents and variant.scores.get("inherited", 0.0) > 0 for variant in self.variants)

    @cached_property
    def cells(self) -> dict[str, int]:
        """The id of each elite -> its cell."""
        return {id: cell for cell, id in self.elites.items()}

    def to_data(self) -> dict[str, Any]:
        """search_report.json: plain data, in which scores stand under the names that the task gives them."""
        plain = {key: value for key, value in self.evolve if isinstance(value, (int, float))}
        return {
            "evo_report": REPORT_VERSION,
            "run": self.run,
            "seed": self.evolve.seed,
            "device": self.device,
            "warnings": list(self.warnings),
            "settings": plain,
            "fitness": self.evolve.fitness.model_dump(),
            "score": asdict(self.primary),
            "measures": list(self.measures),
            "centroids": self.centroids,
            "generations": [_renamed(asdict(summary), self.primary, "best") for summary in self.generations],
            "variants": [variant.to_data(self.primary) for variant in self.variants],
            "elites": {str(cell): id for cell, id in self.elites.items()},
            "best": self.best,
            "best_scored": self.best_scored,
            "lineage": [_step(step, self.primary) for step in self.lineage],
            "diff_from_seed": self.diff_from_seed,
            "verdict": self.verdict and _listed({**asdict(self.verdict), "found": self.verdict.found}),
            "conclusion": _listed(asdict(self.conclusion)),
            "operators": [asdict(credit) for credit in self.operators],
            "failures": self.failures,
            "noise": self.noise,
            **({"surrogate": asdict(self.surrogate)} if self.surrogate else {}),
            **({"founders": dict(self.founders)} if self.founders else {}),
            "snapshots": self.snapshots and asdict(self.snapshots),
            "trained": asdict(self.trained),
        }


def _listed(value: Any) -> Any:
    """The data with lists for tuples, as JSON has them."""
    if isinstance(value, dict):
        return {key: _listed(own) for key, own in cast(dict[str, Any], value).items()}
    return [_listed(own) for own in cast(list[Any], value)] if isinstance(value, list | tuple) else value


def _step(step: Step, primary: Score) -> dict[str, Any]:
    return {"id": step.id, "operators": list(step.operators), primary.name: step.score, "patch": step.patch}


def _renamed(data: dict[str, Any], primary: Score, *whose: str) -> dict[str, Any]:
    """The data with each `WHOSE_score` under the primary score's name."""
    names = {f"{who}_score": f"{who}_{primary.name}" for who in whose}
    return {names.get(key, key): value for key, value in data.items()}
