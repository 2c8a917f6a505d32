"""Checkpoints: exact, repeatable, and never a traceback for a file that is none."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tiny_models import document, model, task, text

from evo.base.diagnostics import DiagnosticError
from evo.training.checkpoint import Checkpoint, load_checkpoint, restore_optimizer, save_checkpoint
from evo.training.loop import Trainer


def saved(path: Path, kind: str = "muon") -> tuple[Path, Checkpoint]:
    """A checkpoint of a trained model, as a file and in memory."""
    made = document(train={"optimizer": {"kind": kind}})
    trainer = Trainer(model(), task(), made.train)
    trainer.run(2)
    weights = {path: parameter.detach() for path, parameter in trainer.model.named_parameters()}
    checkpoint = Checkpoint(made, weights, 2, 4, text().digest, trainer.optimizer.state_dict(), "here")
    save_checkpoint(path / "c.safetensors", checkpoint)
    return path / "c.safetensors", checkpoint


@pytest.mark.parametrize("kind", ["adamw", "muon", "lion"])
def test_what_is_saved_is_read(tmp_path: Path, kind: str) -> None:
    """Document, weights, step, text, folder and optimizer state come back as they were, bit for bit."""
    path, before = saved(tmp_path, kind)
    after = load_checkpoint(path)
    assert (after.document, after.step, after.steps) == (before.document, before.step, before.steps)
    assert (after.corpus_digest, after.root) == (before.corpus_digest, before.root)
    assert after.weights.keys() == before.weights.keys()
    assert all(torch.equal(after.weights[name], before.weights[name]) for name in before.weights)
    assert after.optimizer is not None
    assert before.optimizer is not None
    assert flat(after.optimizer) == flat(before.optimizer)
    assert flat(after.optimizer)


def flat(state: dict[str, dict[str, torch.Tensor]]) -> dict[tuple[str, str], bytes]:
    """Optimizer state by parameter and name, tensors as bytes."""
    rows = ((path, name, value) for path, values in state.items() for name, value in values.items())
    return {(path, name): value.numpy().tobytes() for path, name, value in rows}


def test_the_same_checkpoint_is_the_same_file(tmp_path: Path) -> None:
    """Saving twice gives equal bytes, so that two runs can be compared by their digests."""
    path, checkpoint = saved(tmp_path)
    for copy in range(5):
        save_checkpoint(tmp_path / f"{copy}.safetensors", checkpoint)
        assert (tmp_path / f"{copy}.safetensors").read_bytes() == path.read_bytes()


def refused(path: Path) -> str:
    """The message with which a file is refused."""
    with pytest.raises(DiagnosticError) as caught:
        load_checkpoint(path)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "EVO602"
    assert str(path) in diagnostic.message
    return diagnostic.message


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    """A missing file, a folder, an empty file, text, and another program's safetensors are EVO602."""
    assert "no such file" in refused(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    assert "no such file" in refused(tmp_path / "file" / "checkpoint.safetensors")
    refused(tmp_path)
    for name, content in {"empty": b"", "text": b"evo: 1\n", "zeros": bytes(100), "long": b"\xff" * 100}.items():
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name)
    save_file({"a": torch.zeros(2)}, tmp_path / "foreign")
    assert "not written by `evo train`" in refused(tmp_path / "foreign")


def test_a_truncated_checkpoint_is_refused(tmp_path: Path) -> None:
    """Cut anywhere, a checkpoint is EVO602."""
    path, _ = saved(tmp_path)
    content = path.read_bytes()
    for length in (0, 1, 7, 8, 9, 100, 1_000, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        refused(path)


def test_damaged_headers_are_refused(tmp_path: Path) -> None:
    """A header that lacks a part, or holds something else in its place, is EVO602."""
    path, checkpoint = saved(tmp_path)
    head = {
        "format": "evo-checkpoint-2", "document": "evo: 1", "step": 1, "steps": 2, "corpus_digest": "", "root": "",
    }  # fmt: skip
    weights = {f"model.{name}": tensor for name, tensor in checkpoint.weights.items()}
    broken: list[Any] = ["", "[]", "{", "1", json.dumps({**head, "format": "evo-checkpoint-9"})]
    broken += [json.dumps({key: value for key, value in head.items() if key != left_out}) for left_out in head]
    broken += [json.dumps({**head, key: None}) for key in head]
    for text_ in broken:
        save_file(weights, path, {"evo": text_})
        refused(path)


def test_weights_of_another_document_are_refused(tmp_path: Path) -> None:
    """A checkpoint whose weights are not those its document plans is EVO602, missing or of another shape."""
    path, checkpoint = saved(tmp_path)
    some = dict(list(checkpoint.weights.items())[1:])
    save_checkpoint(path, Checkpoint(checkpoint.document, some, 2, 4, ""))
    assert "not those of its document" in refused(path)
    wide = dict(model(width=32).named_parameters())
    save_checkpoint(path, Checkpoint(checkpoint.document, wide, 2, 4, ""))
    assert "not those of its document" in refused(path)


def test_state_of_another_optimizer_is_refused(tmp_path: Path) -> None:
    """A checkpoint whose optimizer state is not that of its document's optimizer is EVO602, not a traceback."""
    path, _ = saved(tmp_path, "lion")
    optimizer = load_checkpoint(path).optimizer
    assert optimizer is not None
    with pytest.raises(DiagnosticError, match="EVO602 the checkpoint cannot be resumed"):
        restore_optimizer(Trainer(model(), task(), document().train).optimizer, optimizer)


@pytest.mark.parametrize("value", [10**30, float("inf"), float("nan"), -1, 1.5, True, "3", 5])
def test_steps_that_cannot_be_are_refused(tmp_path: Path, value: object) -> None:
    """A step that is no count, or beyond the run's own steps, is EVO602 and no traceback."""
    path, checkpoint = saved(tmp_path)
    save_checkpoint(path, replace(checkpoint, step=value))  # type: ignore[arg-type]
    assert "step" in refused(path)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, number: float) -> None:
    """Weights or moments that are not finite, and weights of another dtype, are EVO602."""
    path, checkpoint = saved(tmp_path)
    name, tensor = next(iter(checkpoint.weights.items()))
    save_checkpoint(path, replace(checkpoint, weights={**checkpoint.weights, name: torch.full_like(tensor, number)}))
    assert "not finite" in refused(path)
    save_checkpoint(path, replace(checkpoint, weights={**checkpoint.weights, name: tensor.int()}))
    assert "torch.int32, not float32" in refused(path)


def test_devices_and_pipes_are_refused(tmp_path: Path) -> None:
    """Neither is read."""
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe")
    refused(Path("/dev/zero"))
