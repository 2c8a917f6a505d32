"""A score that is too good for its text is probed at every position, and marked where that finds nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_hidden_leaks import between, plant
from tiny_models import document, model, task, text

from evo.tasks.bytes.plausible import is_plausible
from evo.tasks.bytes.task import BytesTask
from evo.training.loop import Trainer
from evo.training.run import SUSPICIOUS, TrainingRun
from evo.training.setup import LeakError, verified_scores


def test_what_compressors_reach_is_plausible() -> None:
    """A little better than LZMA is believed, a small part of it is not; noise takes four bits at least."""
    train, held_out = text().train.tobytes(), text().held_out.tobytes()
    assert is_plausible(2.0, train, held_out)
    assert not is_plausible(0.05, train, held_out)
    noise = np.random.Generator(np.random.Philox(1)).bytes(8000)
    assert is_plausible(4.5, train, noise)
    assert not is_plausible(3.5, train, noise)
    assert not is_plausible(0.5, train, train[:8000][::-1])


def believe(monkeypatch: pytest.MonkeyPatch, answer: bool) -> None:
    """Let every score be plausible, or none."""
    monkeypatch.setattr(BytesTask, "is_plausible", lambda self, value: answer)


def test_a_suspicious_score_is_probed_at_every_position(monkeypatch: pytest.MonkeyPatch) -> None:
    """A leak at one output is found once the score is odd, wherever it stands; an honest model is marked only."""
    honest = Trainer(model(), task(), document().train)
    for answer in (True, False):
        believe(monkeypatch, answer)
        assert verified_scores(honest, document(), task(), 500).is_suspicious is not answer
    for at in (3, 14):
        leaking = Trainer(model(), task(), document().train)
        plant(leaking.model, between(at, at + 1))
        with pytest.raises(LeakError):
            verified_scores(leaking, document(), task(), 500)


def test_train_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The result of a training carries the sentence among its warnings, and an ordinary one does not."""
    monkeypatch.setattr("evo.training.run.HELD_OUT_TOKENS", 500)
    found = []
    for name, answer in (("one", True), ("two", False)):
        believe(monkeypatch, answer)
        found.append(TrainingRun.open(document(), tmp_path, tmp_path / name, "cpu").carry_out(None, 10).warnings)
    assert SUSPICIOUS not in found[0]
    assert SUSPICIOUS in found[1]
