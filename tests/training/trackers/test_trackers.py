"""Trackers: told every step and score with finite numbers, closed whatever happens, and clear where they cannot be."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from commands import Evo
from evo.dsl.index import kinds

TEXT = """\
evo: 1
name: tiny
organism: {width: 16, context: 16, stages: [{name: a, mix: {kind: convolution}}]}
train: {steps: 3, batch: 2}
"""


@pytest.fixture
def cfg(tmp_path: Path) -> Path:
    """A document that trains at once."""
    path = tmp_path / "tiny.yaml"
    path.write_text(TEXT)
    return path


@pytest.mark.usefixtures("strangers")
def test_a_tracker_is_told_steps_and_scores_and_closed(cfg: Path, tmp_path: Path, evo: Evo) -> None:
    """Under the names of metrics.jsonl; another package's kind is as good as a built-in one."""
    from strangers.training import Listed

    Listed.told.clear()
    Listed.ends.clear()
    outcome = evo("train", cfg, "--track", "listed", "--out", tmp_path / "out", "--device", "cpu", "--json")
    steps = [values for _, values in Listed.told if "loss" in values]
    assert len(steps) == 3
    assert {"rate", "gradient_norm", "tokens_per_second"} <= set(steps[0])
    assert Listed.told[-1] == (3, {"held_out/bits_per_byte": outcome.json["bits_per_byte"]})
    assert Listed.ends == ["tiny"]


@pytest.mark.usefixtures("strangers")
def test_a_tracker_is_told_of_lives(cfg: Path, tmp_path: Path, evo: Evo) -> None:
    """Births, deaths and looks at their steps: how many, and their numbers by pool."""
    from strangers.training import Listed

    Listed.told.clear()
    cfg.write_text(
        TEXT.replace("{kind: convolution}", "{kind: pool, slots: 4, alive: 2}").replace(
            "steps: 3,", "steps: 3, life: {kind: annealed, every: 1, cells: 4, warmup: 0, gentle: 0},"
        )
    )
    assert evo("train", cfg, "--track", "listed", "--out", tmp_path / "out", "--device", "cpu").code == 0
    looks = [(step, values) for step, values in Listed.told if "look/count" in values]
    assert [step for step, _ in looks] == [1, 2, 3]
    assert looks[0][1]["look/pool_size/stages.a.0.mixer"] == 2 + looks[0][1].get("birth/count", 0)
    assert sum(values.get("birth/count", 0) for _, values in looks) > 0
    assert not any(name.startswith("birth/slot") for _, values in looks for name in values)


@pytest.mark.usefixtures("strangers")
def test_a_tracker_is_closed_when_training_fails(cfg: Path, tmp_path: Path, evo: Evo, monkeypatch) -> None:
    """Also by what nobody foresaw."""
    from strangers.training import Listed

    def fails(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Listed, "note", fails)
    Listed.ends.clear()
    assert evo("train", cfg, "--track", "listed", "--out", tmp_path / "out", "--device", "cpu").code == 130
    assert Listed.ends == ["tiny"]


@pytest.mark.parametrize("kind", kinds("tracker"))
def test_a_missing_package_is_a_diagnostic(cfg: Path, tmp_path: Path, evo: Evo, monkeypatch, kind: str) -> None:
    """With the package to install; nothing is trained."""
    for name in (kind, "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, name, None)
    outcome = evo("train", cfg, "--track", kind, "--out", tmp_path / "out", "--device", "cpu")
    assert (outcome.code, "EVO525" in outcome.err, f"pip install {kind}" in outcome.err) == (1, True, True)
    assert not (tmp_path / "out" / "checkpoint.safetensors").exists()
    assert "EVO210" in evo("train", cfg, "--track", "abacus").err


def test_what_the_packages_are_called_with(cfg: Path, tmp_path: Path, evo: Evo, monkeypatch) -> None:
    """Each as its documentation has it: stand-ins of the three note their calls."""
    calls: list[tuple[object, ...]] = []

    def noting(name: str):
        def call(*args: object, **kwargs: object) -> SimpleNamespace:
            calls.append((name, *args, *sorted(kwargs)))
            return SimpleNamespace(**{name: noting(name) for name in ("log", "finish", "add_scalar", "close")})

        return call

    for module, names in {
        "wandb": ("init",),
        "mlflow": ("set_experiment", "start_run", "log_text", "log_metrics", "end_run"),
        "torch.utils.tensorboard": ("SummaryWriter",),
    }.items():
        made = ModuleType(module)
        for name in names:
            setattr(made, name, noting(name))
        monkeypatch.setitem(sys.modules, module, made)
    trackers = ("--track", "tensorboard", "--track", "{kind: wandb, project: mine}", "--track", "mlflow")
    assert evo("train", cfg, *trackers, "--out", tmp_path / "out", "--device", "cpu").code == 0
    begun = {call[0]: call[1:] for call in calls}
    assert begun["init"] == ("config", "dir", "name", "project")
    assert begun["SummaryWriter"] == (str(tmp_path / "out"),)
    assert begun["set_experiment"] == ("evo",)
    assert {"add_scalar", "log", "log_metrics", "finish", "end_run", "close"} <= begun.keys()
    assert sum(call[0] == "log" for call in calls) == sum(call[0] == "log_metrics" for call in calls) == 4
