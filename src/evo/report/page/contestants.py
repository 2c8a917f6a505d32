"""The trainings behind a verdict: a row a contestant, a dot a seed, a stroke at the mean."""

from __future__ import annotations

from evo.report.page.figures import counted, decimals
from evo.report.page.markup import Html, tag
from evo.report.page.scale import Scale, around, spelled, ticks
from evo.report.record import Report

WIDTH, ROW, LEFT, RIGHT = 420, 24, 72.0, 408.0


def contestants(report: Report) -> Html | None:
    """The drawing, or None where there is no verdict or nothing was scored."""
    verdict = report.verdict
    scored = [one for one in verdict.contestants if one.scores] if verdict else []
    if verdict is None or not scored:
        return None
    roles = {id: place for place, id in reversed([*enumerate((verdict.winner, verdict.leader, verdict.best_seed))])}
    across = around([score for one in scored for score in one.scores], LEFT, RIGHT)
    bottom = ROW * len(scored)
    told = "; ".join(f"{one.id}: {', '.join(decimals(score) for score in one.scores)}" for one in scored)
    rows = [
        row
        for place, one in enumerate(scored)
        for row in _row(one.id, one.scores, one.mean, across, ROW * (place + 0.5), f"chosen{roles.get(one.id, 3)}")
    ]
    return tag(
        "svg",
        *_axis(across, bottom, report.primary.label),
        *rows,
        viewBox=f"0 0 {WIDTH} {bottom + 36}",
        role="img",
        aria_label=f"{counted(verdict.seeds, 'training')} each. {told}",
        class_="contestants",
    )


def _row(id: str, scores: tuple[float, ...], mean: float | None, across: Scale, y: float, look: str) -> list[Html]:
    dots = [
        tag(
            "circle",
            tag("title", f"{id}, seed {seed}: {decimals(score)}"),
            cx=f"{across(score):.1f}",
            cy=f"{y:.1f}",
            r=4,
            class_=f"dot {look}",
            data_id=id,
        )
        for seed, score in enumerate(scores)
    ]
    name = tag("text", id, x=LEFT - 10, y=f"{y + 4:.1f}", text_anchor="end", class_="name")
    stroke = None if mean is None else tag("path", d=f"M{across(mean):.1f} {y - 9:.1f}v18", class_=f"mean {look}")
    return [name, *dots, *([stroke] if stroke else [])]


def _axis(across: Scale, bottom: int, label: str) -> list[Html]:
    columns = ticks(across.low, across.high)
    lines = "".join(f"M{across(x):.1f} 2V{bottom}" for x in columns)
    numbers = [
        tag("text", text, x=f"{across(x):.1f}", y=bottom + 15, text_anchor="middle")
        for x, text in zip(columns, spelled(columns), strict=True)
    ]
    name = tag("text", label, x=(LEFT + RIGHT) / 2, y=bottom + 32, text_anchor="middle")
    return [tag("path", d=lines, class_="axis"), *numbers, name]
