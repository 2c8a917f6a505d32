"""Sampling text, one byte at a time, from the mixers' caches and states."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from evo.base.streams import Stream
from evo.compiler.organism import Organism


@torch.no_grad()
def generate(
    model: Organism, prompt: bytes, tokens: int, *, temperature: float = 0.8, top_k: int | None = None, seed: int = 0
) -> Iterator[int]:
    """Yield `tokens` sampled bytes that continue the prompt.

    Args:
        prompt: at least one byte is fed; an empty prompt starts from a newline.
        temperature: divides the logits; 0 takes the likeliest byte.
        top_k: sample among the k likeliest only.
    """
    model.eval()
    parameter = next(model.parameters())
    generator = torch.Generator().manual_seed(Stream(seed).child("generate").integer())
    state = model.initial_state(1, parameter.device, parameter.dtype)
    fed_1T = torch.tensor([list(prompt or b"\n")], device=parameter.device)
    for _ in range(tokens):
        logits_1TV, state = model.extend(fed_1T, state)
        byte = _sample(logits_1TV[0, -1, :256].float().cpu(), temperature, top_k, generator)
        yield byte
        fed_1T = torch.tensor([[byte]], device=parameter.device)


def _sample(logits_V: torch.Tensor, temperature: float, top_k: int | None, generator: torch.Generator) -> int:
    if temperature == 0:
        return int(logits_V.argmax())
    if top_k is not None:
        floor = logits_V.topk(min(top_k, len(logits_V))).values[-1]
        logits_V = logits_V.masked_fill(logits_V < floor, float("-inf"))
    return int(torch.multinomial((logits_V / temperature).softmax(0), 1, generator=generator))
