"""`evo bench train|step|kernels|probe|archive|pool|candidates`: side by side, in one run."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.base.files import require_writable
from evo.cli import view
from evo.cli.documents import Json, Overrides
from evo.cli.options import finite

command = typer.Typer(
    add_completion=False, no_args_is_help=True, rich_markup_mode=None, help="Measure speed side by side."
)
Out = Annotated[Path | None, typer.Option(help="Also write the table here, as Markdown.")]
Device = Annotated[str, typer.Option(help="cpu or cuda.")]


@command.command()
def train(
    rounds: Annotated[int, typer.Option(min=1, max=10_000, help="How often every model is timed.")] = 7,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Training throughput beside a plain torch GPT.

    On one CPU thread, in the same shape, in float32 and in bf16.
    """
    from evo.bench.tables import markdown, write_table
    from evo.bench.training import measure

    if out is not None:
        require_writable(out)
    rows = measure(rounds)
    head = ("model", "parameters", "tokens/s", "times the plain GPT", "from", "to", "in bf16, tokens/s", "times fp32")
    cells: list[tuple[str, ...]] = [head]
    for row in rows:
        ratios = tuple(f"{ratio:.2f}" for ratio in (row.ratio, row.ratio_low, row.ratio_high))
        speed, in_bf16 = f"{row.tokens_per_second:,.0f}", f"{row.in_bf16:,.0f}"
        cells.append((row.name, f"{row.parameters:,}", speed, *ratios, in_bf16, f"{row.gain:.2f}"))
    if out is not None:
        title = "Training throughput, one CPU thread, width 192, 4 layers, 6 heads, context 192, batch 6"
        write_table(out, title, f"evo bench train --rounds {rounds}", markdown(cells))
    if as_json:
        view.print_json("bench train", {"rows": [asdict(row) for row in rows]})
    else:
        view.say(view.table(cells))


@command.command()
def step(
    out: Annotated[Path, typer.Option(help="Where the table goes, as Markdown.")] = Path("results/bench/step.md"),
    rounds: Annotated[int, typer.Option(min=1, max=10_000, help="How often every way is timed.")] = 9,
    as_json: Json = False,
) -> None:
    """A captured training step beside torch.compile.

    Of a tiny GPT on a GPU; beside plain torch and its CUDA graph too.
    """
    _require_cuda()
    from evo.bench.step import cells, write

    require_writable(out)
    report = write(out, rounds)
    if as_json:
        view.print_json("bench step", asdict(report))
    else:
        view.say(view.table(cells(report.rows)))


@command.command()
def memory(
    out: Annotated[Path, typer.Option(help="Where the table goes, as Markdown.")] = Path("results/bench/memory.md"),
    as_json: Json = False,
) -> None:
    """Memory of a captured step beside torch.compile.

    Of a GPT of 99 M parameters on a GPU.
    """
    _require_cuda()
    from evo.bench.memory import cells, write

    require_writable(out)
    rows = write(out)
    if as_json:
        view.print_json("bench memory", {"rows": [asdict(row) for row in rows]})
    else:
        view.say(view.table(cells(rows)))


@command.command()
def probe(
    device: Device = "cpu",
    rounds: Annotated[int, typer.Option(min=1, max=10_000, help="How often every candidate is evaluated.")] = 3,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """What the causality probe takes of a candidate's time."""
    from evo.bench.probe import SHAPES, cells, measure
    from evo.bench.tables import markdown, write_table

    _require(device, SHAPES)
    rows = measure(device, rounds)
    if out is not None:
        title = "The causality probe's share of one candidate: trained, scored, probed, measured, with its snapshot"
        write_table(out, title, f"evo bench probe --device {device} --rounds {rounds}", markdown(cells(rows)))
    if as_json:
        view.print_json("bench probe", {"rows": [asdict(row) for row in rows]})
    else:
        view.say(view.table(cells(rows)))


@command.command()
def archive(
    rounds: Annotated[int, typer.Option(min=1, max=10_000, help="How often each archive is filled.")] = 7,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """The archive beside pyribs', with equal results."""
    from evo.bench.archive import cells, measure
    from evo.bench.tables import markdown, write_table

    try:
        report = measure(rounds)
    except ImportError:
        help = "pip install ribs"
        raise DiagnosticError([Diagnostic("EVO510", "pyribs is not installed", None, help)]) from None
    took = f"centroids of 10,000 cells: {report.centroids:.2f} s of one core"
    if out is not None:
        title = "The archive beside pyribs': processor time of one call, five measures"
        write_table(out, title, f"evo bench archive --rounds {rounds}", f"{markdown(cells(report))}\n\n{took}")
    if as_json:
        view.print_json("bench archive", asdict(report))
    else:
        view.say(view.table(cells(report)))
        view.say(took)


@command.command()
def kernels(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Where the table goes, as Markdown.")] = Path("results/bench/kernels.md"),
    only: Annotated[list[str] | None, typer.Option(help="Only the cases whose name begins so.")] = None,
    as_json: Json = False,
) -> None:
    """Our kernels on a GPU beside the best public ones.

    Those are SDPA, FlexAttention and, where installed, flash-linear-attention and Liger Kernel.

    Each row is told on stderr as soon as it is measured.
    """
    _require_cuda()
    from evo.bench.kernels import check_names, run

    try:
        check_names(only or ())
    except ValueError as error:
        raise typer.BadParameter(str(error), context, param_hint="--only") from None
    require_writable(out)
    report = run(out, only or ())
    if as_json:
        view.print_json("bench kernels", report.to_data())
    else:
        view.say(report.to_markdown())


@command.command()
def pool(
    device: Device = "cpu",
    rounds: Annotated[int, typer.Option(min=2, max=10_000, help="How often every way is timed.")] = 5,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """A step with a living pool beside a static one.

    And beside attention of the same heads; and what elites take.
    """
    from evo.bench.pool import SETTINGS, cells, elites_megabytes, measure
    from evo.bench.tables import markdown, write_table

    _require(device, SETTINGS)
    if out is not None:
        require_writable(out)
    rows, megabytes = measure(device, rounds), elites_megabytes()
    took = f"1,000 elites of a head of 64 at width 512, weights of full rank: {megabytes:.0f} MB"
    if out is not None:
        title = "A pool of pseudopods beside attention of the same heads: one training step"
        write_table(
            out, title, f"evo bench pool --device {device} --rounds {rounds}", f"{markdown(cells(rows))}\n\n{took}"
        )
    if as_json:
        view.print_json("bench pool", {"rows": [asdict(row) for row in rows], "elites_mb": megabytes})
    else:
        view.say(view.table(cells(rows)))
        view.say(took)


@command.command()
def candidates(
    device: Device = "cpu",
    workers: Annotated[
        list[int] | None, typer.Option(min=1, max=1024, help="Processes of a search; may be repeated. 1 if left out.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=1, max=86_400, callback=finite, help="How long each search goes.")] = 60,
    overrides: Overrides = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Candidates an hour of `evo evolve`, all included.

    On a GPU with a cold and a warm cache of kernels.

    Candidates have about 3.2 M parameters and 2 M tokens on a GPU, 1.8 M and 0.14 M on a CPU. The table is written
    whenever a search ended.
    """
    from evo.bench.candidates import SIZES, cells, measure
    from evo.bench.tables import markdown, write_table

    _require(device, SIZES)
    numbers = workers or [1]
    if out is not None:
        require_writable(out)
    title = f"Candidates an hour of one search: {SIZES[device]}"
    said = " ".join([*(f"--workers {number}" for number in numbers), *(f"--set {value}" for value in overrides or ())])
    rates = []
    for rate in measure(device, numbers, seconds, overrides or ()):
        rates.append(rate)
        if out is not None:
            ran = f"evo bench candidates --device {device} {said} --seconds {seconds:g}"
            write_table(out, title, ran, markdown(cells(rates)))
        if not as_json:
            view.say(view.table(cells(rates)))
    if as_json:
        view.print_json("bench candidates", {"rows": [asdict(rate) for rate in rates]})


def _require(device: str, known: Collection[str]) -> None:
    """Refuse a device that there are no sizes for, or that is not there (EVO510)."""
    from evo.training.device import choose_device

    if device not in known:
        raise typer.BadParameter(f"'{device}' is not one of: {', '.join(known)}", param_hint="--device")
    choose_device(device)


def _require_cuda() -> None:
    """Raise DiagnosticError (EVO510) on a machine without a CUDA device."""
    from evo.training.device import choose_device

    choose_device("cuda")
