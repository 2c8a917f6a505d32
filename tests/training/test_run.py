"""`evo train`: a run that stops anywhere ends at the bytes of one that did not, and says what is wrong."""

from pathlib import Path
from typing import Any

import pytest
from tiny_models import document

from evo.base.diagnostics import DiagnosticError
from evo.dsl.document import Document
from evo.tasks.bytes.task import BytesTask
from evo.training import run as module
from evo.training.checkpoint import FILE, load_checkpoint
from evo.training.loop import Progress
from evo.training.run import TrainingRun, TrainResult


@pytest.fixture(autouse=True)
def _short_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HELD_OUT_TOKENS", 500)


def opened(folder: Path, made: Document | None = None, **options: Any) -> TrainingRun:
    """A run in a folder."""
    return TrainingRun.open(made or document(), folder, folder / "out", "cpu", **options)


def finished(folder: Path, made: Document, save_every: int = 100, **options: Any) -> tuple[bytes, TrainResult]:
    """The checkpoint and the result of a run to its end."""
    result = opened(folder, made, **options).carry_out(None, save_every)
    return (folder / "out" / FILE).read_bytes(), result


class Stop(Exception):
    """Ends a run from outside."""


def at(step: int, error: BaseException) -> Any:
    """An observer that raises after a step."""

    def note(progress: Progress) -> None:
        if progress.step == step:
            raise error

    return note


@pytest.mark.parametrize("kind", ["adamw", "muon", "lion"])
def test_resuming_equals_not_stopping(tmp_path: Path, kind: str) -> None:
    """Stopped after any step and resumed, a run leaves the very bytes of one that never stopped, and its score."""
    made = document(train={"optimizer": {"kind": kind}, "steps": 3})
    (tmp_path / "whole").mkdir()
    whole, result = finished(tmp_path / "whole", made)
    for stop in (1, 2):
        folder = tmp_path / str(stop)
        folder.mkdir()
        with pytest.raises(Stop):
            opened(folder, made).carry_out(at(stop + 1, Stop()), save_every=1)
        assert load_checkpoint(folder / "out" / FILE).step == stop
        _, resumed = finished(folder, made, resume=True)
        one, two = load_checkpoint(folder / "out" / FILE), load_checkpoint(tmp_path / "whole" / "out" / FILE)
        assert {k: v.numpy().tobytes() for k, v in one.weights.items()} == {
            k: v.numpy().tobytes() for k, v in two.weights.items()
        }
        assert resumed.scores == result.scores
        assert resumed.train_loss == result.train_loss
    assert whole == finished(tmp_path / "whole", made, resume=True)[0]


def test_equal_runs_leave_equal_files(tmp_path: Path) -> None:
    """Two runs in one place leave the same bytes, however often they saved on the way."""
    one, _ = finished(tmp_path, document())
    (tmp_path / "out" / FILE).unlink()
    assert finished(tmp_path, document(), save_every=1)[0] == one


def test_an_interrupt_saves_where_it_stopped(tmp_path: Path) -> None:
    """Ctrl-C between two steps leaves a checkpoint of the last one, from which the run goes on."""
    made = document()
    with pytest.raises(KeyboardInterrupt):
        opened(tmp_path, made).carry_out(at(3, KeyboardInterrupt()), 100)
    assert load_checkpoint(tmp_path / "out" / FILE).step == 3
    assert finished(tmp_path, made, resume=True)[1].step == 4


def test_an_interrupt_inside_a_step_saves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while weights are being moved does not overwrite the last whole checkpoint with half a step."""
    run = opened(tmp_path)
    plain, calls = run.trainer.optimizer.step, []

    def step(scale: float) -> None:
        plain(scale)
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(run.trainer.optimizer, "step", step)
    with pytest.raises(KeyboardInterrupt):
        run.carry_out(None, save_every=1)
    saved = load_checkpoint(tmp_path / "out" / FILE)
    assert saved.step == 2
    assert finished(tmp_path, document(), resume=True)[0] == uninterrupted(tmp_path / "other")


def uninterrupted(folder: Path) -> bytes:
    """The checkpoint of a run that nothing stopped, as if made in the folder beside."""
    run = TrainingRun.open(document(), folder.parent, folder, "cpu")
    run.carry_out(None, 100)
    return (folder / FILE).read_bytes()


def test_a_finished_run_has_nothing_left_to_do(tmp_path: Path) -> None:
    """Resuming it scores again and reports no training loss, in plain JSON."""
    finished(tmp_path, document())
    _, again = finished(tmp_path, document(), resume=True)
    assert again.step == 4
    assert again.to_data()["train_loss"] is None


def code(caught: pytest.ExceptionInfo[DiagnosticError]) -> str:
    """The code of the only diagnostic."""
    (diagnostic,) = caught.value.diagnostics
    return diagnostic.code


def test_divergence_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    """A run whose numbers break is EVO521, and the checkpoint before it stays; no later one is written."""
    made = document(train={"optimizer": {"kind": "adamw", "lr": 10.0}, "clip": None, "steps": 9})
    run = opened(tmp_path, made)

    def spoil(progress: Progress) -> None:
        if progress.step == 5:
            run.trainer.model.get_parameter("embedding.weight").data.fill_(float("inf"))

    with pytest.raises(DiagnosticError) as caught:
        run.carry_out(spoil, save_every=1)
    assert code(caught) == "EVO521"
    assert load_checkpoint(tmp_path / "out" / FILE).step == 4


def test_a_score_that_is_no_number_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training that ends without a score is EVO521 rather than `nan bits per byte`."""
    plain = BytesTask.score
    nan = {"bits_per_byte": float("nan")}
    monkeypatch.setattr(BytesTask, "score", lambda self, *args: {**plain(self, *args), **nan})
    with pytest.raises(DiagnosticError) as caught:
        finished(tmp_path, document())
    assert code(caught) == "EVO521"


def test_what_stands_in_the_way(tmp_path: Path) -> None:
    """A checkpoint that exists, is missing, or is another's has its own code."""
    with pytest.raises(DiagnosticError) as caught:
        opened(tmp_path, resume=True)
    assert code(caught) == "EVO602"
    finished(tmp_path, document())
    with pytest.raises(DiagnosticError) as caught:
        opened(tmp_path)
    assert code(caught) == "EVO601"
    with pytest.raises(DiagnosticError) as caught:
        opened(tmp_path, document(train={"batch": 3}), resume=True)
    assert code(caught) == "EVO603"


def written(path: Path, size: int, byte: bytes = b"words and more ") -> Path:
    """A text file of so many bytes."""
    path.write_bytes((byte * (size // len(byte) + 1))[:size])
    return path


def test_a_persons_own_text(tmp_path: Path) -> None:
    """A path is taken from the document's folder, wherever the program runs; changing the text stops a resume."""
    (tmp_path / "texts").mkdir()
    written(tmp_path / "texts" / "own.txt", 10_000)
    made = document(train={"task": {"kind": "bytes", "corpus": "texts/own.txt"}})
    one = opened(tmp_path, made).carry_out(None, 100)
    assert one.scores["bits_per_byte"] > 0
    assert load_checkpoint(tmp_path / "out" / FILE).root == str(tmp_path)
    written(tmp_path / "texts" / "own.txt", 10_000, b"another text ")
    with pytest.raises(DiagnosticError) as caught:
        opened(tmp_path, made, resume=True)
    assert code(caught) == "EVO603"


def test_texts_that_are_missing_or_short(tmp_path: Path) -> None:
    """No such text is EVO500; one without room for a window on either side is EVO501, before anything is built."""
    made = document(train={"task": {"kind": "bytes", "corpus": "own.txt"}}, context=2_000)
    with pytest.raises(DiagnosticError) as caught:
        opened(tmp_path, made)
    assert code(caught) == "EVO500"
    written(tmp_path / "own.txt", 5_000)
    with pytest.raises(DiagnosticError, match="1,250 held-out bytes, too few for windows of 2,000") as caught:
        opened(tmp_path, made)
    assert code(caught) == "EVO501"


@pytest.mark.parametrize("device", ["cuda:99", "tpu", "cpu:zero", ""])
def test_devices_that_are_not_there(tmp_path: Path, device: str) -> None:
    """A device that this machine lacks, or that does not exist, is EVO510."""
    with pytest.raises(DiagnosticError) as caught:
        TrainingRun.open(document(), tmp_path, tmp_path / "out", device)
    assert code(caught) == "EVO510"
