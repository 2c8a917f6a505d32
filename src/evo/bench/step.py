"""One training step of the tiny GPT on a GPU: ours and plain torch's, eager, captured, compiled, in one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.base.streams import Stream
from evo.bench import step_kernels
from evo.bench.plain_gpt import PlainGPT
from evo.bench.tables import markdown, write_table
from evo.compiler.build import build
from evo.compiler.resolve import resolve
from evo.data.batches import training_batch
from evo.data.corpus import load_corpus
from evo.dsl.document import parse
from evo.tasks.base import open_task
from evo.training.loop import Trainer

BODY = (
    "organism: {width: 256, context: 256, %s"
    "stages: [{name: body, repeat: 4, mix: {kind: attention, heads: 4}, ffn: %s}]}\n"
    "train: {steps: 1000000, batch: 32, optimizer: {kind: adamw, lr: 1e-3}}\n"
)
GATED = BODY % ("", "{kind: gated}")
SAME = BODY % ("position: {kind: learned}, norm: {kind: layer}, ", "{kind: dense, act: gelu, ratio: 4}")
SHAPES = {"defaults: rope, rms, SwiGLU": GATED, "the same GPT": SAME}
COMMAND = "evo bench step --out {path}"
LR, CLIP, BETAS, DECAY = 1e-3, 1.0, (0.9, 0.95), 0.1
PEER = "plain torch GPT, CUDA graph"

Steps = Callable[[int], object]
"""Carries out so many training steps."""


@dataclass(frozen=True)
class Shape:
    """What a GPT is measured at."""

    width: int
    layers: int
    heads: int
    context: int
    batch: int


SHAPE = Shape(width=256, layers=4, heads=4, context=256, batch=32)
"""That of the documents above."""


@dataclass(frozen=True)
class StepRow:
    """Million tokens a second: the median over rounds, the slowest, the fastest; the ratio to the peer's graph."""

    name: str
    parameters: int
    mtokens_per_second: float
    low: float
    high: float
    ratio: float
    note: str


@dataclass(frozen=True)
class StepReport:
    """Every way's row; and of each shape, a captured step of evo by families of kernels, profiled in the same run."""

    rows: list[StepRow]
    kernels: dict[str, list[step_kernels.Family]]

    def to_markdown(self) -> str:
        """The table, and one for each shape below it."""
        parts = [markdown(cells(self.rows))]
        for shape, found in self.kernels.items():
            parts.append(f"A captured step of evo, {shape}, by kernels (profiled in the same run):")
            parts.append(markdown(step_kernels.cells(found)))
        return "\n\n".join(parts)


def measure(rounds: int = 9, steps: int = 64, compiled: bool = True) -> list[StepRow]:
    """Time every way in turn, round after round. `note` says how evo's steps were carried out."""
    ways = _ways(compiled)
    speeds = {name: list[float]() for name in ways}
    for run, _, _ in ways.values():
        run(steps)
    for _ in range(rounds):
        for name, (run, _, _) in ways.items():
            speeds[name].append(_speed(run, steps))
    peer = statistics.median(speeds[PEER])
    return [
        StepRow(name, count, statistics.median(found), min(found), max(found), statistics.median(found) / peer, note())
        for (name, (_, count, note)), found in zip(ways.items(), speeds.values(), strict=True)
    ]


def cells(rows: list[StepRow]) -> list[tuple[str, ...]]:
    """The rows of a table to print, heading first."""
    heading = ("one step of", "parameters", "Mtok/s, median", "from", "to", "times the plain graph", "note")
    numbers = [(row.mtokens_per_second, row.low, row.high, row.ratio) for row in rows]
    return [
        heading,
        *(
            (row.name, f"{row.parameters:,}", *(f"{x:.2f}" for x in found), row.note)
            for row, found in zip(rows, numbers, strict=True)
        ),
    ]


def write(path: Path, rounds: int = 9) -> StepReport:
    """Measure, and write the table with where the time of a captured step goes."""
    report = StepReport(
        measure(rounds),
        {shape: step_kernels.breakdown(evo_trainer(document, "captured")) for shape, document in SHAPES.items()},
    )
    settings = (
        f"{SHAPE.layers} layers, width {SHAPE.width}, {SHAPE.heads} heads, T {SHAPE.context}, batch {SHAPE.batch}, "
        "bf16 autocast, clipped AdamW"
    )
    write_table(path, f"One training step: {settings}", COMMAND.format(path=path), report.to_markdown())
    return report


def _speed(run: Steps, steps: int) -> float:
    torch.cuda.synchronize()
    started = time.perf_counter()
    run(steps)
    torch.cuda.synchronize()
    return steps * SHAPE.batch * SHAPE.context / (time.perf_counter() - started) / 1e6


def _ways(compiled: bool) -> dict[str, tuple[Steps, int, Callable[[], str]]]:
    found: dict[str, tuple[Steps, int, Callable[[], str]]] = {}
    for shape, document in SHAPES.items():
        for mode in ("eager", "captured"):
            trainer = evo_trainer(document, mode)
            run = _trainer_steps(trainer)
            found[f"evo {mode} ({shape})"] = run, trainer.model.plan.parameters, _note(trainer)
    kinds = [("eager", False, False), ("CUDA graph", True, False)]
    kinds += [("CUDA graph + torch.compile", True, True)] if compiled else []
    for name, graph, compiles in kinds:
        plain = PlainStep(graph, compiles)
        found[f"plain torch GPT, {name}"] = plain.run, plain.parameters, str
    return found


def _note(trainer: Trainer) -> Callable[[], str]:
    return lambda: trainer.step_reason


def evo_trainer(document: str, mode: str) -> Trainer:
    """A trainer of one of the documents above on CUDA, every step's data and learning rate included."""
    read = parse(f"evo: 1\n{document}").document
    model = build(resolve(read.organism), 0, "cuda")
    return Trainer(model, open_task(read.train.task, Path()), read.train, mode=mode)


def _trainer_steps(trainer: Trainer) -> Steps:
    return lambda steps: trainer.run(trainer.step + steps)


class PlainStep:
    """The peer: autocast, cross-entropy on float32 logits, clipping, torch's fused AdamW; one fixed learning rate."""

    def __init__(self, graph: bool, compiles: bool, shape: Shape = SHAPE) -> None:
        self.shape = shape
        torch.manual_seed(0)
        self.model: nn.Module = PlainGPT(shape.width, shape.layers, shape.heads, shape.context).cuda()
        self.parameters = sum(parameter.numel() for parameter in self.model.parameters())
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=LR, betas=BETAS, weight_decay=DECAY, fused=True, capturable=graph
        )
        self.loss: Callable[[Tensor, Tensor], Tensor] = torch.compile(self._loss) if compiles else self._loss
        self.corpus, self.stream, self.step = load_corpus("shakespeare"), Stream(0), 0
        size = shape.batch, shape.context
        self.inputs, self.targets = (torch.zeros(size, dtype=torch.int64, device="cuda") for _ in range(2))
        self._feed()
        self.graph = self._capture() if graph else None

    def run(self, steps: int) -> None:
        """So many steps, each on its own batch."""
        for _ in range(steps):
            self._feed()
            self._body() if self.graph is None else self.graph.replay()

    def _feed(self) -> None:
        inputs, targets = training_batch(self.corpus, self.step, self.shape.batch, self.shape.context, self.stream)
        self.inputs.copy_(torch.from_numpy(inputs).pin_memory(), non_blocking=True)
        self.targets.copy_(torch.from_numpy(targets).pin_memory(), non_blocking=True)
        self.step += 1

    def _loss(self, inputs_BT: Tensor, targets_BT: Tensor) -> Tensor:
        with torch.autocast("cuda", dtype=torch.bfloat16):
            logits_BTV = self.model(inputs_BT)
        return F.cross_entropy(logits_BTV.flatten(0, 1).float(), targets_BT.flatten())

    def _body(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.loss(self.inputs, self.targets).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        self.optimizer.step()

    def _capture(self) -> torch.cuda.CUDAGraph:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self._body()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.cuda.graph(graph):
            self._body()
        return graph
