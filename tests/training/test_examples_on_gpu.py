"""Every example trains on a GPU in captured steps, accused of nothing, to the same bytes every time."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from evo.dsl.document import load
from evo.tasks.base import open_task
from evo.training.loop import Trainer
from evo.training.setup import make_trainer

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").rglob("*.yaml"))
WITH = [
    ("gpt2", "train.dropout={residual: 0.1}"),
    ("route", "train.dropout={attention: 0.1}"),
    ("mamba2", "train.dropout={embedding: 0.1}"),
    ("local_global", "train.rates={kind: mup, base: 64}"),
    ("loop", "train.rates={kind: spectral, base: 64}"),
]
CASES = [(path, ()) for path in EXAMPLES] + [
    (path, (setting,)) for name, setting in WITH for path in EXAMPLES if path.stem == name and path.parent.name != "zoo"
]


def trained(path: Path, settings: tuple[str, ...]) -> Trainer:
    """After thirteen steps, of which the last is not where the loss is looked at."""
    document = load(path, settings).document
    made = make_trainer(document, open_task(document.train.task, path.parent), "cuda", steps=13)
    made.run()
    return made


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("path", "settings"), CASES, ids=[f"{path.stem} {' '.join(given)}" for path, given in CASES])
def test_examples_train_on_a_gpu(path: Path, settings: tuple[str, ...]) -> None:
    """The step is captured, and a second training ends in the same bytes."""
    first = trained(path, settings)
    has_batches = first.task.on_device(torch.device("cuda")) is not None
    assert first.step_mode == ("captured" if has_batches else "eager"), first.step_reason
    second = trained(path, settings).model.state_dict()
    assert all(torch.equal(weight, second[name]) for name, weight in first.model.state_dict().items())
