"""Training throughput on one CPU thread: organisms of one shape beside a plain torch GPT of that shape, in one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.base.streams import Stream
from evo.bench.plain_gpt import PlainGPT
from evo.compiler.build import build
from evo.compiler.resolve import resolve
from evo.data.batches import training_batch
from evo.data.corpus import load_corpus
from evo.dsl.document import parse
from evo.training.device import autocast

WIDTH, LAYERS, HEADS, CONTEXT, BATCH = 192, 4, 6, 192, 6

ORGANISMS = {
    "evo, the same GPT": (
        "{kind: attention, heads: 6}",
        "position: {kind: learned}, norm: {kind: layer}",
        "{kind: dense, act: gelu, ratio: 4}",
    ),
    "evo, defaults (rope, rms, SwiGLU)": ("{kind: attention, heads: 6}", "", "{kind: gated}"),
    "evo, window 32 and 4 sinks": (
        "{kind: attention, heads: 6, stencil: {kind: window, size: 32, sinks: 4}}",
        "",
        "{kind: gated}",
    ),
    "evo, linear attention": (
        "{kind: recurrence, heads: 6, decay: none, update: outer, feature: elu, normalizer: sum, conv: 0, gate: none}",
        "",
        "{kind: gated}",
    ),
    "evo, retention": ("{kind: recurrence, heads: 6, decay: head, update: outer, conv: 0}", "", "{kind: gated}"),
    "evo, gated delta": ("{kind: recurrence, heads: 6}", "", "{kind: gated}"),
    "evo, short convolution": ("{kind: convolution}", "", "{kind: gated}"),
}
PEER = "plain torch GPT"


@dataclass(frozen=True)
class Row:
    """Tokens per second of training: the median over rounds, and the ratio to the peer round by round.

    in_bf16: the same under bf16 autocast (`train.precision: bf16`). gain: the median of its ratio to float32.
    """

    name: str
    parameters: int
    tokens_per_second: float
    ratio: float
    ratio_low: float
    ratio_high: float
    in_bf16: float
    gain: float


def measure(rounds: int = 7, steps: int = 4) -> list[Row]:
    """Time every model in turn, round after round, so that a noisy machine hits all of them alike."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        models = _models()
        speeds = {name: list[float]() for name in models}
        in_bf16 = {name: list[float]() for name in models}
        for model in models.values():
            _speed(model, 1)
        for _ in range(rounds):
            for name, model in models.items():
                speeds[name].append(_speed(model, steps))
                in_bf16[name].append(_speed(model, steps, "bf16"))
    finally:
        torch.set_num_threads(before)
    return [_row(name, models[name], speeds[name], speeds[PEER], in_bf16[name]) for name in models]


def _models() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    models: dict[str, nn.Module] = {PEER: PlainGPT(WIDTH, LAYERS, HEADS, CONTEXT)}
    for name, (mixer, organism, ffn) in ORGANISMS.items():
        extra = f", {organism}" if organism else ""
        stage = f"{{name: body, repeat: {LAYERS}, mix: {mixer}, ffn: {ffn}}}"
        text = f"evo: 1\norganism: {{width: {WIDTH}, context: {CONTEXT}{extra}, stages: [{stage}]}}\n"
        models[name] = build(resolve(parse(text).document.organism), 0)
    return models


def _speed(model: nn.Module, steps: int, precision: str = "fp32") -> float:
    """Tokens per second over some AdamW steps on real text."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, foreach=True)
    step = _stepper(model, optimizer, precision)
    step(0)
    started = time.perf_counter()
    for index in range(steps):
        step(index + 1)
    return steps * BATCH * CONTEXT / (time.perf_counter() - started)


def _stepper(
    model: Callable[[Tensor], Tensor], optimizer: torch.optim.Optimizer, precision: str
) -> Callable[[int], None]:
    corpus, stream = load_corpus("shakespeare"), Stream(0)

    def step(index: int) -> None:
        inputs, targets = training_batch(corpus, index, BATCH, CONTEXT, stream)
        with autocast(torch.device("cpu"), precision):
            logits_BTV = model(torch.from_numpy(inputs))
            loss = F.cross_entropy(logits_BTV.flatten(0, 1), torch.from_numpy(targets).flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def _row(name: str, model: nn.Module, speeds: list[float], peer: list[float], in_bf16: list[float]) -> Row:
    gain = statistics.median(other / own for own, other in zip(speeds, in_bf16, strict=True))
    ratios = sorted(own / other for own, other in zip(speeds, peer, strict=True))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    median, middle = statistics.median(speeds), statistics.median(ratios)
    return Row(name, parameters, median, middle, ratios[0], ratios[-1], statistics.median(in_bf16), gain)
