"""Does a living pool help? Arms of equal parameters and equal training FLOPs, several seeds, held-out text, intervals.

Each arm is trained from scratch for the FLOPs that the transformer's steps take, and scored on text that no search
reads. Differences are paired by seed; a gain is clear where the 95 % interval of the mean difference leaves out 0.

    python runners/pool_ablations.py --device cuda --processes 14 --steps 2000 --seeds 5 --out results/ablations
    python runners/pool_ablations.py --steps 40 --seeds 2 --width 32 --context 32 --layers 1 --slots 4   # a small try
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

KINDS = Path(__file__).parent / "kinds"
"""Packages of kinds for comparison alone. Beside the runners they would be installed in every runner's searches."""
TRANSFORMER, STATIC, LIVING, HYPERNETWORK = "transformer", "static pool", "living pool", "hypernetwork"
ARMS: dict[str, str] = {
    TRANSFORMER: "attention of as many heads",
    STATIC: "all slots alive, no life",
    "half a pool": "half of the slots alive, no life: what a living pool begins as",
    LIVING: "half alive at the start, births and deaths",
    "without archive": "newborns are drawn afresh",
    "without deaths": "births alone",
    "task alone": "fitness is the task's share",
    "gradient alone": "fitness is the gradient's share",
    "without efficiency": "fitness is 0.7 task and 0.1 gradient",
    "any parent": "newborns come from any elite, not from where chemotaxis turns",
    "random behaviour": "pseudopods lie where they were drawn in behaviour space, not at their measures",
    "begins whole": "all slots alive at the start, births and deaths",
    HYPERNETWORK: "attention whose heads are made of templates by a vector each (runners/kinds/hypernetwork)",
    "mixed operation": "two attentions, full and in a window, with learned gains (as DARTS mixes)",
}
LIVES: dict[str, dict[str, Any]] = {
    LIVING: {},
    "without archive": {"cells": 0},
    "without deaths": {"cull": 0.0},
    "task alone": {"worth": {"efficiency": 0.0, "gradient": 0.0}},
    "gradient alone": {"worth": {"task": 0.0, "efficiency": 0.0}},
    "without efficiency": {"worth": {"efficiency": 0.0}},
    "any parent": {"aim": "any"},
    "random behaviour": {"places": "drawn"},
    "begins whole": {},
}
WHOLE = (STATIC, "begins whole")
"""Arms whose slots are all alive at the start."""


def mixer(arm: str, slots: int, head: int, context: int) -> dict[str, Any]:
    """The mixer of an arm."""
    attention = {"kind": "attention", "heads": slots, "head_dim": head}
    if arm == TRANSFORMER:
        return attention
    if arm == HYPERNETWORK:
        return {**attention, "kind": "hypernetwork"}
    if arm == "mixed operation":
        half = {**attention, "heads": slots // 2}
        window = {**half, "stencil": {"kind": "window", "size": max(2, context // 8)}}
        return {"parallel": [half, window]}
    alive = {} if arm in WHOLE else {"alive": slots // 2}
    return {"kind": "pool", "slots": slots, "of": {**attention, "heads": 1}, **alive}


def document(arm: str, seed: int, args: argparse.Namespace, flops: float | None) -> dict[str, Any]:
    """The document of an arm; its budget is that of the transformer's steps."""
    head = max(2, args.width // args.slots)
    stage = {"name": "body", "repeat": args.layers, "mix": mixer(arm, args.slots, head, args.context)}
    train: dict[str, Any] = {"batch": args.batch, "seed": seed, "task": {"kind": "bytes", "corpus": args.corpus}}
    train |= {"steps": args.steps} if flops is None else {"budget": {"flops": flops}}
    if arm in LIVES:
        every = max(1, args.steps // 50)
        times = {"every": every, "cull_every": 5 * every, "warmup": args.steps // 20, "gentle": args.steps // 5}
        train["life"] = {"kind": "annealed", **times, **LIVES[arm]}
    organism = {"width": args.width, "context": args.context, "stages": [stage]}
    return {"evo": 1, "organism": organism, "train": train}


def trained(job: tuple[str, int, dict[str, Any], str]) -> dict[str, Any]:
    """One arm with one seed."""
    arm, seed, data, device = job
    import torch

    from evo.compiler.check import require_valid
    from evo.compiler.compute import steps_of
    from evo.compiler.resolve import resolve
    from evo.dsl.canonical import to_yaml
    from evo.dsl.document import from_data
    from evo.evolution.evaluate import TrialJob, evaluate

    torch.set_num_threads(1)
    read = require_valid(from_data(data))
    began = time.monotonic()
    found = evaluate(TrialJob(to_yaml(read), ".", device, tolerance=None, is_verdict=True))
    lives = {name: found.scores.get(name) for name in ("births", "deaths", "pool_size", "archive_coverage")}
    return {
        "arm": arm, "seed": seed, "score": found.scores.get("bits_per_byte"), "cause": found.cause,
        "parameters": resolve(read.organism).parameters, "steps": steps_of(read),
        "seconds": time.monotonic() - began, **lives,
    }  # fmt: skip


def flops_of(args: argparse.Namespace) -> float:
    """What the transformer's steps take."""
    from evo.compiler.compute import step_flops
    from evo.dsl.document import from_data

    read = from_data(document(TRANSFORMER, 0, args, None)).document
    return float(step_flops(read) * args.steps)


def rows_of(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row an arm: its mean score, and the paired differences from the transformer, the static and the living pool."""
    from evo.base.intervals import mean_interval

    scores = {(row["arm"], row["seed"]): row["score"] for row in found}
    rows = list[dict[str, Any]]()
    for arm in dict.fromkeys(row["arm"] for row in found):
        own = [row for row in found if row["arm"] == arm]
        seeds = [row["seed"] for row in own if row["score"] is not None]
        row: dict[str, Any] = {"arm": arm, "what": ARMS[arm], "seeds": len(seeds), "failed": len(own) - len(seeds)}
        row |= {name: own[0][name] for name in ("parameters", "steps")}
        row["seconds_a_step"] = sum(r["seconds"] for r in own) / sum(r["steps"] for r in own)
        row |= {name: sum(r[name] or 0 for r in own) / len(own) for name in ("births", "deaths")}
        if seeds:
            mean = mean_interval([scores[arm, seed] for seed in seeds])
            row["bits_per_byte"] = [mean.mean, mean.half_width]
        for peer in (TRANSFORMER, STATIC, LIVING):
            both = [scores[arm, s] - scores[peer, s] for s in seeds if scores.get((peer, s)) is not None]
            if both and peer != arm:
                gap = mean_interval(both)
                row[f"minus {peer}"] = [gap.mean, gap.half_width]
        rows.append(row)
    return rows


def markdown(rows: list[dict[str, Any]], head: dict[str, Any]) -> str:
    """The table for people."""
    peers = [f"minus {peer}" for peer in (TRANSFORMER, STATIC, LIVING)]
    names = ["arm", "what", "parameters", "steps", "s/step", "births", "deaths", "bits/byte", *peers]
    lines = [
        "# A living pool beside what it must beat",
        "",
        f"`{head['command']}`, commit {head['commit']}, {head['hardware']}.",
    ]
    lines += ["Less is better; a difference is clear where its interval leaves out 0.", ""]
    lines += ["| " + " | ".join(names) + " |", "|" + " --- |" * len(names)]
    for row in rows:
        cells = [row["arm"], row["what"], f"{row['parameters']:,}", f"{row['steps']:,}", f"{row['seconds_a_step']:.4f}"]
        cells += [f"{row[name]:.1f}" for name in ("births", "deaths")]
        cells += [_interval(row.get(name)) for name in ("bits_per_byte", *peers)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _interval(pair: list[float] | None) -> str:
    return "" if pair is None else f"{pair[0]:+.4f} ± {pair[1]:.4f}"


def head_of(device: str) -> dict[str, Any]:
    """Command, commit and hardware."""
    import torch

    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    hardware = torch.cuda.get_device_name(0) if device == "cuda" else f"{platform.machine()} CPU, one thread a training"
    return {"command": " ".join(["python", *sys.argv]), "commit": commit.stdout.strip(), "hardware": hardware}


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    for name, default in (
        ("steps", 2000), ("seeds", 5), ("width", 128), ("context", 128), ("layers", 4), ("slots", 8), ("batch", 16),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--corpus", default="shakespeare")
    parser.add_argument("--out", type=Path, default=Path("results/ablations"))
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Train all arms; `pools.json` and `pools.md` are written anew after each training."""
    sys.path.append(str(KINDS))  # spawned processes take it over
    args = parsed(arguments)
    flops = flops_of(args)
    jobs = [
        (arm, seed, document(arm, seed, args, flops), args.device) for seed in range(args.seeds) for arm in args.arms
    ]
    found = list[dict[str, Any]]()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    args.out.mkdir(parents=True, exist_ok=True)
    head = head_of(args.device)
    with multiprocessing.get_context("spawn").Pool(args.processes) as pool:
        for row in pool.imap_unordered(trained, jobs):
            print(f"{row['arm']}, seed {row['seed']}: {row['score']} {row['cause']}", file=sys.stderr, flush=True)
            found.append(row)
            write(args.out, found, head)
    print((args.out / "pools.md").read_text())


def write(folder: Path, found: list[dict[str, Any]], head: dict[str, Any]) -> None:
    """`pools.json` and `pools.md` of what is known so far."""
    order = list(ARMS)
    ordered = sorted(found, key=lambda row: (order.index(row["arm"]), row["seed"]))
    rows = rows_of(ordered)
    record = {**head, "rows": rows, "trainings": ordered}
    (folder / "pools.json").write_text(json.dumps(record, indent=1) + "\n")
    (folder / "pools.md").write_text(markdown(rows, head))


if __name__ == "__main__":
    main()
