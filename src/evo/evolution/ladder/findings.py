"""What a ladder shows: each contestant's power law, by how much the variant is better at each size, and the trend.

Intervals are of 95 %. Those of differences are Welch's; those of laws and trends come from drawing seeds anew
(bootstrap), one fewer than there are, which keeps the variance of means of few seeds unbiased (Rao and Wu 1988).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, linear_regression
from typing import Any, Literal

import numpy as np

from evo.base.intervals import Interval, difference, drawn_interval, mean_interval
from evo.base.power_laws import PowerLaw, fit
from evo.base.streams import Stream
from evo.dsl.task import Score
from evo.evolution.ladder.records import Scored
from evo.evolution.ladder.trainings import Contestant, LadderTraining, Size

DRAWS = 400
"""How often seeds are drawn anew."""
BEYOND = 10.0
"""How far beyond the most FLOPs laws are read, as a multiple of them."""
REACH = 1e4
"""By what factor of its FLOPs another contestant is looked for at an equal loss."""

Trend = Literal["grows", "holds", "shrinks", "vanishes", "none", "reversed", "unknown"]
Scores = Mapping[int, Sequence[float]]
"""By place on the ladder, the scores of the seeds."""


@dataclass(frozen=True)
class Range:
    """A number with the interval that holds it; None where one seed tells none."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Climb:
    """One contestant up the ladder.

    scores: by size, of the seeds that trained. causes: by size, why a training failed. law: of the mean distance from a
    perfect score against training FLOPs; None where there are fewer than two sizes to fit. ahead: that distance at
    `BEYOND` times the most FLOPs.
    """

    name: str
    contestants: tuple[Contestant, ...]
    scores: dict[int, tuple[float, ...]]
    causes: dict[int, str]
    law: PowerLaw | None
    ahead: Range | None

    def mean(self, at: int) -> Interval | None:
        """The mean score at a size."""
        return mean_interval(self.scores[at]) if self.scores.get(at) else None


@dataclass(frozen=True)
class Advantage:
    """The variant against one baseline.

    differences: by size, the variant's mean score minus the baseline's. gains: by size, by how much of the baseline's
    distance from a perfect score the variant is nearer: 0.02 is 2 %. slope: what the logarithm of the ratio of both
    distances grows by for ten times the FLOPs. equal_compute: how many times the variant's FLOPs the baseline needs by
    its law for the variant's loss at the last size; None where it never gets there.
    """

    baseline: str
    differences: dict[int, Interval]
    gains: dict[int, float]
    slope: Range | None
    equal_compute: float | None
    trend: Trend


@dataclass(frozen=True)
class Findings:
    """All that a ladder shows; the first climb is the variant's."""

    sizes: tuple[Size, ...]
    primary: Score
    climbs: tuple[Climb, ...]
    advantages: tuple[Advantage, ...]

    def to_data(self) -> dict[str, Any]:
        """Plain data that JSON takes."""
        return {
            "score": self.primary.name,
            "sizes": [asdict(size) for size in self.sizes],
            "climbs": [_climb_data(climb) for climb in self.climbs],
            "advantages": [_advantage_data(advantage) for advantage in self.advantages],
        }


def _climb_data(climb: Climb) -> dict[str, Any]:
    rows = [
        {**asdict(own), "scores": climb.scores.get(own.at, ()), "cause": climb.causes.get(own.at, "")}
        for own in climb.contestants
    ]
    law = climb.law and {key: value for key, value in asdict(climb.law).items() if math.isfinite(value)}
    return {"name": climb.name, "contestants": rows, "law": law, "ahead": climb.ahead and asdict(climb.ahead)}


def _advantage_data(advantage: Advantage) -> dict[str, Any]:
    rows = [
        {"at": at, "difference": own.mean, "half_width": _known(own.half_width), "gain": advantage.gains.get(at)}
        for at, own in advantage.differences.items()
    ]
    told = {"slope": advantage.slope and asdict(advantage.slope), "equal_compute": advantage.equal_compute}
    return {"baseline": advantage.baseline, "differences": rows, **told, "trend": advantage.trend}


def _known(number: float) -> float | None:
    return number if math.isfinite(number) else None


def findings(
    results: Mapping[LadderTraining, Scored], sizes: Sequence[Size], primary: Score, *, floor: bool = False
) -> Findings:
    """What the trainings of a ladder show; the first contestant is the variant. floor: see `power_laws.fit`."""
    names = dict.fromkeys(training.contestant.name for training in results)
    climbs = tuple(_climb(name, results, sizes, primary, floor) for name in names)
    advantages = tuple(_advantage(climbs[0], other, sizes, primary) for other in climbs[1:])
    return Findings(tuple(sizes), primary, climbs, advantages)


def _climb(
    name: str, results: Mapping[LadderTraining, Scored], sizes: Sequence[Size], primary: Score, floor: bool
) -> Climb:
    own = {training: scored for training, scored in results.items() if training.contestant.name == name}
    scores: dict[int, tuple[float, ...]] = {}
    causes: dict[int, str] = {}
    for training, scored in own.items():
        at = training.contestant.at
        if scored.score is None:
            causes[at] = scored.cause
        else:
            scores[at] = (*scores.get(at, ()), scored.score)
    scores = {at: values for at, values in sorted(scores.items()) if at not in causes}
    flops = [size.flops for size in sizes]

    law, far = _law(scores, flops, primary, floor), BEYOND * flops[-1]

    def ahead(drawn: Sequence[Scores]) -> float | None:
        own = _law(drawn[0], flops, primary, floor, may_break=law is not None and law.is_broken)
        return None if own is None else own(far)

    return Climb(
        name=name,
        contestants=tuple(dict.fromkeys(training.contestant for training in own)),
        scores=scores,
        causes=causes,
        law=law,
        ahead=_range([scores], ahead, name),
    )


def _law(
    scores: Scores, flops: Sequence[float], primary: Score, floor: bool, may_break: bool = True
) -> PowerLaw | None:
    losses = {at: loss(primary, fmean(values)) for at, values in scores.items()}
    if len(losses) < 2 or min(losses.values()) <= 0:  # a perfect score has no logarithm
        return None
    law = fit([flops[at] for at in losses], list(losses.values()), floor=floor, may_break=may_break)
    return law if law(BEYOND * flops[-1]) < law(flops[-1]) else None  # overfitting obeys no law


def loss(primary: Score, score: float) -> float:
    """How far a score is from perfect, in its own unit."""
    return abs(score - primary.perfect)


def _advantage(variant: Climb, baseline: Climb, sizes: Sequence[Size], primary: Score) -> Advantage:
    both = [at for at in variant.scores if at in baseline.scores]
    differences = {at: difference(variant.scores[at], baseline.scores[at]) for at in both}
    gains = {
        at: 1.0 - loss(primary, fmean(variant.scores[at])) / own
        for at in both
        if (own := loss(primary, fmean(baseline.scores[at])))
    }

    def slope(drawn: Sequence[Scores]) -> float | None:
        one, two = drawn
        pairs = [(loss(primary, fmean(one[at])), loss(primary, fmean(two[at]))) for at in both]
        if len(pairs) < 2 or min(min(pair) for pair in pairs) <= 0:
            return None
        across = [math.log10(sizes[at].flops) for at in both]
        return linear_regression(across, [math.log(two / one) for one, two in pairs]).slope

    found = _range([variant.scores, baseline.scores], slope, variant.name, baseline.name)
    last = sizes[both[-1]].flops if both else math.nan
    return Advantage(
        baseline=baseline.name,
        differences=differences,
        gains=gains,
        slope=found,
        equal_compute=_equal_compute(variant.law, baseline.law, last),
        trend=_trend(list(differences.values()), found, primary),
    )


def _trend(differences: list[Interval], slope: Range | None, primary: Score) -> Trend:
    """In a word, what the differences and the slope of the advantage say."""
    if slope is None or slope.low is None or slope.high is None:
        return "unknown"
    clear = [primary.is_better(found.mean, 0.0) for found in differences if found.is_clear]
    last = differences[-1]
    if not any(clear):
        return "reversed" if clear else "none"
    if slope.low > 0:
        return "grows"
    if slope.high >= 0:
        return "holds" if all(clear) else "none"
    if not last.is_clear:
        return "vanishes"
    return "shrinks" if primary.is_better(last.mean, 0.0) else "reversed"


def _equal_compute(variant: PowerLaw | None, baseline: PowerLaw | None, flops: float) -> float | None:
    """By bisection in the logarithm: laws fall where they matter."""
    if variant is None or baseline is None:
        return None
    wanted, low, high = variant(flops), flops / REACH, flops * REACH
    if not baseline(low) > wanted > baseline(high):
        return None
    while high / low > 1.0001:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if baseline(middle) > wanted else (low, middle)
    return high / flops


def _range(samples: Sequence[Scores], number: Callable[[Sequence[Scores]], float | None], *names: str) -> Range | None:
    """A number of some contestants' scores, and the interval of it over seeds drawn anew."""
    value = number(samples)
    if value is None:
        return None
    if min((len(values) for scores in samples for values in scores.values()), default=0) < 2:
        return Range(value, None, None)
    rng = Stream(0).child("ladder", *names).numpy()
    drawn = [number([_drawn(scores, rng) for scores in samples]) for _ in range(DRAWS)]
    known = [own for own in drawn if own is not None]
    if len(known) < len(drawn):  # of some draws no law was fitted: what the others say would be too sure
        return Range(value, None, None)
    freedom = sum(len(values) - 1 for scores in samples for values in scores.values())
    return Range(value, *drawn_interval(known, freedom))


def _drawn(scores: Scores, rng: np.random.Generator) -> dict[int, list[float]]:
    """One fewer of the seeds' scores at each size, drawn with replacement."""
    return {at: [values[i] for i in rng.integers(len(values), size=len(values) - 1)] for at, values in scores.items()}
