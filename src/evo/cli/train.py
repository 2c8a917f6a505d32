"""`evo train CFG`: one organism, one run, one checkpoint."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evo.base.memory import keep_freed
from evo.base.rundirs import run_of
from evo.base.signals import TERMINATED, TerminatedError
from evo.cli import view
from evo.cli.documents import Json, Kernels, Overrides, overridden, read_valid
from evo.cli.options import MOST_STEPS, MOST_THREADS, Device
from evo.cli.tracking import Track, trackers_of

if TYPE_CHECKING:
    from evo.dsl.document import Document
    from evo.dsl.tracker import TrackerSpec
    from evo.training.loop import Progress
    from evo.training.run import TrainingRun, TrainResult

WEIGHTS = ".safetensors"


def command(
    cfg: Annotated[
        Path, typer.Argument(help="The organism; or a checkpoint, its folder, or a variant's snapshot, to go on from.")
    ],
    steps: Annotated[int | None, typer.Option(min=1, help="Optimizer steps; the document's if left out.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where checkpoint.safetensors goes; results/NAME if left out.")
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(
            "--from", help="A checkpoint, its folder, or a variant's snapshot, whose weights the organism starts with."
        ),
    ] = None,
    overrides: Overrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in --out.")] = False,
    seeds: Annotated[
        int | None,
        typer.Option(min=1, max=1000, help="Train once a seed, from the document's on, each in a folder."),
    ] = None,
    stacked: Annotated[
        bool, typer.Option("--stacked", help="Train the --seeds as one: faster for tiny models on a CPU.")
    ] = False,
    device: Device = "auto",
    kernels: Kernels = "auto",
    save_every: Annotated[int, typer.Option(min=1, max=MOST_STEPS, help="Steps between checkpoints.")] = 500,
    track: Track = None,
    threads: Annotated[int | None, typer.Option(min=1, max=MOST_THREADS, help="CPU threads.")] = None,
    as_json: Json = False,
) -> None:
    """Train an organism on its task.

    Prints the held-out score at the end and leaves checkpoint.safetensors and metrics.jsonl in --out. An interrupted
    run goes on with --resume, to the same weights as an uninterrupted one. A checkpoint, or the snapshot of a run's
    variant, in place of the document is gone on from: --steps says to which step in all. --from starts a training of
    its own from such weights, as far as names and shapes are alike: fine-tuning. --seeds trains over several seeds
    and prints mean, standard deviation and 95 % interval; with --stacked each step is one for all of them.
    """
    from evo.evolution.onward import begun
    from evo.evolution.rundir import root_of
    from evo.training.checkpoint import FILE

    cfg = cfg / FILE if (cfg / FILE).is_file() else cfg
    if cfg.suffix == WEIGHTS:
        for option, given in (("--set", overrides), ("--seeds", seeds), ("--from", start)):
            if given:
                raise typer.BadParameter("a training goes on with its own settings", param_hint=option)
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
    trackers = trackers_of(track)
    settings = _Settings(root, device, kernels, steps, threads, save_every, trackers, as_json, start)
    if stacked and seeds is None:
        raise typer.BadParameter("it stacks the trainings of --seeds", param_hint="--stacked")
    if seeds is not None:
        _over_seeds(document, folder, seeds, resume, settings, stacked)
        return
    result = _trained(document, folder, resume, settings)
    if as_json:
        view.print_json("train", result.to_data())


@dataclass(frozen=True)
class _Settings:
    """What all trainings of one call have in common."""

    root: Path
    device: str
    kernels: str
    steps: int | None
    threads: int | None
    save_every: int
    trackers: tuple[TrackerSpec, ...]
    as_json: bool
    start: Path | None = None


def _trained(document: Document, folder: Path, resume: bool, settings: _Settings) -> TrainResult:
    """Train under a bar, and say what came of it."""
    run = _opened(document, folder, resume, settings)
    if not settings.as_json:
        for line in run.describe():
            view.say_wrapped(line)
    with _watched([run], settings) as on_step:
        result = run.carry_out(on_step, settings.save_every, settings.trackers)
    _report(run, result, settings)
    return result


def _opened(document: Document, folder: Path, resume: bool, settings: _Settings, mode: str = "auto") -> TrainingRun:
    """A run that is ready to train, after what is to be said of how it begins."""
    from evo.evolution.onward import started
    from evo.training.run import TrainingRun

    keep_freed()
    start = None if settings.start is None or resume else started(document, settings.start)
    run = TrainingRun.open(
        document,
        settings.root,
        folder,
        settings.device,
        kernels=settings.kernels,
        steps=settings.steps,
        weights=None if start is None else start.weights,
        resume=resume,
        threads=settings.threads,
        mode=mode,
    )
    if not settings.as_json and start is not None:
        view.say(start.describe())
    if settings.as_json:
        for warning in run.warnings:
            view.say(f"warning: {warning}", file=sys.stderr)
    return run


@contextmanager
def _watched(runs: list[TrainingRun], settings: _Settings) -> Iterator[Callable[[Progress], None]]:
    """A bar for the first of them; says what is left of all when they are interrupted."""
    from evo.cli.watching import training_bar

    try:
        with training_bar(runs[0].trainer.steps, begun=runs[0].trainer.step, quiet=settings.as_json) as on_step:
            yield on_step
    except KeyboardInterrupt as error:
        for run in runs:
            if run.file.exists():
                view.say(f"\nstopped; {run.file} holds what was trained, and --resume goes on from it", file=sys.stderr)
        if isinstance(error, TerminatedError):
            raise typer.Exit(TERMINATED) from None
        raise


def _report(run: TrainingRun, result: TrainResult, settings: _Settings) -> None:
    from evo.report.life import write_life

    for warning in result.warnings[len(run.warnings) :]:
        view.say(f"warning: {warning}", file=sys.stderr)
    folder, document = run.file.parent, run.document
    drawn = write_life(folder, document.name or folder.name, result.step) if document.train.life else None
    if not settings.as_json:
        if drawn is not None:
            view.say(f"life of the pools: {drawn}")
        view.say(
            f"held-out {result.scores[result.primary.name]:.4f} {result.primary.label} after {result.step} steps "
            f"({result.tokens_per_second:,.0f} tokens/s)"
        )
        view.say(f"checkpoint: {result.checkpoint}")


def _stacked(
    documents: list[Document], places: list[Path], resumes: list[bool], settings: _Settings
) -> list[TrainResult] | None:
    """Train all as one; None, with a warning that says why, where that cannot be."""
    from evo.training.run import carry_out_stacked
    from evo.training.stacked import StackError

    given = zip(documents, places, resumes, strict=True)
    runs = [_opened(document, place, resume, settings, "eager") for document, place, resume in given]
    if not settings.as_json:
        view.say(f"{view.plural(len(runs), 'seed')} trained as one, each:")
        for line in runs[0].describe():
            view.say_wrapped(line)
    try:
        with _watched(runs, settings) as on_step:
            results = carry_out_stacked(runs, on_step, settings.save_every, settings.trackers)
    except StackError as error:
        view.say(f"warning: trained one after the other: {error}", file=sys.stderr)
        return None
    for run, result in zip(runs, results, strict=True):
        _report(run, result, settings)
    return results


def _over_seeds(document: Document, folder: Path, seeds: int, resume: bool, settings: _Settings, stacked: bool) -> None:
    """Train once a seed, and say how far the scores lie apart."""
    from statistics import stdev

    from evo.base.intervals import mean_interval
    from evo.evolution.evaluate import seeded
    from evo.training.checkpoint import FILE

    documents = [seeded(document, count) for count in range(seeds)]
    places = [folder / f"seed_{own.train.seed}" for own in documents]
    resumes = [resume and (place / FILE).exists() for place in places]
    results = _stacked(documents, places, resumes, settings) if stacked else None
    if results is None:
        given = zip(documents, places, resumes, strict=True)
        results = [_trained(own, place, resumed, settings) for own, place, resumed in given]
    primary = results[0].primary
    scores = [result.scores[primary.name] for result in results]
    interval, spread = mean_interval(scores), stdev(scores) if seeds > 1 else None
    if settings.as_json:
        half = interval.half_width if seeds > 1 else None
        told = {"score": primary.name, "mean": interval.mean, "sd": spread, "half_width": half}
        view.print_json("train", {"trainings": [result.to_data() for result in results], **told})
        return
    around = "one seed tells no spread"
    if spread is not None:
        around = f"sd {spread:.4f}, 95 % interval \u00b1{interval.half_width:.4f}"
    view.say(f"over {view.plural(seeds, 'seed')}: {interval.mean:.4f} {primary.label}, {around}")
