"""`evo ladder VARIANT BASELINE... --sizes 1M,4M,16M`: does what a variant is better by hold as models grow?"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evo.cli import view
from evo.cli.documents import Json, Kernels, Overrides, read_valid, require_distinct
from evo.cli.options import MOST_SECONDS, MOST_THREADS, Device, finite
from evo.cli.scale import By, size_of

if TYPE_CHECKING:
    from evo.evolution.ladder.records import Scored
    from evo.evolution.ladder.trainings import LadderTraining


def command(
    variant: Annotated[Path, typer.Argument(help="The document that is thought to be better.")],
    baselines: Annotated[list[Path], typer.Argument(metavar="BASELINE", help="What it is held against.")],
    sizes: Annotated[str, typer.Option(help="Numbers of parameters, such as 300k,1M,4M.")] = "1M,4M,16M",
    way: By = "stretching",
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Trainings of each at each size.")] = 3,
    flops: Annotated[
        float | None,
        typer.Option(
            min=1,
            callback=finite,
            help="Training FLOPs at the smallest size; by default the variant's own tokens a parameter.",
        ),
    ] = None,
    irreducible: Annotated[
        bool, typer.Option("--irreducible", help="Fit a loss that no compute removes, where there are 4 sizes or more.")
    ] = False,
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="Where it goes; results/NAME_ladder if left out.")] = None,
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
        typer.Option(min=1, max=MOST_SECONDS, callback=finite, help="The longest one training may take."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Train a variant and baselines at several sizes.

    All get equal FLOPs at each size, and are scored on text that no search reads. Fits a power law to each, and says
    whether the variant's advantage grows, holds or vanishes. Leaves ladder.json and ladder.html in --out; the same
    command goes on where it was stopped, and trains only what is missing.
    """
    from evo.base.files import write_atomic
    from evo.dsl.budget import MOST_AMOUNT
    from evo.dsl.canonical import to_yaml
    from evo.dsl.relocate import relocated
    from evo.evolution.ladder.climb import carry_out
    from evo.evolution.ladder.trainings import ladder_sizes
    from evo.evolution.run import default_workers
    from evo.evolution.rundir import root_of
    from evo.evolution.settings import Settings
    from evo.report.ladder import PAGE, conclusions, page, rows
    from evo.training.device import choose_device

    paths = [variant, *baselines]
    require_distinct(paths, "BASELINE...")
    loaded, root = read_valid(*paths, overrides=overrides), root_of(variant)
    own = [relocated(x.document, root_of(path), root) for path, x in zip(paths, loaded, strict=True)]
    documents = dict(zip(_names(paths, [x.name for x in own]), own, strict=True))
    chosen = str(choose_device(device))
    settings = Settings(
        seeds=tuple(map(to_yaml, own)),
        root=str(root),
        evolve=own[0].evolve,
        device=chosen,
        kernels=kernels,
        workers=default_workers(chosen, own) if workers is None else workers,
        max_seconds=max_seconds,
    )

    def told(number: int, of: int, training: LadderTraining, scored: Scored) -> None:
        came = scored.cause if scored.score is None else f"{scored.score:.4f} {settings.primary.label}"
        view.say(f"{number}/{of} {training.label}: {came} ({scored.seconds:.0f} s)", file=sys.stderr, flush=True)

    rungs = ladder_sizes(own[0], [size_of(text, "--sizes") for text in sizes.split(",")], flops)
    if rungs[-1].flops > MOST_AMOUNT:
        message = f"the largest size would get {rungs[-1].flops:.3g} FLOPs; there may be {MOST_AMOUNT:.0e} at most"
        raise typer.BadParameter(message, param_hint="--flops")
    folder = out or Path("results") / f"{next(iter(documents))}_ladder"
    found = carry_out(
        folder,
        documents,
        rungs,
        settings,
        seeds=seeds,
        way=way,
        floor=irreducible,
        on_scored=told,
    )
    write_atomic(folder / PAGE, page(found))
    if as_json:
        view.print_json("ladder", {**found.to_data(), "conclusions": conclusions(found), "out": str(folder)})
        return
    view.say(view.table(rows(found), left=2))
    view.say("\n".join(["", *conclusions(found), f"report: {folder / PAGE}"]))


def _names(paths: list[Path], written: list[str | None]) -> list[str]:
    """What the documents are called: by their names, or their files', or their paths where these are not unique."""
    names = [name or path.stem for name, path in zip(written, paths, strict=True)]
    often = Counter(names)
    return [name if often[name] == 1 else str(path) for name, path in zip(names, paths, strict=True)]
