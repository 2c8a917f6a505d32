"""What a verdict says, in one record: the heading, its mood and the sentences that every reader of a report gets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from evo.dsl.task import Score

if TYPE_CHECKING:
    from evo.evolution.verdict import Comparison, Contestant, Verdict

Mood = Literal["yes", "no", ""]


@dataclass(frozen=True)
class Conclusion:
    """mood: `yes` for a find, `no` for none, empty where nothing can be said. title: in a few words."""

    mood: Mood
    title: str
    sentences: tuple[str, ...]


def conclusion(verdict: Verdict | None, primary: Score, seeds: int) -> Conclusion:
    """What follows from a verdict, or from there being none. seeds: how many it is to be over."""
    if verdict is None:
        why = (
            "the run has not ended with a best variant"
            if seeds
            else "the search was told to leave it out (verify.seeds is 0)"
        )
        return Conclusion("", "No verdict", (f"Nothing was trained from scratch: {why}.",))
    mood, title = _heading(verdict, primary)
    return Conclusion(mood, title, (_terms(verdict), *_standings(verdict, primary), *_inheritance(verdict)))


def _heading(verdict: Verdict, primary: Score) -> tuple[Mood, str]:
    compared, led = verdict.against_best, verdict.leader_against_best
    if verdict.winner == verdict.best_seed and verdict.leader == verdict.best_seed:
        return "no", "Nothing better than the seed was found"
    if verdict.found == verdict.winner:
        return "yes", f"Better than the best seed by {_by(compared, '')} {primary.label}"
    if verdict.found is not None:
        return "yes", f"The variant of the {primary.superlative} score is better than the best seed by {_by(led, '')}"
    if verdict.winner == verdict.best_seed:  # then the leader is another, and no better
        return "no", "Nothing better than the seed was found"
    if compared.outcome == "worse":
        return "no", f"Worse than the best seed by {_by(compared, '')} {primary.label}"
    if compared.outcome == "within noise":
        return "", f"Within noise of the best seed: {_by(compared)} {primary.label}"
    if compared.difference is not None:
        return "", "One training each cannot tell a difference from noise"
    return "", "No verdict: a training from scratch failed"


def _terms(verdict: Verdict) -> str:
    times = "once" if verdict.seeds == 1 else f"over {verdict.seeds} seeds"
    return f"Trained from scratch for {verdict.budget} each, {times}, and scored on text that the search did not read."


def _standings(verdict: Verdict, primary: Score) -> list[str]:
    by_id = verdict.by_id
    roles: dict[str, list[str]] = {}
    for id, role in (
        (verdict.winner, "best objective"),
        (verdict.leader, f"{primary.superlative} {primary.label}"),
        (verdict.best_seed, "best seed"),
        (verdict.own_seed, "seed of the winner's line"),
    ):
        roles.setdefault(id, []).append(role)
    told = {
        verdict.own_seed: ("the winner is", verdict.against_own),
        verdict.best_seed: ("the winner is", verdict.against_best),
    }
    if verdict.leader != verdict.winner:
        told[verdict.leader] = ("it is", verdict.leader_against_best)
    lines: list[str] = []
    for id, named in roles.items():
        who, compared = told.get(id, ("", None))
        known = compared if compared is not None and compared.one != compared.two else None
        lines.append(f"{id} ({', '.join(named)}): {_score(by_id[id])}{_against(who, known, id)}.")
    return lines


def _inheritance(verdict: Verdict) -> list[str]:
    """What the weights were worth that the winner inherited."""
    compared = verdict.inheritance
    if compared is None:
        return []
    told = "unknown, as a training failed"
    if compared.difference is not None:
        shown = f"{compared.difference:+.4f}" if compared.half_width is None else _by(compared)
        told = shown if compared.half_width is None else f"{shown} ({compared.outcome})"
    return [f"Inherited weights against a start from scratch, at equal compute with the ancestors' included: {told}."]


def _score(contestant: Contestant) -> str:
    if contestant.mean is None:
        return f"a training failed ({contestant.cause})"
    return f"{contestant.mean:.4f} after {contestant.steps:,} steps"


def _against(who: str, compared: Comparison | None, id: str) -> str:
    if compared is None or compared.difference is None:
        return ""
    other = "the best seed" if compared.two != id else "it"
    if compared.half_width is None:
        return f"; {who} {compared.difference:+.4f} against {other}"
    words = {"better": "better than", "worse": "worse than", "within noise": "within noise of"}
    return f"; {who} {words.get(compared.outcome, 'beside')} {other} ({_by(compared)})"


def _by(compared: Comparison, sign: str = "+") -> str:
    """The difference with its interval, with the sign that the scores give it or, with an empty `sign`, without one."""
    assert compared.difference is not None
    assert compared.half_width is not None
    shown = f"{compared.difference:+.4f}" if sign else f"{abs(compared.difference):.4f}"
    return f"{shown} \N{PLUS-MINUS SIGN} {compared.half_width:.4f}"
