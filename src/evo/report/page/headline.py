"""What the search found, in a minute: the verdicts in words, then the figures."""

from __future__ import annotations

from evo.report.page import figures
from evo.report.page.figures import counted, decimals, finite, percent, short, signed, signed_percent
from evo.report.page.markup import Html, joined, tag
from evo.report.page.reading import Reading, Record
from evo.report.page.tables import link


def headline(reading: Reading) -> Html:
    """The name of the run, the two verdicts, and the figures."""
    report = reading.report
    last = len(reading.generations) - 1
    about = [
        counted(max(0, last), "generation") + " after the seeds",
        counted(len(reading.seeds), "seed"),
        f"random seed {figures.NOTHING if report.get('seed') is None else report['seed']}",
        f"on {report.get('device') or 'an unknown device'}",
    ]
    return tag(
        "header",
        tag("h1", reading.name),
        tag("p", "evo search: " + ", ".join(about), class_="sub soft"),
        tag("div", _against_seed(reading), _against_control(reading), class_="verdict"),
        tag("dl", *_facts(reading), class_="facts"),
    )


def _verdict(mood: str, title: str, *paragraphs: Html | str) -> Html:
    return tag("section", tag("h2", title), *(tag("p", text) for text in paragraphs), class_=mood)


def _against_seed(reading: Reading) -> Html:
    best, seed = reading.best, reading.best_seed
    if best is None:
        return _verdict("no", "No best variant", "No candidate reached the archive.")
    primary, own = reading.primary, reading.score(best)
    objective = f", objective {decimals(best.get('objective'))}"
    shown = joined(["Best variant ", link(best), f": {decimals(own)} held-out {primary.label}{objective}. "])
    if seed is None or own is None:
        return _verdict("", "Best variant", shown, "No seed has a score to compare it with.")
    before = seed[primary.name]
    if seed["id"] == best["id"]:
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
    paragraphs = [shown, compared, *([warning] if reading.inherits else [])]
    title = f"{primary.label.capitalize()} {word} than the best seed's"
    return _verdict("yes" if is_better else "no", title, *paragraphs)


def _against_control(reading: Reading) -> Html:
    control = reading.control
    if control is None:
        return _verdict("", "No control", "The seed was not trained for as long as the winner's ancestry.")
    steps = counted(int(finite(control.get("steps")) or 0), "step")
    who = joined(
        ["Seed ", link(reading.by_id.get(str(control.get("seed"))), str(control.get("seed"))), f" trained for {steps}"]
    )
    primary = reading.primary
    score, own = (finite(control.get(f"{whose}_{primary.name}")) for whose in ("control", "winner"))
    if control.get("cause") or score is None or own is None:
        cause = control.get("cause") or "no number"
        return _verdict("", "The control gave no score", joined([who, f" failed: {cause}."]))
    wins = bool(control.get("winner_beats_control"))
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
        "yes" if wins else "no", title, joined([who, text, scores]), joined([meaning, _cost(reading), caution], " ")
    )


def _cost(reading: Reading) -> str | None:
    """What the winner costs beside its seed, which the task's score does not show."""
    best, seed = reading.best or {}, reading.own_seed or {}
    ratios = [_times(best.get(key), seed.get(key)) for key in ("parameters", "flops_per_token")]
    if None in ratios:
        return None
    return f"The winner has {ratios[0]}x the seed's parameters and {ratios[1]}x its FLOPs per token."


def _times(after: object, before: object) -> str | None:
    first, second = finite(before), finite(after)
    return f"{second / first:.2f}" if first and second is not None else None


def _facts(reading: Reading) -> list[Html]:
    report, last = reading.report, reading.last
    trained = report.get("trained") or {}
    failed = sum(reading.failures.values())
    causes = ", ".join(f"{cause} {count:,}" for cause, count in sorted(reading.failures.items()))
    cells = f"{len(reading.cells):,} of {counted(len(reading.centroids), 'cell')}" if reading.centroids else ""
    rows: list[tuple[str, str, Html | str]] = [
        ("Coverage", _coverage(reading), cells),
        ("QD score", decimals(last.get("qd_score"), 3), "sum of the elites' objectives"),
        ("Best objective", decimals(last.get("best_objective")), _named(reading.best)),
        (_leading(reading), decimals(reading.score(reading.leader)), _named(reading.leader)),
        ("Variants tried", f"{len(reading.variants):,}", f"{len(reading.seeds):,} of them seeds"),
        ("Failures", f"{failed:,}", causes or "none"),
        ("Snapshots", _snapshot_ratio(report.get("snapshots")), _snapshot_loss(report.get("snapshots"))),
        ("Tokens trained on", short(trained.get("tokens")), "all variants, control left out"),
        ("Training FLOPs", short(trained.get("flops")), "by the plans, 3 x forward"),
        ("Evaluation time", figures.duration(report.get("seconds")), "summed over workers"),
    ]
    return [tag("div", tag("dt", name), tag("dd", value, tag("small", note))) for name, value, note in rows]


def _leading(reading: Reading) -> str:
    return f"{reading.primary.superlative.capitalize()} {reading.primary.label}"


def _named(variant: Record | None) -> Html | str:
    return link(variant) if variant else ""


def _coverage(reading: Reading) -> str:
    share, total = reading.last.get("coverage"), len(reading.centroids)
    return percent(len(reading.cells) / total if share is None and total else share)


def _snapshot_ratio(taken: Record | None) -> str:
    ratio = finite((taken or {}).get("median_ratio"))
    return figures.NOTHING if ratio is None else f"{ratio:.0f}x smaller"


def _snapshot_loss(taken: Record | None) -> str:
    if not taken:
        return "none taken"
    median, worst = (signed_percent(taken.get(key), 2) for key in ("median_increase", "worst_increase"))
    return f"than fp32, median; loss {median} restored, worst {worst}"
