"""Every document a person is shown is sound and alive."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from evo.compiler.build import build
from evo.compiler.check import check
from evo.compiler.resolve import resolve
from evo.dsl.document import load
from evo.tasks.base import open_task
from evo.training.causality import find_leak
from evo.training.loop import Trainer

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").rglob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_trains(path: Path) -> None:
    """It has no fault and no warning, does not leak, and two steps of training start from about 8 bits a byte."""
    loaded = load(path)
    assert check(loaded) == []
    document = loaded.document
    model = build(resolve(document.organism), document.train.seed)
    assert find_leak(model) is None
    small = document.train.model_copy(update={"batch": 1, "context": min(32, document.organism.context)})
    trainer = Trainer(model, open_task(small.task, path.parent), small, steps=2)
    loss = trainer.run()
    assert 4.0 < loss / math.log(2) < 9.0
