"""Sampling text, one byte at a time, from the mixers' caches and states."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.base.streams import Stream
from evo.compiler.organism import Organism


def generate(
    model: Organism, prompt: bytes, tokens: int, *, temperature: float = 0.8, top_k: int | None = None, seed: int = 0
) -> Iterator[int]:
    """`tokens` sampled bytes that continue the prompt, one by one.

    Args:
        prompt: at least one byte is fed; an empty prompt starts from a newline.
        temperature: divides the logits; 0 takes the likeliest byte.
        top_k: sample among the k likeliest only.

    Raises:
        DiagnosticError: prompt and text together exceed the positions that the organism has learned (EVO522).
    """
    fed = prompt or b"\n"
    _require_room(model, len(fed) + tokens - 1)
    generator = torch.Generator().manual_seed(Stream(seed).child("generate").integer())
    return _decode(model, fed, tokens, lambda logits_V: _sample(logits_V, temperature, top_k, generator))


@torch.no_grad()
def _decode(model: Organism, prompt: bytes, tokens: int, sample: Callable[[torch.Tensor], int]) -> Iterator[int]:
    model.eval()
    parameter = next(model.parameters())
    state = model.initial_state(1, parameter.device, parameter.dtype)
    fed_1T = torch.tensor([list(prompt)], device=parameter.device)
    for _ in range(tokens):
        logits_1TV, state = model.extend(fed_1T, state)
        byte = sample(logits_1TV[0, -1, :256].float().cpu())
        yield byte
        fed_1T = torch.tensor([[byte]], device=parameter.device)


def _sample(logits_V: torch.Tensor, temperature: float, top_k: int | None, generator: torch.Generator) -> int:
    if temperature == 0:
        return int(logits_V.argmax())
    if top_k is not None:
        floor = logits_V.topk(min(top_k, len(logits_V))).values[-1]
        logits_V = logits_V.masked_fill(logits_V < floor, float("-inf"))
    scaled_V = (logits_V.double() - logits_V.max()) / temperature  # of the likeliest: 0, however cold
    return int(torch.multinomial(scaled_V.softmax(0), 1, generator=generator))


def _require_room(model: Organism, tokens: int) -> None:
    table = model.plan.weights.get("embedding.position")
    if table is None or tokens <= table.shape[0]:
        return
    message = f"{tokens} tokens exceed the {table.shape[0]} positions that this organism has learned"
    help = f"ask for fewer: prompt and text must fit into {table.shape[0] + 1} bytes"
    raise DiagnosticError([Diagnostic("EVO522", message, None, help)])
