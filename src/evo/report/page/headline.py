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
    own = finite(best.get("bits_per_byte"))
    objective = f", objective {decimals(best.get('objective'))}"
    shown = joined(["Best variant ", link(best), f": {decimals(own)} held-out bits per byte{objective}. "])
    if seed is None or own is None:
        return _verdict("", "Best variant", shown, "No seed has a score to compare it with.")
    before = seed["bits_per_byte"]
    if seed["id"] == best["id"]:
        return _verdict(
            "no", "No variant has a higher objective than the seed", shown, "The best variant is the seed itself."
        )
    word = "lower than" if own < before else "not lower than"
    change = f"{signed(own - before)}, {signed_percent((own - before) / before)}" if before else signed(own - before)
    compared = joined(
        ["The best seed, ", link(seed), f", has {decimals(before)} with the same budget per candidate ({change})."]
    )
    warning = (
        "Children go on from their parents' trained weights, so a late child has seen more text than the seed: "
        "the control is the fair comparison."
    )
    paragraphs = [shown, compared, *([warning] if reading.inherits else [])]
    return _verdict("yes" if own < before else "no", f"Bits per byte {word} the best seed's", *paragraphs)


def _against_control(reading: Reading) -> Html:
    control = reading.control
    if control is None:
        return _verdict("", "No control", "The seed was not trained for as long as the winner's ancestry.")
    steps = counted(int(finite(control.get("steps")) or 0), "step")
    who = joined(
        ["Seed ", link(reading.by_id.get(str(control.get("seed"))), str(control.get("seed"))), f" trained for {steps}"]
    )
    bits, own = finite(control.get("control_bits_per_byte")), finite(control.get("winner_bits_per_byte"))
    if control.get("cause") or bits is None or own is None:
        cause = control.get("cause") or "no number"
        return _verdict("", "The control gave no score", joined([who, f" failed: {cause}."]))
    wins = bool(control.get("winner_beats_control"))
    title = "The winner beats the control" if wins else "The winner does NOT beat the control"
    change = f" ({signed_percent((own - bits) / bits)})" if bits else ""
    meaning = (
        "The gain over the seed is more than longer training of the seed gives."
        if wins
        else "Longer training of the seed gives as much or more: in bits per byte the search found nothing better."
    )
    text = f", as long as the winner and all its ancestors together: {decimals(bits)}. The winner: "
    scores = f"{decimals(own)}{change}."
    caution = "Each is one run: a small difference may be chance."
    return _verdict(
        "yes" if wins else "no", title, joined([who, text, scores]), joined([meaning, _cost(reading), caution], " ")
    )


def _cost(reading: Reading) -> str | None:
    """What the winner costs beside its seed, which no score in bits shows."""
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
        ("Lowest bits per byte", decimals((reading.lowest or {}).get("bits_per_byte")), _named(reading.lowest)),
        ("Variants tried", f"{len(reading.variants):,}", f"{len(reading.seeds):,} of them seeds"),
        ("Failures", f"{failed:,}", causes or "none"),
        ("Snapshots", _snapshot_ratio(report.get("snapshots")), _snapshot_loss(report.get("snapshots"))),
        ("Tokens trained on", short(trained.get("tokens")), "all variants, control left out"),
        ("Training FLOPs", short(trained.get("flops")), "by the plans, 3 x forward"),
        ("Evaluation time", figures.duration(report.get("seconds")), "summed over workers"),
    ]
    return [tag("div", tag("dt", name), tag("dd", value, tag("small", note))) for name, value, note in rows]


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
    return f"than fp32, median; bits {median} restored, worst {worst}"
