"""The smallest snapshot whose held-out loss, measured after restoring, stays within a tolerance.

One distortion level serves all matrices: every coefficient that is kept is off by the same share of its layer's output
power, and parts of a change that hold less than that are dropped, so that bytes go where they move outputs most. Levels
fall along the levels, from nothing kept to 8 bits throughout; each one tried is restored and measured, and as the loss
grows about in proportion to the level, a measurement tells where to try next. Where no level will do, half precision
follows, and at last the trained weights themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from evo.archive.snapshot.delta import TensorDelta
from evo.archive.snapshot.record import EncodedTensor, Snapshot, SnapshotError
from evo.archive.snapshot.restore import digest_weights, restore

Evaluate = Callable[[dict[str, Tensor]], float]
EncodedTensors = tuple[EncodedTensor, ...]

PER_DECADE = 16  # finer steps change the loss by less than the noise of measuring it
LEVELS = [10.0 ** (-2 - rung / PER_DECADE) for rung in range(11 * PER_DECADE + 1)]
USUAL = 1.5e-5  # level by tolerance in the middle of a score of small models: where to begin
GUESSES, TRIES = 5, 8  # after so many guesses the levels is bisected, after so many tries the best found is taken
AIM, NEAR = 0.9, 0.8  # of the tolerance: what a guess aims at, and from where on no smaller snapshot is looked for


def encode(
    base: Mapping[str, Tensor],
    trained: Mapping[str, Tensor],
    moments: Mapping[str, Tensor],
    evaluate: Evaluate,
    tolerance: float = 0.01,
    metadata: Mapping[str, str] | None = None,
) -> Snapshot:
    """The smallest snapshot of `trained` whose measured loss is within the tolerance. It always finds one.

    Args:
        base: floating tensors by name, the weights before training; a tied tensor once.
        trained: the same names and shapes after training.
        moments: for matrices (out, in) used as x W^T, the (in, in) second moment of the inputs; for tables (vocab,
            width), the (vocab,) counts of the rows; nothing for equal weights. Names without a tensor are ignored.
        evaluate: weights by name (CPU, in the base's dtypes) to held-out loss, lower is better; called once for the
            trained weights, then most often one to three times, at most eleven times in all.
        tolerance: the relative increase of the loss that is allowed, at least 0.
        metadata: text to keep with the snapshot (parent, spec hash, ...).

    Raises:
        SnapshotError: names, shapes or dtypes that do not fit, weights or a trained loss that are not finite.
    """
    deltas = _subjects(base, trained, moments)
    if not 0.0 <= tolerance < math.inf:
        raise SnapshotError(f"a tolerance is finite and at least 0, not {tolerance}")
    loss_trained = float(evaluate({name: trained[name].detach().clone() for name in base}))
    if not math.isfinite(loss_trained):
        raise SnapshotError(f"the held-out loss of the trained weights is {loss_trained}: nothing to compare with")
    digest, evaluations = digest_weights(base), 1

    def measured(pieces: EncodedTensors) -> Snapshot:
        nonlocal evaluations
        evaluations += 1
        draft = Snapshot(pieces, digest, tolerance, loss_trained, math.nan, 0, dict(metadata or {}))
        return replace(draft, loss_restored=float(evaluate(restore(base, draft, check_base=False))))

    found = _search(lambda level: measured(tuple(delta.at(level) for delta in deltas)), tolerance)
    if found is None:
        found = measured(tuple(delta.half() for delta in deltas))
    if not found.increase <= tolerance:
        found = measured(tuple(delta.whole() for delta in deltas))
    return replace(found, evaluations=evaluations)


def _subjects(
    base: Mapping[str, Tensor], trained: Mapping[str, Tensor], moments: Mapping[str, Tensor]
) -> tuple[TensorDelta, ...]:
    differing = sorted(base.keys() ^ trained.keys())
    if differing:
        raise SnapshotError(f"base and trained weights differ in names: only one of them has '{differing[0]}'")
    return tuple(_delta(name, base[name], trained[name], moments.get(name)) for name in sorted(base))


def _delta(name: str, base: Tensor, trained: Tensor, moment: Tensor | None) -> TensorDelta:
    if base.shape != trained.shape:
        raise SnapshotError(f"tensor '{name}': base of shape {tuple(base.shape)}, trained {tuple(trained.shape)}")
    if not (base.is_floating_point() and trained.is_floating_point()):
        raise SnapshotError(f"tensor '{name}': base {base.dtype}, trained {trained.dtype}; not floating")
    before, after = (tensor.detach().to("cpu", torch.float32) for tensor in (base, trained))
    if not (before.isfinite().all() and after.isfinite().all()):
        raise SnapshotError(f"tensor '{name}' has numbers that are infinite or NaN")
    return TensorDelta(name, before, after, moment)


def _search(measured: Callable[[float], Snapshot], tolerance: float) -> Snapshot | None:
    """The highest level within the tolerance, or one close to it; None where there is none.

    It is taken that all levels below one that is within are so too.
    """
    low, high, best = 0, len(LEVELS), None
    guess = _rung(USUAL * tolerance)
    for tried in range(1, TRIES + 1):
        rung = min(max(guess, low), high - 1)
        found = measured(LEVELS[rung])
        if found.increase <= tolerance:
            high, best = rung, found
        else:
            low = rung + 1
        if low >= high or (best and best.increase >= NEAR * tolerance):
            break
        is_telling = 0.0 < found.increase < math.inf and tolerance > 0.0
        guess = (low + high) // 2
        if is_telling and tried < GUESSES:
            guess = _rung(LEVELS[rung] * AIM * tolerance / found.increase)
    return best


def _rung(level: float) -> int:
    """The first rung at or below a level."""
    return math.ceil((-2 - math.log10(level)) * PER_DECADE - 1e-9) if level > 0.0 else len(LEVELS)
