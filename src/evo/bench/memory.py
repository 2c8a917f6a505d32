"""What a captured training step reserves on a GPU, beside a plain GPT of the same shape under torch.compile.

Each way has a process of its own: what one allocator has reserved it does not give back to be measured anew.
"""

from __future__ import annotations

import multiprocessing
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from evo.bench.step import PlainStep, Shape, evo_trainer
from evo.bench.tables import markdown, write_table

SHAPE = Shape(width=768, layers=14, heads=12, context=2048, batch=32)
STEPS = 12
"""Timed, after as many that are not."""
COMMAND = "evo bench memory --out {path}"
PEER = "plain torch GPT, torch.compile"
BODY = (
    "organism: {{width: {width}, context: {context}, position: {{kind: learned}}, norm: {{kind: layer}}, "
    "stages: [{{name: body, repeat: {layers}, mix: {{kind: attention, heads: {heads}}}, "
    "ffn: {{kind: dense, act: gelu, ratio: 4}}}}]}}\n"
    "train: {{steps: 1000000, batch: {batch}, activation_checkpointing: {checkpoints}, "
    "optimizer: {{kind: adamw, lr: 1e-3}}}}\n"
)
GIB = 2**30


@dataclass(frozen=True)
class MemoryRow:
    """GiB that the allocator had reserved and handed out at most, and how fast steps were."""

    name: str
    reserved: float
    allocated: float
    ktokens_per_second: float
    ratio: float
    """Reserved, over what the peer reserves."""


def measure(shape: Shape = SHAPE) -> list[MemoryRow]:
    """Each way in a process of its own, one after another."""
    ways = {
        "evo captured": (False, True),
        "evo captured, activation checkpointing": (True, True),
        "evo eager": (False, False),
        PEER: None,
    }
    context = multiprocessing.get_context("spawn")
    found: dict[str, tuple[float, float, float]] = {}
    for name, way in ways.items():
        with context.Pool(1) as pool:
            found[name] = pool.apply(_one, (shape, way))
    peer = found[PEER][0]
    return [MemoryRow(name, *numbers, numbers[0] / peer) for name, numbers in found.items()]


def cells(rows: list[MemoryRow]) -> list[tuple[str, ...]]:
    """The rows of a table to print, heading first."""
    heading = ("training by", "reserved, GiB", "allocated, GiB", "ktok/s", "times torch.compile's")
    numbers = [
        (f"{r.reserved:.1f}", f"{r.allocated:.1f}", f"{r.ktokens_per_second:.0f}", f"{r.ratio:.2f}") for r in rows
    ]
    return [heading, *((row.name, *found) for row, found in zip(rows, numbers, strict=True))]


def write(path: Path, shape: Shape = SHAPE) -> list[MemoryRow]:
    """Measure, and write the table."""
    rows = measure(shape)
    title = (
        f"Memory of a training step: {shape.layers} layers, width {shape.width}, T {shape.context}, "
        f"batch {shape.batch}, bf16 autocast"
    )
    write_table(path, title, COMMAND.format(path=path), markdown(cells(rows)))
    return rows


def _one(shape: Shape, way: tuple[bool, bool] | None) -> tuple[float, float, float]:
    """GiB reserved and allocated, and thousands of tokens a second. way: (checkpoints, captured); None is the peer."""
    if way is None:
        run = PlainStep(graph=False, compiles=True, shape=shape).run
    else:
        checkpoints, captured = way
        text = BODY.format(**asdict(shape), checkpoints=str(checkpoints).lower())
        trainer = evo_trainer(text, "captured" if captured else "eager")

        def run(steps: int) -> None:
            trainer.run(trainer.step + steps)

    run(STEPS)
    torch.cuda.synchronize()
    begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begun.record()
    run(STEPS)
    ended.record()
    torch.cuda.synchronize()
    tokens = STEPS * shape.batch * shape.context
    reserved, allocated = torch.cuda.max_memory_reserved(), torch.cuda.max_memory_allocated()
    return reserved / GIB, allocated / GIB, tokens / begun.elapsed_time(ended)
