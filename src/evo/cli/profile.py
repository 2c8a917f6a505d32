"""`evo profile CFG`: what one pass of an organism costs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evo.cli import view
from evo.cli.documents import Json, Overrides, read_valid
from evo.cli.options import Device


def command(
    cfg: Annotated[Path, typer.Argument(help="The document.")],
    iterations: Annotated[int, typer.Option(min=1, max=100_000, help="Passes that are timed.")] = 20,
    batch: Annotated[
        int | None, typer.Option(min=1, max=65_536, help="Rows of a pass; train.batch by default.")
    ] = None,
    device: Device = "auto",
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Time an organism's forward and backward pass.

    Initial weights and random tokens over the whole context; eager, without an optimizer's step.
    """
    import torch

    from evo.bench.profile import profile_model
    from evo.compiler.build import build
    from evo.compiler.resolve import resolve
    from evo.training.device import choose_device

    (loaded,) = read_valid(cfg, overrides=overrides)
    document, where = loaded.document, choose_device(device)
    shape = (batch or document.train.batch, document.context)
    generator = torch.Generator().manual_seed(document.train.seed)

    def tokens() -> torch.Tensor:
        return torch.randint(document.organism.vocab, shape, generator=generator).to(where)

    model = build(resolve(document.organism), document.train.seed)
    found = profile_model(model, shape, iterations, where, tokens)
    if as_json:
        view.print_json("profile", {"device": str(where), "batch": shape[0], "tokens": shape[1], **found})
        return
    view.say(f"{shape[0]} x {shape[1]} tokens on {where}, timed {view.plural(iterations, 'time')}")
    for part in ("forward", "backward"):
        view.say(f"{part:<9}{found[f'{part}_mean_ms']:10.2f} ms  ± {found[f'{part}_std_ms']:.2f}")
    view.say(f"memory   {found['peak_memory_mb']:10.1f} MB at most")
    view.say(f"products {found['estimated_flops'] / 1e9:10.3f} GFLOPs forward")
