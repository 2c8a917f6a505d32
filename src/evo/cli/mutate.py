"""`evo mutate CFG --count N --seed S --out DIR`: children on paper, untrained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evo.cli import view
from evo.cli.documents import Json, Overrides, read_valid
from evo.cli.options import MOST_SEED


def command(
    cfg: Annotated[Path, typer.Argument(help="The parent.")],
    count: Annotated[int, typer.Option(min=1, max=100_000, help="How many children.")] = 10,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Seeds every draw.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Write child_000.yaml, child_000.patch.yaml, ... here.")] = None,
    mutations: Annotated[int, typer.Option(min=1, max=100, help="The most mutations a child receives.")] = 2,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Write mutated children of a document.

    Every child is valid, canonical, new, and another network or another training run than its parent.
    """
    from evo.base.files import write_atomic
    from evo.dsl.canonical import content_hash, to_yaml
    from evo.dsl.relocate import relocated
    from evo.evolution.mutate import mutants
    from evo.evolution.rundir import root_of

    (loaded,) = read_valid(cfg, overrides=overrides)
    children = mutants(loaded.document, count, seed, mutations)
    rows: list[dict[str, object]] = []
    for index, child in enumerate(children):
        hash = child.hash
        if out is not None:
            placed = relocated(child.document, root_of(cfg), out)
            hash = content_hash(placed)
            write_atomic(out / f"child_{index:03d}.yaml", to_yaml(placed))
            write_atomic(out / f"child_{index:03d}.patch.yaml", child.patch.to_yaml())
        rows.append({"hash": hash, "operators": list(child.operators), "patch": child.patch.to_data()["edits"]})
        if not as_json:
            view.say(f"{index:03d}  {hash[:12]}  {', '.join(child.operators)}")
            view.say("".join(f"     {line}\n" for line in str(child.patch).splitlines()), end="")
    if as_json:
        view.print_json("mutate", {"parent": content_hash(loaded.document), "children": rows})
