"""The commands that go on from here."""

from __future__ import annotations

import shlex
from pathlib import PurePosixPath

from evo.report.page.markup import Html, tag
from evo.report.page.reading import Reading, Record


def repeat(reading: Reading) -> Html:
    """The section with the command lines."""
    note = (
        "Type these where the run was started: paths are as it was given them. Settings and versions are in run.yaml."
    )
    rows = [part for say, line in _lines(reading) for part in (tag("p", say), tag("pre", line))]
    return tag("section", tag("h2", "To repeat it", id="repeat"), tag("p", note, class_="soft"), *rows)


def _lines(reading: Reading) -> list[tuple[str, str]]:
    run = PurePosixPath(reading.path)
    found = [("Go on with the run, or write its reports again from the journal:", _command("resume", run))]
    best, seed = reading.best, reading.own_seed
    if best is None or not best.get("file"):
        return found
    file = run / best["file"]
    if seed is not None and seed.get("file") and seed["id"] != best["id"]:
        found.append(("What the search changed, and what that costs:", _command("diff", run / seed["file"], file)))
    found.append(("The best variant, layer by layer:", _command("explain", file)))
    found.append(("Train it from scratch, without what it inherited:", _command("train", file, "--out", "best_afresh")))
    if best.get("snapshot_bytes"):
        found += _weights(file)
    return found + _again(reading, run)


def _weights(file: PurePosixPath) -> list[tuple[str, str]]:
    restore = _command("snapshot", "restore", file.with_suffix(".safetensors"), "--out", "best.safetensors")
    return [
        ("Its weights, restored from its snapshot:", restore),
        ("Text from them:", _command("generate", "best.safetensors", "--prompt", "The ")),
    ]


def _again(reading: Reading, run: PurePosixPath) -> list[tuple[str, str]]:
    settings: Record = reading.report.get("settings") or {}
    files = [run / seed["file"] for seed in reading.seeds if seed.get("file")]
    options = [
        part for key in ("generations", "population", "seed") if key in settings for part in (f"--{key}", settings[key])
    ]
    if not files or not options:
        return []
    say = "The same search from its start (settings without an option are in run.yaml, under evolve):"
    return [(say, _command("evolve", *files, *options, "--out", run.with_name(f"{run.name}_again")))]


def _command(*words: object) -> str:
    return shlex.join(["evo", *map(str, words)])
