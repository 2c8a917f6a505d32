"""The smallest snapshot whose held-out loss, measured after restoring, stays within a tolerance.

First come low-rank plans: a part of a matrix's change is kept where it moves the layer's outputs by a given share of
their power for each byte it costs. One threshold serves all matrices, so that one whose change is spread thin (a table,
noise of the optimizer) does not take the bytes; an equal share of the energy in every matrix instead gave files 0.97x
to 1.55x as large at the same loss (eight tiny GPTs). Where no threshold will do, the whole change follows in 4 bits,
8 bits, half precision, and at last the trained weights themselves. Plans are bisected and each one tried is measured,
so what is returned was measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from evo.archive.snapshot.record import Snapshot, SnapshotError
from evo.archive.snapshot.restore import digest_weights, restore
from evo.archive.snapshot.subject import Choice, Subject

Evaluate = Callable[[dict[str, Tensor]], float]
Plan = tuple[Choice, ...]

RUNGS = 33
DECADES = 5.5  # from the most that a byte can be worth down to the last low-rank rung
DENSE = ("int4", "int8", "half")
EXACT = "float"


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
            trained weights, then five or six times where the change is of low rank, at most nine times elsewhere.
        tolerance: the relative increase of the loss that is allowed, at least 0.
        metadata: text to keep with the snapshot (parent, spec hash, ...).

    Raises:
        SnapshotError: names, shapes or dtypes that do not fit, weights or a trained loss that are not finite.
    """
    subjects = _subjects(base, trained, moments)
    if not 0.0 <= tolerance < math.inf:
        raise SnapshotError(f"a tolerance is finite and at least 0, not {tolerance}")
    loss_trained = float(evaluate({name: trained[name].detach().clone() for name in base}))
    if not math.isfinite(loss_trained):
        raise SnapshotError(f"the held-out loss of the trained weights is {loss_trained}: nothing to compare with")
    digest, evaluations = digest_weights(base), 1

    def measured(plan: tuple[Choice, ...]) -> Snapshot:
        nonlocal evaluations
        evaluations += 1
        pieces = tuple(subject.encode(choice) for subject, choice in zip(subjects, plan, strict=True))
        draft = Snapshot(pieces, digest, tolerance, loss_trained, math.nan, 0, dict(metadata or {}))
        return replace(draft, loss_restored=float(evaluate(restore(base, draft, check_base=False))))

    found = (
        _bisect(_low_rank_plans(subjects), measured, tolerance)
        or _bisect(_dense_plans(subjects, DENSE), measured, tolerance)
        or measured(_dense_plans(subjects, (EXACT,))[0])
    )
    return replace(found, evaluations=evaluations)


def _subjects(
    base: Mapping[str, Tensor], trained: Mapping[str, Tensor], moments: Mapping[str, Tensor]
) -> tuple[Subject, ...]:
    differing = sorted(base.keys() ^ trained.keys())
    if differing:
        raise SnapshotError(f"base and trained weights differ in names: only one of them has '{differing[0]}'")
    return tuple(_subject(name, base[name], trained[name], moments.get(name)) for name in sorted(base))


def _subject(name: str, base: Tensor, trained: Tensor, moment: Tensor | None) -> Subject:
    if base.shape != trained.shape:
        raise SnapshotError(f"tensor '{name}': base of shape {tuple(base.shape)}, trained {tuple(trained.shape)}")
    if not (base.is_floating_point() and trained.is_floating_point()):
        raise SnapshotError(f"tensor '{name}': base {base.dtype}, trained {trained.dtype}; not floating")
    before, after = (tensor.detach().to("cpu", torch.float32) for tensor in (base, trained))
    if not (before.isfinite().all() and after.isfinite().all()):
        raise SnapshotError(f"tensor '{name}' has numbers that are infinite or NaN")
    return Subject(name, before, after, moment)


def _low_rank_plans(subjects: tuple[Subject, ...]) -> list[Plan]:
    """Distinct plans by falling threshold, that is, by rising bytes, none above 4 bits throughout."""
    most = max((subject.worth for subject in subjects), default=0.0)
    worths = [most * 10.0 ** (-DECADES * (rung + 1) / RUNGS) for rung in range(RUNGS)]
    return list(dict.fromkeys(tuple(subject.low_rank(worth) for subject in subjects) for worth in worths))


def _dense_plans(subjects: tuple[Subject, ...], methods: tuple[str, ...]) -> list[Plan]:
    return list(dict.fromkeys(tuple(subject.dense(method) for subject in subjects) for method in methods))


def _bisect(plans: list[Plan], measured: Callable[[Plan], Snapshot], tolerance: float) -> Snapshot | None:
    """The first plan within the tolerance, taking it that all later ones are too; None where that finds none."""
    low, high, best = 0, len(plans), None
    while low < high:
        middle = (low + high) // 2
        found = measured(plans[middle])
        if found.increase <= tolerance:
            high, best = middle, found
        else:
            low = middle + 1
    return best
