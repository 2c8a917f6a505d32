"""`evo train CFG`: one organism, one run, one checkpoint."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from evo.base.rundirs import run_of
from evo.base.signals import TERMINATED, TerminatedError
from evo.cli import view
from evo.cli.documents import Json, Kernels, Overrides, overridden, read_valid
from evo.cli.options import MOST_STEPS, MOST_THREADS

WEIGHTS = ".safetensors"
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]


def command(
    cfg: Annotated[Path, typer.Argument(help="The organism; or a checkpoint or a variant's snapshot to go on from.")],
    steps: Annotated[int | None, typer.Option(min=1, help="Optimizer steps; the document's if left out.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where checkpoint.safetensors goes; results/NAME if left out.")
    ] = None,
    overrides: Overrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in --out.")] = False,
    device: Device = "auto",
    kernels: Kernels = "auto",
    save_every: Annotated[int, typer.Option(min=1, max=MOST_STEPS, help="Steps between checkpoints.")] = 500,
    threads: Annotated[int | None, typer.Option(min=1, max=MOST_THREADS, help="CPU threads.")] = None,
    as_json: Json = False,
) -> None:
    """Train an organism on its task.

    Prints the held-out score at the end and leaves checkpoint.safetensors and metrics.jsonl in --out. An interrupted
    run goes on with --resume, to the same weights as an uninterrupted one. A checkpoint, or the snapshot of a run's
    variant, in place of the document is gone on from: --steps says to which step in all.
    """
    from evo.cli.watching import training_bar
    from evo.evolution.onward import begun
    from evo.evolution.rundir import root_of
    from evo.training.run import TrainingRun

    if cfg.suffix == WEIGHTS:
        if overrides:
            raise typer.BadParameter(
                "a training goes on with its own settings; --steps alone may change", param_hint="--set"
            )
        folder = out or cfg.parent
        if out is None and run_of(cfg.resolve()) is not None:
            raise typer.BadParameter("a variant's training goes on in a folder of its own", param_hint="--out")
        document, root = begun(cfg, folder)
        resume = True
    else:
        (loaded,) = read_valid(cfg, overrides=overrides)
        document, root = loaded.document, root_of(cfg)
        folder = out or Path("results") / (document.name or cfg.stem)
    overridden(document, "train", {"steps": steps})  # the checkpoint keeps the document's own, which it resumes
    run = TrainingRun.open(
        document,
        root,
        folder,
        device,
        kernels=kernels,
        steps=steps,
        resume=resume,
        threads=threads,
    )
    for line in [f"warning: {warning}" for warning in run.warnings] if as_json else run.describe():
        view.say(line, file=sys.stderr if as_json else sys.stdout)
    try:
        with training_bar(run.trainer.steps, quiet=as_json) as on_step:
            result = run.carry_out(on_step, save_every)
    except KeyboardInterrupt as error:
        if run.file.exists():
            view.say(f"\nstopped; {run.file} holds what was trained, and --resume goes on from it", file=sys.stderr)
        if isinstance(error, TerminatedError):
            raise typer.Exit(TERMINATED) from None
        raise
    for warning in result.warnings[len(run.warnings) :]:
        view.say(f"warning: {warning}", file=sys.stderr)
    if as_json:
        view.print_json("train", result.to_data())
        return
    view.say(
        f"held-out {result.scores[result.primary.name]:.4f} {result.primary.label} after {result.step} steps "
        f"({result.tokens_per_second:,.0f} tokens/s); {result.checkpoint}"
    )
