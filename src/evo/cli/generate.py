"""`evo generate CKPT`: what a checkpoint has learned to write."""

from __future__ import annotations

import base64
import codecs
import os
import sys
from collections.abc import Iterable
from dataclasses import asdict
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import typer

from evo.base.diagnostics import Diagnostic, DiagnosticError, printable
from evo.cli import view
from evo.cli.caches import Cache, Heavy, Kept, Window, cache_policy, warn_tipped
from evo.cli.checkpoints import Given, load_given
from evo.cli.documents import Json, Kernels
from evo.cli.options import MOST_SEED, Device, finite


class Adapt(StrEnum):
    """How the first pass finds what suits the prompt."""

    select = "select"
    mix = "mix"


def command(
    checkpoint: Given,
    prompt: Annotated[str, typer.Option(help="What the text begins with.", show_default="a new line")] = "\n",
    tokens: Annotated[int, typer.Option(min=1, max=10_000_000, help="Tokens to sample.")] = 300,
    temperature: Annotated[
        float, typer.Option(min=0.0, max=1e6, callback=finite, help="0 takes the likeliest token.")
    ] = 0.8,
    top_k: Annotated[
        int | None, typer.Option(min=1, max=1_000_000, help="Sample among the k likeliest tokens.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Seeds every draw.")] = 0,
    cache: Cache = Kept.full,
    window: Window = None,
    heavy: Heavy = None,
    expert: Annotated[
        list[Path] | None, typer.Option("--expert", help="Another training of the same adapters; may be repeated.")
    ] = None,
    adapt: Annotated[
        Adapt | None,
        typer.Option(
            "--adapt", help="With --expert: take the one that suits the prompt best, or shares of all; mix if left out."
        ),
    ] = None,
    samples: Annotated[
        Path | None, typer.Option("--samples", help="With --expert: a text to judge by in place of the prompt.")
    ] = None,
    speculate: Annotated[
        bool, typer.Option("--speculate", help="Let `organism.ahead` draft tokens; the text is the same.")
    ] = False,
    kernels: Kernels = "auto",
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Sample text from a checkpoint.

    Decodes step by step from the mixers' caches and states; --cache says in how many bits it keeps keys and values.
    """
    for option, value in (("--adapt", adapt), ("--samples", samples)):
        if value is not None and not expert:
            raise typer.BadParameter("belongs to --expert", param_hint=option)
    import torch

    from evo.blocks.cache.policy import EVERYTHING
    from evo.compiler.build import build
    from evo.compiler.kernels import use_kernels
    from evo.compiler.resolve import resolve
    from evo.tasks.base import open_task
    from evo.training.device import choose_device
    from evo.training.generate import generate
    from evo.training.speculate import Acceptance

    saved = load_given(checkpoint)
    task = open_task(saved.document.train.task, Path(saved.root))
    model = build(resolve(saved.document.organism), saved.document.train.seed, choose_device(device), saved.weights)
    with torch.no_grad():
        use_kernels(model, kernels, batch=1, tokens=1)
    given, policy = os.fsencode(prompt), cache_policy(cache, window, heavy)
    if speculate and policy != EVERYTHING:
        raise typer.BadParameter("drafts are checked against everything as it is: leave --cache and --window out")
    told = Acceptance() if speculate else None
    shares = _adapted(
        model, task, saved, checkpoint, expert, adapt or Adapt.mix, given if samples is None else _read(samples), seed
    )
    warn_tipped(model.plan, policy)
    _warn_beyond(len(task.encode(given) or [task.start]) + tokens - 1, model.plan)
    drawn = {"temperature": temperature, "top_k": top_k, "seed": seed}
    sampled = generate(model, task, given, tokens, **drawn, cache=policy, speculation=told)
    if as_json:
        text = task.decode(sampled)
        data = {key: value.decode(errors="replace") for key, value in (("prompt", given), ("text", text))}
        exact = {"prompt_bytes": base64.b64encode(given).decode(), "text_bytes": base64.b64encode(text).decode()}
        more = {"speculation": asdict(told)} if told else {}
        view.print_json("generate", {**data, **exact, **more, **({"shares": shares} if shares else {})})
        return
    _write(given, (task.decode([token]) for token in sampled))
    if shares:
        listed = ", ".join(f"{share:.3f} {name}" for name, share in shares.items())
        view.say(f"experts: {listed}", file=sys.stderr)
    if told:
        counts = f"{told.accepted} of {told.drafted} drafted tokens stayed"
        view.say(f"{counts}: {tokens} tokens in {told.passes} passes", file=sys.stderr)


def _adapted(
    model: Any, task: Any, first: Any, path: Path, others: list[Path] | None, how: Adapt, text: bytes, seed: int
) -> dict[str, float]:
    """The first of two passes, where there is more than one expert: the share of each, by its file."""
    if not others:
        return {}
    from evo.base.streams import Stream
    from evo.training.two_pass import Experts

    found = Experts(model, [first, *map(load_given, others)])
    shares = found.adapt(task.encode(text), how == Adapt.mix, Stream(seed).child("adapt"))
    return dict(zip(map(str, (path, *others)), shares, strict=True))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DiagnosticError([Diagnostic("EVO001", f"{path} cannot be read: {error.strerror}")]) from None


def _write(prompt: bytes, pieces: Iterable[bytes]) -> None:
    """The prompt, then text as it is sampled: byte for byte, or on a terminal with control characters escaped."""
    out, decoder = sys.stdout, codecs.getincrementaldecoder("utf-8")(errors="replace")
    out.flush()
    for piece in chain([prompt], pieces, [b""]):
        if out.isatty():
            text = decoder.decode(piece, final=not piece)  # a character may take several bytes
            out.write("\n".join(map(printable, text.split("\n"))))
            out.flush()
        else:
            out.buffer.write(piece)
            out.buffer.flush()
    out.write("\n")


def _warn_beyond(positions: int, plan: Any) -> None:
    """Say so where text goes on beyond what the organism was made for; learned positions refuse it (EVO522)."""
    if plan.max_positions is None and positions > plan.context:
        message = f"{positions - plan.context} of {positions} positions are beyond the context of {plan.context}"
        help = "nothing was trained there, so the text may fall apart; shorten prompt and --tokens"
        view.show([Diagnostic("EVO523", message, None, help, "warning")])
