"""The commands that go on from here."""

from __future__ import annotations

import shlex
from pathlib import PurePosixPath

from evo.report.page.markup import Html, tag
from evo.report.record import Report


def next_commands(report: Report) -> Html:
    """The section with the command lines."""
    note = (
        "Type these where the run was started: paths are as it was given them. Settings and versions are in run.yaml."
    )
    rows = [part for say, line in _lines(report) for part in (tag("p", say), tag("pre", line))]
    return tag("section", tag("h2", "To repeat it", id="repeat"), tag("p", note, class_="soft"), *rows)


def _lines(report: Report) -> list[tuple[str, str]]:
    run = PurePosixPath(report.run)
    found = [("Go on with the run, or write its reports again from the journal:", _command("resume", run))]
    best, seed = report.best_variant, report.own_seed
    if best is None:
        return found
    file = run / best.file
    if seed is not None and seed.id != best.id:
        found.append(("What the search changed, and what that costs:", _command("diff", run / seed.file, file)))
    found.append(("The best variant, layer by layer:", _command("explain", file)))
    afresh = _command("train", file, "--steps", best.steps, "--out", "best_afresh")
    found.append(("Train it from scratch, for as many steps as in the search:", afresh))
    if best.snapshot_ratio is not None:
        found += _weights(file)
    return [*found, _again(report, run)]


def _weights(file: PurePosixPath) -> list[tuple[str, str]]:
    restore = _command("snapshot", "restore", file.with_suffix(".safetensors"), "--out", "best.safetensors")
    return [
        ("Its weights, restored from its snapshot:", restore),
        ("Text from them:", _command("generate", "best.safetensors", "--prompt", "The ")),
    ]


def _again(report: Report, run: PurePosixPath) -> tuple[str, str]:
    files = [run / seed.file for seed in report.seeds]
    keys = ("generations", "population", "seed")
    options = [part for key in keys for part in (f"--{key}", getattr(report.evolve, key))]
    say = "The same search from its start (other settings are in run.yaml, under evolve):"
    again = run / ".." / "again" if run.name in ("", "..") else run.with_name(f"{run.name}_again")
    return say, _command("evolve", *files, *options, "--out", again)


def _command(*words: object) -> str:
    return shlex.join(["evo", *map(str, words)])
