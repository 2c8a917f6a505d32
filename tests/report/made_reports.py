"""Reports of every sort as records, for pages to be made of."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from verdicts import Scores, judged

from evo.dsl.evolve import EvolveSpec
from evo.dsl.task import Score
from evo.evolution.fitness import Terms
from evo.evolution.summary import Summary
from evo.evolution.verdict import Verdict
from evo.report.page.glossary import MEASURES
from evo.report.record import Credit, Occasion, Report, SnapshotFigures, Step, Trained, Variant
from evo.tasks.bytes.spec import BytesSpec

HOSTILE = """</title></style><script src="https://x.example/a.js">alert('1')</script>&amp;"""
PATCH = "~ organism.width: 32 -> 64\n+ train.schedule: {kind: cosine}\n- organism.stages.body.repeat: 2"
NAN = float("nan")


def variant(id: str, score: float, objective: float, inherited: float = 0.0, **more: Any) -> Variant:
    """One candidate that was scored."""
    generation, _, slot = id.partition("/")
    sizes = {"snapshot_bytes": 3354, "fp32_bytes": 115328, "snapshot_increase": 0.0084}
    plain: dict[str, Any] = {
        "id": id,
        "file": f"gen_{generation}/variant_{slot}.yaml",
        "hash": "h",
        "parents": (),
        "operators": (),
        "parameters": 28832,
        "flops_per_token": 62208.0,
        "held_values": 29000,
        "steps": 100,
        "document": f"evo: 1\nname: v{slot}\n",
        "score": score,
        "scores": {"gradient_evenness": 0.5, "inherited": inherited, **sizes},
        "terms": Terms(0.5, 0.5, 0.5, objective),
        "measures": (0.1, 0.2, 0.3, 0.4, objective),
        "curves": (((50, 5.0), (100, score)),),
        "step_flops": 1e6,
    }
    return Variant(**{**plain, **more})


def failed(id: str, cause: str, message: str, **more: Any) -> Variant:
    """One that was not."""
    scored = variant(id, 0.0, 0.0, cause=cause, message=message, **more)
    return replace(scored, score=None, scores={}, terms=None, measures=(), curves=())


def generation(number: int, **more: Any) -> Summary:
    """One generation's summary."""
    bests = {"best_objective": 0.6, "best": "0001/00", "best_score": 7.1, "best_scored": "0001/00"}
    counts = {"candidates": 2, "failures": 1, "coverage": 0.25, "qd_score": 1.5, "improved": 1, "annealed": 0}
    plain: dict[str, Any] = {"generation": number, "temperature": 0.05, **counts, **bests}
    return Summary(**{**plain, **more})


def sample(**changes: Any) -> Report:
    """The report of a small finished run: a seed, a better child, a crossed child, a failed one."""
    child = variant("0001/00", 7.1, 0.6, 1.0, parents=("0000/00",), operators=("number",))
    crossed = variant("0001/01", 7.3, 0.55, parents=("0000/00", "0001/00"), operators=("crossover",))
    late = failed("0001/02", "timeout", "too slow", parents=("0000/00",))
    plain: dict[str, Any] = {
        "run": "results/small",
        "device": "cpu",
        "evolve": EvolveSpec(generations=1, population=3),
        "primary": BytesSpec.primary,
        "measures": tuple(MEASURES),
        "centroids": [[0.1 * cell] * 5 for cell in range(8)],
        "generations": (generation(0, best_score=7.7, best_objective=0.5), generation(1)),
        "variants": (variant("0000/00", 7.7, 0.5), child, crossed, late),
        "elites": {0: "0000/00", 3: "0001/00", 5: "0001/01"},
        "best": "0001/00",
        "best_scored": "0001/00",
        "lineage": (Step("0000/00", (), 7.7), Step("0001/00", ("number",), 7.1, PATCH)),
        "diff_from_seed": PATCH,
        "verdict": verdict((7.1, 7.12, 7.11), (6.9, 6.92, 6.91)),
        "operators": (Credit("number", 2, 1, 1, -0.6), Credit("split", 1, 1, 0, None)),
        "failures": {"timeout": 1},
        "snapshots": SnapshotFigures(34.4, 0.0084, 0.0097),
        "trained": Trained(6400, 1.26e9),
        "occasion": Occasion(("shakespeare",), {"evo": "0.1", "torch": "2.9"}, 1_790_000_000.0, 61.0, 117.7),
        "noise": 0.02,
    }
    return Report(**{**plain, **changes})


def verdict(winner: Scores, seed: Scores, primary: Score = BytesSpec.primary) -> Verdict:
    """The winner 0001/00 against the seed 0000/00, trained from scratch; text is the cause of a failure."""
    return judged({"0001/00": winner, "0000/00": seed}, "0001/00", "0001/00", "0000/00", "0000/00", primary)


NOTHING: dict[str, Any] = {
    "generations": (),
    "elites": {},
    "best": None,
    "best_scored": None,
    "lineage": (),
    "diff_from_seed": "",
    "operators": (),
    "verdict": None,
    "snapshots": None,
}
"""Of a run that has not placed a generation."""
ONE_SEED: dict[str, Any] = {
    **NOTHING,
    "generations": (generation(0, best="0000/00", best_scored="0000/00"),),
    "variants": (variant("0000/00", 7.7, 0.5),),
    "elites": {0: "0000/00"},
    "best": "0000/00",
    "best_scored": "0000/00",
    "lineage": (Step("0000/00", (), 7.7),),
}
ACCURACY: dict[str, Any] = {
    "primary": Score("accuracy", lower_is_better=False, uniform=0.1, unit="share"),
    "variants": (variant("0000/00", 0.4, 0.5), variant("0001/00", 0.6, 0.6, parents=("0000/00",))),
    "elites": {0: "0000/00", 3: "0001/00"},
    "generations": (generation(0, best_score=0.4), generation(1, best_score=0.6)),
    "lineage": (Step("0000/00", (), 0.4), Step("0001/00", ("number",), 0.6, PATCH)),
    "verdict": verdict((0.6, 0.61), (0.5, 0.51), Score("accuracy", False, 0.1)),
    "operators": (Credit("split", 1, 0, 0, -0.1), Credit("number", 1, 0, 1, 0.2)),
    "failures": {},
}
DEGENERATE = {
    "nothing at all": sample(
        **NOTHING, variants=(), centroids=[], failures={}, trained=Trained(0, 0.0), occasion=Occasion()
    ),
    "one seed": sample(**ONE_SEED),
    "all failed": sample(**NOTHING, variants=sample().variants[3:]),
    "all trainings failed": sample(verdict=verdict("memory", "memory")),
    "one training each": sample(verdict=verdict((7.1,), (7.2,))),
    "no failures": sample(failures={}),
    "a single measure": sample(measures=("attention_span",), centroids=[[0.5]]),
    "measures of another length": sample(measures=("a", "b")),
    "no generation": sample(generations=()),
    "no curves": sample(variants=tuple(replace(v, curves=()) for v in sample().variants)),
    "a flat curve": sample(variants=(variant("0000/00", 7.7, 0.5, curves=(((1, 5.0),),)), *sample().variants[1:])),
    "negative changes": sample(centroids=[[-1.0, 2.0, NAN, 0.5, 0.5]], noise=None),
    "an accuracy": sample(**ACCURACY),
}
