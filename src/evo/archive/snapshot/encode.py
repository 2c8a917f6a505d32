"""The smallest snapshot whose held-out loss, measured after restoring, stays within a tolerance.

One distortion level serves all matrices: every coefficient that is kept is off by the same share of its layer's output
power, and parts of a change that hold less than that are dropped, so that bytes go where they move outputs most. Levels
fall step by step, from nothing kept to 8 bits throughout; each one tried is restored and measured, and as the loss
grows about in proportion to the level, a measurement tells where to try next. The held-out text comes in parts, and a
level that is far off after the first of them is given up there. Where no level will do, half precision follows, and at
last the trained weights themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain

import torch
from torch import Tensor

from evo.archive.snapshot.change import ChangeStack
from evo.archive.snapshot.record import EncodedTensor, Snapshot, SnapshotError, relative_increase
from evo.archive.snapshot.restore import digest_weights, restore

Evaluate = Callable[[dict[str, Tensor]], Iterable[float]]
EncodedTensors = tuple[EncodedTensor, ...]

PER_DECADE = 16  # finer steps change the loss by less than the noise of measuring it
LEVELS = [10.0 ** (-2 - rung / PER_DECADE) for rung in range(11 * PER_DECADE + 1)]
USUAL = 1.5e-5  # level by tolerance in the middle of a score of small models: where to begin
GUESSES, TRIES = 5, 8  # after so many guesses the levels are bisected, after so many tries the best found is taken
AIM, NEAR = 0.92, 0.7  # of the tolerance: what a guess aims at, and from where on no smaller snapshot is looked for
HOPELESS = 1.3  # of the tolerance: more than that on the first part, and the others are not measured


def encode(
    base: Mapping[str, Tensor],
    trained: Mapping[str, Tensor],
    moments: Mapping[str, Tensor],
    evaluate: Evaluate,
    tolerance: float = 0.01,
    metadata: Mapping[str, str] | None = None,
    losses_trained: Sequence[float] | None = None,
) -> Snapshot:
    """The smallest snapshot of `trained` whose measured loss is within the tolerance. It always finds one.

    Args:
        base: floating tensors by name, the weights before training; a tied tensor once.
        trained: the same names and shapes after training. What is computed is computed where they are.
        moments: for matrices (out, in) used as x W^T, the (in, in) second moment of the inputs; for tables (vocab,
            width), the (vocab,) counts of the rows; nothing for equal weights. Names without a tensor are ignored.
        evaluate: weights by name (in the base's dtypes) to held-out losses, one a part of the text and all of equal
            weight, each measured when it is asked for; lower is better. Called most often one to three times, at most
            ten times, and once more for the trained weights.
        tolerance: the relative increase of the mean loss that is allowed, at least 0.
        metadata: text to keep with the snapshot (parent, spec hash, ...).
        losses_trained: those of the trained weights, if they are known already.

    Raises:
        SnapshotError: names, shapes or dtypes that do not fit, weights or a trained loss that are not finite.
    """
    if not 0.0 <= tolerance < math.inf:
        raise SnapshotError(f"a tolerance is finite and at least 0, not {tolerance}")
    unchanged, stacks = _stacked(base, trained, moments)
    if losses_trained is None:
        losses_trained = list(map(float, evaluate({name: trained[name].detach().clone() for name in base})))
    loss_trained = math.fsum(losses_trained) / len(losses_trained)
    if not math.isfinite(loss_trained):
        raise SnapshotError(f"the held-out loss of the trained weights is {loss_trained}: nothing to compare with")
    digest, evaluations, here = digest_weights(base), 0, {name: base[name].to(trained[name].device) for name in base}

    before = losses_trained

    def measured(pieces: Iterable[EncodedTensor], limit: float = math.inf) -> Snapshot:
        nonlocal evaluations
        evaluations += 1
        held = tuple(sorted((*unchanged, *pieces), key=lambda piece: piece.name))
        draft = Snapshot(held, digest, tolerance, loss_trained, math.nan, 0, dict(metadata or {}))
        losses = evaluate(restore(here, draft, check_base=False))
        return replace(draft, loss_restored=_mean(before, losses, limit))

    def at_level(level: float) -> Snapshot:
        return measured(chain(*(stack.at(level) for stack in stacks)), HOPELESS * tolerance)

    found = _search(at_level, tolerance)
    if found is None:
        found = measured(chain(*(stack.half() for stack in stacks)))
    if not found.increase <= tolerance:
        found = measured(chain(*(stack.whole() for stack in stacks)))
    return replace(found, evaluations=evaluations, pieces=tuple(piece.on_host() for piece in found.pieces))


def _mean(before: Sequence[float], after: Iterable[float], limit: float) -> float:
    """The mean loss after; told by the first part alone where that is higher by more than the limit, a relative one."""
    rest, count = iter(after), len(before)
    first = float(next(rest))
    if count > 1 and relative_increase(before[0], first) > limit:
        return math.fsum(before) / count + first - before[0]
    return math.fsum([first, *map(float, rest)]) / count


def _stacked(
    base: Mapping[str, Tensor], trained: Mapping[str, Tensor], moments: Mapping[str, Tensor]
) -> tuple[list[EncodedTensor], list[ChangeStack]]:
    """The tensors without a change, and the others in stacks of one shape and one kind of moment."""
    differing = sorted(base.keys() ^ trained.keys())
    if differing:
        raise SnapshotError(f"base and trained weights differ in names: only one of them has '{differing[0]}'")
    unchanged, groups = list[EncodedTensor](), dict[tuple[object, ...], list[str]]()
    for name in sorted(base):
        _require_fit(name, base[name], trained[name])
        if torch.equal(trained[name].detach().float(), base[name].detach().to(trained[name].device).float()):
            unchanged.append(EncodedTensor(name, tuple(base[name].shape), "same", 0, ()))
            continue
        moment = moments.get(name)
        groups.setdefault((base[name].shape, None if moment is None else moment.ndim), []).append(name)
    return unchanged, [_stack(names, base, trained, moments) for names in groups.values()]


def _require_fit(name: str, base: Tensor, trained: Tensor) -> None:
    if base.shape != trained.shape:
        raise SnapshotError(f"tensor '{name}': base of shape {tuple(base.shape)}, trained {tuple(trained.shape)}")
    if not (base.is_floating_point() and trained.is_floating_point()):
        raise SnapshotError(f"tensor '{name}': base {base.dtype}, trained {trained.dtype}; not floating")
    if not (base.isfinite().all() and trained.isfinite().all()):
        raise SnapshotError(f"tensor '{name}' has numbers that are infinite or NaN")


def _stack(
    names: list[str], base: Mapping[str, Tensor], trained: Mapping[str, Tensor], moments: Mapping[str, Tensor]
) -> ChangeStack:
    trained_G = torch.stack([trained[name].detach().float() for name in names])
    base_G = torch.stack([base[name].detach().to(trained_G) for name in names])
    return ChangeStack(tuple(names), trained_G.double() - base_G.double(), trained_G, tuple(map(moments.get, names)))


def _search(measured: Callable[[float], Snapshot], tolerance: float) -> Snapshot | None:
    """The highest level within the tolerance, or one close to it; None where there is none.

    It is taken that all levels below one that is within are so too.
    """
    low, high, best = 0, len(LEVELS), None
    guess, seen = _rung(USUAL * tolerance), dict[int, float]()
    for tried in range(1, TRIES + 1):
        rung = min(max(guess, low), high - 1)
        found = measured(LEVELS[rung])
        if found.increase <= tolerance:
            high, best = rung, found
        else:
            low = rung + 1
        if low >= high or (best and best.increase >= NEAR * tolerance):
            break
        guess = (low + high) // 2
        if 0.0 < found.increase < math.inf and tolerance > 0.0:
            seen[rung] = math.log10(found.increase / tolerance)
            if tried < GUESSES:
                guess = round(rung + (seen[rung] - math.log10(AIM)) * PER_DECADE / _slope(seen))
    return best


def _slope(seen: Mapping[int, float]) -> float:
    """By how many powers of ten the loss grows with one of the level, about: by the last two measurements."""
    if len(seen) < 2:
        return 1.0
    (rung_1, increase_1), (rung_2, increase_2) = list(seen.items())[-2:]
    return min(max((increase_1 - increase_2) * PER_DECADE / (rung_2 - rung_1), 0.5), 2.0)


def _rung(level: float) -> int:
    """The first rung at or below a level."""
    return math.ceil((-2 - math.log10(level)) * PER_DECADE - 1e-9) if level > 0.0 else len(LEVELS)
