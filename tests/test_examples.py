"""Every document a person is shown is sound and alive."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from evo.base.diagnostics import DiagnosticError
from evo.compiler.build import build
from evo.compiler.check import check
from evo.compiler.promises import broken_promises
from evo.compiler.resolve import resolve
from evo.dsl.document import load
from evo.tasks.base import Task, open_task
from evo.training.causality import find_leak
from evo.training.loop import Trainer

FOLDER = Path(__file__).parent.parent / "examples"
EXAMPLES = sorted(FOLDER.glob("*.yaml"))
ZOO = [pytest.param(path, marks=pytest.mark.slow) for path in sorted((FOLDER / "zoo").glob("*.yaml"))]
PROBED = 136
"""Tokens that are probed at most: some contexts are a publication's 2,048 or 8,192. They are two chunks of the
recurrences and a piece, and further than any example's stencil reaches but those of such publications."""


@pytest.mark.parametrize("path", [*EXAMPLES, *ZOO], ids=lambda path: path.stem)
def test_example_trains(path: Path) -> None:
    """It has no fault and no warning, keeps its plan's promises, does not leak, and two steps of training start from
    about a uniform guess."""
    loaded = load(path)
    assert check(loaded) == []
    document = loaded.document
    model = build(resolve(document.organism), document.train.seed)
    tokens, given = min(document.context, PROBED), document.train.task.tokens_given
    assert list(broken_promises(model)) == []
    assert find_leak(model, tokens=tokens, precision="fp32", given=given) is None  # bf16 hides more, and takes thrice
    task = open_task(document.train.task, path.parent)
    small = document.train.model_copy(update={"batch": 2, "context": shortest(task, document.context)})
    loss = Trainer(model, task, small, steps=2).run()
    assert 0.5 < loss / math.log(document.organism.vocab) < 1.15


def shortest(task: Task, context: int) -> int:
    """A context of 32, or the whole one where the task needs more."""
    try:
        task.require(32)
    except DiagnosticError:
        return context
    return min(32, context)
