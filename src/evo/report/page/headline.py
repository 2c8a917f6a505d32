"""What the search found, in a minute: the verdicts in words, then the figures."""

from __future__ import annotations

from evo.report.page import figures
from evo.report.page.figures import counted, decimals, percent, short, signed, signed_percent
from evo.report.page.markup import Html, joined, tag
from evo.report.page.tables import link
from evo.report.record import Report, SnapshotFigures, Variant


def headline(report: Report) -> Html:
    """The name of the run, the two verdicts, and the figures."""
    last = len(report.generations) - 1
    about = [
        counted(max(0, last), "generation") + " after the seeds",
        counted(len(report.seeds), "seed"),
        f"random seed {report.evolve.seed}",
        f"on {report.device}",
    ]
    return tag(
        "header",
        tag("h1", report.name),
        tag("p", "evo search: " + ", ".join(about), class_="sub soft"),
        *(tag("p", f"Warning: {warning}", class_="sub") for warning in report.warnings),
        tag("div", _against_seed(report), _against_control(report), class_="verdict"),
        tag("dl", *_facts(report), class_="facts"),
    )


def _verdict(mood: str, title: str, *paragraphs: Html | str) -> Html:
    return tag("section", tag("h2", title), *(tag("p", text) for text in paragraphs), class_=mood)


def _against_seed(report: Report) -> Html:
    best, seed = report.best_variant, report.best_seed
    if best is None:
        return _verdict("no", "No best variant", "No candidate reached the archive.")
    primary, own = report.primary, best.score
    objective = f", objective {decimals(best.objective)}"
    shown = joined(["Best variant ", link(best), f": {decimals(own)} held-out {primary.label}{objective}. "])
    if seed is None or seed.score is None or own is None:
        return _verdict("", "Best variant", shown, "No seed has a score to compare it with.")
    before = seed.score
    if seed.id == best.id:
        return _verdict(
            "no", "No variant has a higher objective than the seed", shown, "The best variant is the seed itself."
        )
    is_better = primary.is_better(own, before)
    word = primary.comparative if is_better else f"not {primary.comparative}"
    change = f"{signed(own - before)}, {signed_percent((own - before) / before)}" if before else signed(own - before)
    compared = joined(
        ["The best seed, ", link(seed), f", has {decimals(before)} with the same budget per candidate ({change})."]
    )
    warning = (
        "Children go on from their parents' trained weights, so a late child has seen more text than the seed: "
        "the control is the fair comparison."
    )
    paragraphs = [shown, compared, *([warning] if report.inherits else [])]
    title = f"{primary.label.capitalize()} {word} than the best seed's"
    return _verdict("yes" if is_better else "no", title, *paragraphs)


def _against_control(report: Report) -> Html:
    control, primary = report.control, report.primary
    if control is None:
        return _verdict("", "No control", "The seed was not trained for as long as the winner's ancestry.")
    steps = counted(control.steps, "step")
    who = joined(["Seed ", link(report.by_id[control.seed]), f" trained for {steps}"])
    score, own = control.control_score, control.winner_score
    if score is None:
        return _verdict("", "The control gave no score", joined([who, f" failed: {control.cause}."]))
    wins = control.winner_beats_control
    title = "The winner beats the control" if wins else "The winner does NOT beat the control"
    change = f" ({signed_percent((own - score) / score)})" if score else ""
    meaning = (
        "The gain over the seed is more than longer training of the seed gives."
        if wins
        else f"Longer training of the seed gives as much or more: in {primary.label} the search found nothing better."
    )
    text = f", as long as the winner and all its ancestors together: {decimals(score)}. The winner: "
    scores = f"{decimals(own)}{change}."
    caution = "Each is one run: a small difference may be chance."
    return _verdict(
        "yes" if wins else "no", title, joined([who, text, scores]), joined([meaning, _cost(report), caution], " ")
    )


def _cost(report: Report) -> str | None:
    """What the winner costs beside its seed, which the task's score does not show."""
    best, seed = report.best_variant, report.own_seed
    if best is None or seed is None:
        return None
    parameters, flops = _times(best.parameters, seed.parameters), _times(best.flops_per_token, seed.flops_per_token)
    return f"The winner has {parameters}x the seed's parameters and {flops}x its FLOPs per token."


def _times(after: float, before: float) -> str:
    return f"{after / before:.2f}"


def _facts(report: Report) -> list[Html]:
    last = report.generations[-1] if report.generations else None
    failed = sum(report.failures.values())
    causes = ", ".join(f"{cause} {count:,}" for cause, count in sorted(report.failures.items()))
    cells = f"{len(report.cells):,} of {counted(len(report.centroids), 'cell')}" if report.centroids else ""
    leading = f"{report.primary.superlative.capitalize()} {report.primary.label}"
    rows: list[tuple[str, str, Html | str]] = [
        ("Coverage", percent(last and last.coverage), cells),
        ("QD score", decimals(last and last.qd_score, 3), "sum of the elites' objectives"),
        ("Best objective", decimals(last and last.best_objective), _named(report.best_variant)),
        (leading, decimals(report.leader and report.leader.score), _named(report.leader)),
        ("Variants tried", f"{len(report.variants):,}", f"{len(report.seeds):,} of them seeds"),
        ("Failures", f"{failed:,}", causes or "none"),
        ("Snapshots", _snapshot_ratio(report.snapshots), _snapshot_loss(report.snapshots)),
        ("Tokens trained on", short(report.trained.tokens), "all variants, control left out"),
        ("Training FLOPs", short(report.trained.flops), "by the plans, 3 x forward"),
        ("Evaluation time", figures.duration(report.seconds), "summed over workers"),
    ]
    return [tag("div", tag("dt", name), tag("dd", value, tag("small", note))) for name, value, note in rows]


def _named(variant: Variant | None) -> Html | str:
    return link(variant) if variant else ""


def _snapshot_ratio(taken: SnapshotFigures | None) -> str:
    return figures.NOTHING if taken is None else f"{taken.median_ratio:.0f}x smaller"


def _snapshot_loss(taken: SnapshotFigures | None) -> str:
    if taken is None:
        return "none taken"
    median, worst = (signed_percent(value, 2) for value in (taken.median_increase, taken.worst_increase))
    return f"than fp32, median; loss {median} restored, worst {worst}"
