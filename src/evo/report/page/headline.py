"""What the search found, in a minute: the verdicts in words, then the figures."""

from __future__ import annotations

from datetime import UTC, datetime

from evo.report.page import figures
from evo.report.page.contestants import contestants
from evo.report.page.figures import counted, decimals, duration, percent, short, signed, signed_percent
from evo.report.page.markup import Html, joined, tag
from evo.report.page.tables import link
from evo.report.record import Occasion, Report, SnapshotFigures, Variant


def headline(report: Report) -> Html:
    """The name of the run, the verdict, what the search saw, and the figures."""
    last = len(report.generations) - 1
    about = [
        counted(max(0, last), "generation") + " after the seeds",
        counted(len(report.seeds), "seed"),
        f"random seed {report.evolve.seed}",
        f"on {_device(report)}",
    ]
    occasion = report.occasion
    return tag(
        "header",
        tag("h1", report.name),
        tag("p", "evo search: " + ", ".join(about), class_="sub soft"),
        tag("p", _when(occasion), class_="sub soft"),
        *(tag("p", text, class_="sub soft") for text in _begun(report)),
        *(tag("p", f"Warning: {warning}", class_="sub") for warning in report.warnings),
        tag("div", _concluded(report), _in_the_search(report), class_="verdict"),
        tag("dl", *_facts(report), class_="facts"),
    )


def _device(report: Report) -> str:
    gpu = report.occasion.versions.get("gpu", "")
    return f"{report.device} ({gpu})" if gpu and report.device != "cpu" else report.device


def _when(occasion: Occasion) -> str:
    """Corpora, date and versions in a line."""
    parts = ["corpus " + ", ".join(occasion.corpora)] if occasion.corpora else []
    if occasion.began is not None:
        parts.append(f"begun {datetime.fromtimestamp(occasion.began, UTC):%Y-%m-%d %H:%M} UTC")
    shown = ("evo", "torch", "python", "platform")
    parts += [f"{name} {occasion.versions[name]}" for name in shown if name in occasion.versions]
    return ", ".join(parts)


def _begun(report: Report) -> list[Html]:
    """What each seed of a warm search began from."""
    told = [(report.by_id.get(seed), founder) for seed, founder in report.founders.items()]
    return [joined(["Seed ", link(seed), f" began from the {founder}."]) for seed, founder in told if seed is not None]


def _verdict(mood: str, title: str, *paragraphs: Html | str, drawing: Html | None = None) -> Html:
    return tag("section", tag("h2", title), *(tag("p", text) for text in paragraphs), drawing, class_=mood)


def _concluded(report: Report) -> Html:
    """The verdict, in the colour of its outcome."""
    said = report.conclusion
    return _verdict(said.mood, said.title, *said.sentences, joined([_cost(report)]), drawing=contestants(report))


def _in_the_search(report: Report) -> Html:
    """What the search saw, which decides nothing: it chose by these numbers."""
    best, seed = report.best_variant, report.best_seed
    if best is None:
        return _verdict("", "No best variant", "No candidate reached the archive.")
    primary, own = report.primary, best.score
    shown = joined(
        [
            *("Best variant ", link(best), f": {decimals(own)} held-out {primary.label}, "),
            f"objective {decimals(best.objective)}. ",
        ]
    )
    if seed is None or seed.score is None or own is None:
        return _verdict("", "In the search", shown, "No seed has a score to compare it with.")
    before = seed.score
    if seed.id == best.id:
        return _verdict("", "In the search", shown, "The best variant is the seed itself.")
    change = f"{signed(own - before)}, {signed_percent((own - before) / before)}" if before else signed(own - before)
    compared = joined(["The best seed, ", link(seed), f", has {decimals(before)} at equal compute ({change})."])
    caution = "The best of many single trials is lucky, and the search chose by these scores: the verdict is fair."
    return _verdict("", "In the search", shown, compared, caution)


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
        ("Tokens trained on", short(report.trained.tokens), "all trials, the verdict left out"),
        ("Training FLOPs", short(report.trained.flops), "by the plans, 3 x forward"),
        ("Wall time", duration(report.occasion.wall_s), "while trials went on, the verdict left out"),
        ("Device time", duration(report.occasion.busy_s), "of trials, summed over workers"),
        ("Noise", decimals(report.noise), f"standard deviation of {report.primary.label} in one trial"),
    ]
    if report.surrogate is not None:
        own = report.surrogate
        note = f"rank correlation of guesses with scores, {counted(own.count, 'candidate')} that it chose"
        rows.append((f"Surrogate {own.kind}", signed(own.correlation, 2), note))
        note = f"rank correlation with scores of what halves of {counted(own.curves, 'learning curve')} foretell"
        rows.append(("Half the training", signed(own.foresight, 2), note))
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
