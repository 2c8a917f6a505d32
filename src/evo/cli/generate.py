"""`evo generate CKPT`: what a checkpoint has learned to write."""

from __future__ import annotations

import codecs
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from evo.cli import view
from evo.cli.documents import Json, Kernels
from evo.cli.options import MOST_SEED, finite


def command(
    checkpoint: Annotated[Path, typer.Argument(help="checkpoint.safetensors of `evo train`, or its folder.")],
    prompt: Annotated[str, typer.Option(help="What the text begins with.")] = "\n",
    tokens: Annotated[int, typer.Option(min=1, max=10_000_000, help="Tokens to sample.")] = 300,
    temperature: Annotated[
        float, typer.Option(min=0.0, max=1e6, callback=finite, help="0 takes the likeliest token.")
    ] = 0.8,
    top_k: Annotated[
        int | None, typer.Option(min=1, max=1_000_000, help="Sample among the k likeliest tokens.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Seeds every draw.")] = 0,
    kernels: Kernels = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "cpu",
    as_json: Json = False,
) -> None:
    """Sample text from a checkpoint.

    Decodes step by step from the mixers' caches and states.
    """
    import torch

    from evo.compiler.build import build
    from evo.compiler.kernels import use_kernels
    from evo.compiler.resolve import resolve
    from evo.tasks.base import open_task
    from evo.training.checkpoint import load_checkpoint
    from evo.training.device import choose_device
    from evo.training.generate import generate
    from evo.training.run import FILE

    saved = load_checkpoint(checkpoint / FILE if checkpoint.is_dir() else checkpoint)
    task = open_task(saved.document.train.task, Path(saved.root))
    model = build(resolve(saved.document.organism), saved.document.train.seed, choose_device(device), saved.weights)
    with torch.no_grad():
        use_kernels(model, kernels, batch=1, tokens=1)
    sampled = generate(model, task, os.fsencode(prompt), tokens, temperature=temperature, top_k=top_k, seed=seed)
    if as_json:
        text = task.decode(sampled).decode(errors="replace")
        view.print_json("generate", {"prompt": prompt, "text": text})
        return
    sys.stdout.write(prompt)
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")  # a character may take several bytes
    for token in sampled:
        sys.stdout.write(decoder.decode(task.decode([token])))
        sys.stdout.flush()
    sys.stdout.write(decoder.decode(b"", final=True) + "\n")
