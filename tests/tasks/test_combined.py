"""Several tasks at once: rows in turn, symbols of their own, one score of all."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from evo.base.diagnostics import DiagnosticError
from evo.base.streams import Stream
from evo.compiler.build import build
from evo.compiler.check import check
from evo.compiler.resolve import resolve
from evo.dsl.canonical import to_data, to_yaml
from evo.dsl.document import from_data, parse
from evo.tasks.base import Task, open_task
from evo.tasks.bytes.spec import BytesSpec
from evo.tasks.combined.spec import CombinedSpec
from evo.tasks.parity.spec import ParitySpec
from evo.tasks.recall.spec import RecallSpec
from evo.training.loop import Trainer
from evo.training.score import held_out_scores

SPEC = CombinedSpec(combined=(BytesSpec(), RecallSpec(examples=50), ParitySpec(examples=50)))
STREAM = Stream(2).child("data")


@pytest.fixture(scope="module")
def task() -> Task:
    """Text, recall and parity."""
    return open_task(SPEC, Path())


def test_rows_take_turns_with_equal_weights(task: Task) -> None:
    """Row after row belongs to the next task, its symbols in that task's range, its weights the context in sum."""
    firsts = []
    for step in range(3):
        batch = task.batch(step, 4, 16, STREAM)
        assert batch.weights_BT is not None
        torch.testing.assert_close(batch.weights_BT.sum(1), torch.full((4,), 16.0))
        for tensor in (batch.inputs_BT, batch.targets_BT):
            homes = (tensor >= 256).int() + (tensor >= 272).int()
            assert bool((homes == homes[:, :1]).all())
        firsts += homes[:, 0].tolist()
    assert firsts == [0, 1, 2] * 4


def test_the_score_is_the_mean_of_remainders(task: Task) -> None:
    """A uniform guess has 1; a model that knows parity and nothing else lacks two thirds of it."""
    assert task.score(lambda t: torch.zeros(*t.shape, 274), 16, 3_000)["remainder"] == pytest.approx(1.0, abs=0.05)

    def parity(tokens_BT: Tensor) -> Tensor:
        logits_BTV = torch.zeros(*tokens_BT.shape, 274)
        odd_BT = (tokens_BT - 272).cumsum(1) % 2
        return logits_BTV.scatter(-1, (272 + odd_BT)[..., None], 50.0)

    scores = task.score(parity, 16, 3_000)
    assert list(scores)[:2] == ["remainder", "0.bits_per_byte"]
    assert scores["2.accuracy"] == 1.0
    assert scores["remainder"] == pytest.approx(2 / 3, abs=0.05)


def test_it_is_written_by_its_key_and_trained() -> None:
    """The document says {combined: [...]}, comes back from canonical form, wants the whole vocabulary, and learns."""
    stages = [{"name": "a", "mix": {"kind": "recurrence", "heads": 2}}]
    data = {
        "evo": 1,
        "organism": {
            "width": 16,
            "vocab": 274,
            "context": 16,
            "stages": stages,
        },
        "train": {"task": {"combined": [{"kind": "bytes"}, {"kind": "recall"}, {"kind": "parity"}]}, "batch": 6},
    }
    document = from_data(data).document
    assert parse(to_yaml(document)).document == document
    assert check(from_data(data)) == []
    own = open_task(document.train.task, Path())
    trainer = Trainer(build(resolve(document.organism), 0), own, document.train, steps=30)
    before = held_out_scores(trainer.model, own, 16, tokens=1_000)["remainder"]
    trainer.run()
    assert held_out_scores(trainer.model, own, 16, tokens=1_000)["remainder"] < before
    small = to_data(document)
    small["organism"]["vocab"] = 273
    assert [fault.code for fault in check(from_data(small))] == ["EVO341"]
    with pytest.raises(DiagnosticError, match="EVO210 combined is written without `kind`"):
        from_data({**data, "train": {"task": {"kind": "combined", "combined": []}}})
