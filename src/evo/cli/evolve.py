"""`evo evolve CFG...`: the search."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evo.base.signals import TERMINATED, TerminatedError, termination_raised
from evo.cli import view
from evo.cli.documents import Json, Kernels, Overrides, overridden, read_valid, require_distinct
from evo.cli.options import MOST_GIB, MOST_SECONDS, MOST_THREADS, Device, finite, with_fields
from evo.cli.tracking import Track, trackers_of
from evo.dsl.engine import EngineSpec
from evo.dsl.evolve import EvolveSpec

if TYPE_CHECKING:
    from evo.evolution.observer import Observer
    from evo.evolution.settings import Settings


@with_fields(EvolveSpec)
def command(
    cfgs: Annotated[list[Path], typer.Argument(metavar="CFG", help="The seeds; the first one's settings hold.")],
    out: Annotated[Path | None, typer.Option(help="The run directory; results/NAME if left out.")] = None,
    overrides: Overrides = None,
    device: Device = "auto",
    kernels: Kernels = "auto",
    workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=MOST_THREADS,
            help="Processes; 0 runs in this one. By default as many as cores and GPUs allow.",
        ),
    ] = None,
    max_seconds: Annotated[
        float | None,
        typer.Option(min=1, max=MOST_SECONDS, callback=finite, help="The longest one candidate may train."),
    ] = None,
    max_memory: Annotated[
        float | None,
        typer.Option(min=0.1, max=MOST_GIB, callback=finite, help="The most memory of one worker, in GiB."),
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="Of the cluster that --engine ray runs on; auto: this machine's.")
    ] = None,
    warm: Annotated[
        bool,
        typer.Option("--warm", help="Begin from the weights of CFG..., variants of runs, or runs for their best."),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a run that is in --out already.")] = False,
    dry: Annotated[
        bool, typer.Option("--dry-run", help="Begin nothing: measure a few steps, and say what the search would take.")
    ] = False,
    track: Track = None,
    as_json: Json = False,
    **fields: Any,
) -> None:
    """Evolve a population of documents.

    Leaves every variant as YAML with a low-rank snapshot of its weights, the journal, search_report.json and
    report.html in --out. `evo resume` continues a run that was stopped, to the same result.

    --warm begins from a finished run's weights: every candidate is trained on from what they are in it, the compute
    behind them is charged, and the verdict holds them against a start from scratch at equal compute.

    The options from --generations on are the document's `evolve`: what it says holds where one is left out, and the
    default where it says nothing. `evo explain evolve` tells what may stand for YAML: a kind's name, or as in
    '{seeds: 5}'.
    """
    from evo.dsl.canonical import to_yaml
    from evo.dsl.relocate import relocated
    from evo.evolution.run import default_workers, start
    from evo.evolution.rundir import root_of
    from evo.evolution.settings import Settings, budget_after
    from evo.evolution.warm import variant_in, warmed
    from evo.training.device import choose_device

    if warm:
        cfgs = [variant_in(cfg) for cfg in cfgs]
    else:
        require_distinct(cfgs, "CFG...")
    if address is not None:
        if not isinstance(fields["engine"], dict):
            raise typer.BadParameter("it is the address of an engine: --engine ray", param_hint="--address")
        fields["engine"] = {**fields["engine"], "address": address}
    loaded = read_valid(*cfgs, overrides=overrides)
    evolve = overridden(loaded[0].document, "evolve", fields).evolve
    workers = _workers(evolve.engine, workers, max_memory)
    chosen = str(choose_device(device))
    root = root_of(cfgs[0])
    settings = Settings(
        seeds=tuple(to_yaml(relocated(x.document, root_of(cfg), root)) for cfg, x in zip(cfgs, loaded, strict=True)),
        root=str(root),
        evolve=evolve,
        device=chosen,
        kernels=kernels,
        workers=default_workers(chosen, [x.document for x in loaded]) if workers is None else workers,
        max_seconds=max_seconds,
        max_memory_bytes=None if max_memory is None else int(max_memory * 2**30),
        budget=budget_after(loaded[0].document),
    )
    founders: tuple[bytes, ...] = ()
    if warm:
        settings, founders = warmed(settings, cfgs)
    if dry:
        _forecast(settings, as_json)
        return
    folder = out or Path("results") / (loaded[0].document.name or cfgs[0].stem)
    trackers = trackers_of(track)
    carry_out(
        folder,
        settings,
        as_json,
        lambda observer: start(folder, settings, observer, force=force, founders=founders, trackers=trackers),
    )


def _workers(engine: EngineSpec | None, workers: int | None, max_memory: float | None) -> int | None:
    """How many workers are asked for: 0 with an engine that has none; None if the machine shall decide."""
    if engine is not None and not engine.has_workers:
        if workers:
            raise typer.BadParameter(f"engine {engine.label} has none", param_hint="--workers")
        workers = 0
    if max_memory is not None and workers == 0:
        raise typer.BadParameter("it limits workers, of which there are none", param_hint="--max-memory")
    return workers


def _described(settings: Settings, folder: Path) -> str:
    """What is about to happen, on a line."""
    from evo.dsl.canonical import plain
    from evo.dsl.document import parse
    from evo.dsl.spec import spec_fields
    from evo.dsl.yaml.writer import flow

    evolve, seeds = settings.evolve, len(settings.seeds)
    where = view.plural(settings.workers, "worker") if settings.workers else "in this process"
    task = parse(settings.seeds[0]).document.train.task
    learned = {key: plain(getattr(task, field.name), field) for key, field in spec_fields(type(task)).items()}
    candidates = seeds + evolve.generations * evolve.population
    made = f"{view.plural(seeds, 'seed')} and {view.plural(evolve.generations, 'generation')} of {evolve.population}"
    return (
        f"{folder}: {view.plural(candidates, 'candidate')} ({made}) on {settings.device}, {where}; "
        f"{task.label} {flow(learned)}{_begun(settings)}"
    )


def _begun(settings: Settings) -> str:
    """What the seeds begin from, where a search is begun warm."""
    return "".join(f"; seed {slot} begins from the {founder}" for slot, founder in enumerate(settings.founders))


def _forecast(settings: Settings, as_json: bool) -> None:
    from dataclasses import asdict

    from evo.evolution.forecast import forecast
    from evo.report.page.figures import duration

    found = forecast(settings)
    if as_json:
        founders = [founder.model_dump() for founder in settings.founders]
        view.print_json("evolve", {"dry_run": {**asdict(found), "founders": founders}})
        return
    rows = [("seed", "parameters", "memory", "steps", "FLOPs", "s/step", "s/candidate")]
    for seed in found.seeds:
        sizes = (view.count(seed.parameters), f"{view.count(seed.memory_bytes)}B", f"{seed.steps:,}")
        rows.append((seed.name, *sizes, f"{seed.flops:.2e}", f"{seed.step_s:.3g}", f"{seed.train_s:.3g}"))
    view.say(view.table(rows))
    view.say()
    view.say_wrapped(
        f"{found.candidates} candidates and up to {found.verdict_trainings} trainings of the verdict: about "
        f"{found.flops:.2e} FLOPs and {duration(found.seconds)} on {settings.device} with "
        f"{view.plural(max(1, found.workers), 'worker')}, if all cost what the seeds do{_begun(settings)}"
    )


def carry_out(
    folder: Path, settings: Settings, as_json: bool, run: Callable[[Observer], None], whose: str = "evolve"
) -> None:
    """Run a search under the live table, then write and show its reports. whose: the command whose JSON it is."""
    from evo.cli.watching import SearchTable, Warned
    from evo.report.search import summary_lines, write_reports

    try:
        with termination_raised():
            if as_json:
                run(Warned())
            else:
                evolve = settings.evolve
                opening = _described(settings, folder)
                with SearchTable(evolve.generations, evolve.population, settings.primary, opening) as table:
                    run(table)
    except KeyboardInterrupt as error:
        view.say(f"\nstopped; `evo resume {shlex.quote(str(folder))}` continues", file=sys.stderr)  # stdout may be JSON
        if isinstance(error, TerminatedError):
            raise typer.Exit(TERMINATED) from None
        raise
    report = write_reports(folder)
    if as_json:
        view.print_json(whose, report.to_data())
    else:
        view.say("\n".join(summary_lines(report)))
