"""Small documents, models and texts for the tests of training."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch

from evo.compiler.build import build
from evo.compiler.check import require_valid
from evo.compiler.organism import Organism
from evo.compiler.resolve import resolve
from evo.data.corpus import Corpus, split_corpus
from evo.dsl.document import Document, from_data
from evo.tasks.bytes.task import BytesTask

WIDTH, CONTEXT = 16, 24

MIXERS: dict[str, Any] = {
    "attention": {"kind": "attention", "heads": 2},
    "window": {"kind": "attention", "heads": 2, "stencil": {"kind": "window", "size": 4, "sinks": 1}},
    "alibi": {"kind": "attention", "heads": 2, "position": {"kind": "alibi"}},
    "delta": {"kind": "recurrence", "heads": 2},
    "retention": {"kind": "recurrence", "heads": 2, "decay": "head", "update": "outer", "conv": 0},
    "convolution": {"kind": "convolution", "size": 4},
    "parallel": {"parallel": [{"kind": "attention", "heads": 2}, {"kind": "convolution"}]},
}


def document(
    mix: Any = None, train: dict[str, Any] | None = None, stage: dict[str, Any] | None = None, **organism: Any
) -> Document:
    """A document of two layers that the checks find no error in."""
    settings = {"repeat": 2, "mix": mix or MIXERS["attention"], "ffn": {"kind": "gated", "ratio": 1.0}, **(stage or {})}
    body = {"width": WIDTH, "context": CONTEXT, "stages": [{"name": "body", **settings}], **organism}
    return require_valid(from_data({"evo": 1, "organism": body, "train": {"steps": 4, "batch": 2, **(train or {})}}))


def model(mix: Any = None, seed: int = 0, **settings: Any) -> Organism:
    """The model of such a document."""
    return build(resolve(document(mix, **settings).organism), seed)


@functools.cache
def text() -> Corpus:
    """Forty kilobytes in which the next byte mostly follows from the last two."""
    random = np.random.Generator(np.random.Philox(0))
    words = [bytes(random.integers(97, 123, size=size).tolist()) for size in random.integers(2, 9, size=40)]
    return split_corpus("words", b" ".join(words[i] for i in random.zipf(1.5, size=9000) % 40)[:40_000])


def task() -> BytesTask:
    """The task of that text."""
    return BytesTask(text)


def perturbed(organism: Organism, size: float = 0.2, seed: int = 1) -> Organism:
    """The model with every weight moved, so that nothing is a constant any more."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in organism.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator))
    return organism
