"""Sampling, one token at a time, from the mixers' caches and states."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.base.streams import Stream
from evo.blocks.cache.policy import EVERYTHING, NONE, CachePolicy
from evo.blocks.flow import Flow
from evo.compiler.organism import Organism
from evo.tasks.base import Task
from evo.training.speculate import Acceptance, require_ahead, speculate


def generate(
    model: Organism,
    task: Task,
    prompt: bytes,
    tokens: int,
    *,
    temperature: float = 0.8,
    top_k: int | None = None,
    seed: int = 0,
    cache: CachePolicy = EVERYTHING,
    speculation: Acceptance | None = None,
) -> Iterator[int]:
    """`tokens` sampled tokens of a task that continue the prompt, one by one.

    Args:
        prompt: text; one that holds no token starts from the task's `start`.
        temperature: divides the logits; 0 takes the likeliest token.
        top_k: sample among the k likeliest only.
        cache: how keys and values are kept.
        speculation: where the organism predicts ahead, let it draft; how that went is counted here. The text is the
            same. Everything is kept as it is then.

    Raises:
        DiagnosticError: prompt and text together exceed the positions that the organism has (EVO522), there is
            nothing to draft with (EVO527), or the prompt is shorter than what is read in one piece (EVO529).
    """
    fed = task.encode(prompt) or [task.start]
    _require_room(model, len(fed) + tokens - 1)
    _require_prefix(model, len(fed))
    generator = torch.Generator().manual_seed(Stream(seed).child("generate").integer())
    choose = lambda logits_V: _sample(logits_V[: task.vocab], temperature, top_k, generator)  # noqa: E731
    priors = Stream(seed).child("priors").integer()
    if speculation is not None:
        require_ahead(model.plan)
        return speculate(model, fed, tokens, choose, priors, speculation)
    if cache.store == NONE:
        return _decode_afresh(model, fed, tokens, choose, priors)
    return _decode(model, fed, tokens, choose, priors, cache)


@torch.no_grad()
def _decode(
    model: Organism,
    prompt: list[int],
    tokens: int,
    sample: Callable[[torch.Tensor], int],
    priors: int,
    cache: CachePolicy,
) -> Iterator[int]:
    model.eval()
    parameter = next(model.parameters())
    state = model.initial_state()
    fed_1T = torch.tensor([prompt], device=parameter.device)
    for _ in range(tokens):
        logits_1TV, state = model.extend(fed_1T, state, priors, cache)
        token = sample(logits_1TV[0, -1].float().cpu())
        yield token
        fed_1T = torch.tensor([[token]], device=parameter.device)


@torch.no_grad()
def _decode_afresh(
    model: Organism, prompt: list[int], tokens: int, sample: Callable[[torch.Tensor], int], priors: int
) -> Iterator[int]:
    """Every token from a pass over all before it: nothing is kept."""
    model.eval()
    fed, device = list(prompt), next(model.parameters()).device
    for _ in range(tokens):
        logits_1TV = model(torch.tensor([fed], device=device), Flow(sample=priors))
        fed.append(sample(logits_1TV[0, -1].float().cpu()))
        yield fed[-1]


def _sample(logits_V: torch.Tensor, temperature: float, top_k: int | None, generator: torch.Generator) -> int:
    if temperature == 0:
        return int(logits_V.argmax())
    if top_k is not None:
        floor = logits_V.topk(min(top_k, len(logits_V))).values[-1]
        logits_V = logits_V.masked_fill(logits_V < floor, float("-inf"))
    scaled_V = (logits_V.double() - logits_V.max()) / temperature  # of the likeliest: 0, however cold
    return int(torch.multinomial(scaled_V.softmax(0), 1, generator=generator))


def _require_room(model: Organism, tokens: int) -> None:
    limit = model.plan.max_positions
    if limit is None or tokens <= limit:
        return
    message = f"{tokens} tokens exceed the {limit} positions that this organism has"
    help = f"ask for fewer: prompt and text must fit into {limit + 1} tokens"
    raise DiagnosticError([Diagnostic("EVO522", message, None, help)])


def _require_prefix(model: Organism, tokens: int) -> None:
    for path, block in model.named_blocks():
        if block.read_at_once is None:
            message, help = f"{path} sees every later token, so it cannot continue a text", "train one that is causal"
        elif block.read_at_once > tokens:
            message = f"{path} reads the first {block.read_at_once} tokens in one piece, and the prompt has {tokens}"
            help = "give a longer prompt"
        else:
            continue
        raise DiagnosticError([Diagnostic("EVO529", message, None, help)])
