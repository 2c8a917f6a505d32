"""`evo train` and `evo generate`, as a person calls them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from commands import Evo
from evo.training import run
from evo.training.checkpoint import load_checkpoint

CFG = """\
evo: 1
name: tiny
organism:
  width: 16
  context: 16
  {position}
  stages:
    - {{name: body, mix: {{kind: attention, heads: 2}}, ffn: {{kind: gated, ratio: 1}}}}
train: {{steps: 3, batch: 2, {train}}}
"""


@pytest.fixture(autouse=True)
def _short_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "HELD_OUT_TOKENS", 500)


def written(folder: Path, train: str = "", position: str = "") -> Path:
    """A document in a folder."""
    path = folder / "tiny.yaml"
    path.write_text(CFG.format(train=train, position=position))
    return path


def test_train_and_generate(tmp_path: Path, evo: Evo) -> None:
    """Training says what it does, leaves a checkpoint, and generating from its folder continues the prompt."""
    code, out, _ = evo("train", written(tmp_path), "--out", tmp_path / "out", "--device", "cpu")
    assert code == 0
    assert "corpus shakespeare" in out
    assert "after 3 steps" in out.splitlines()[-2]
    assert out.splitlines()[-1] == f"checkpoint: {tmp_path / 'out' / 'checkpoint.safetensors'}"
    assert (tmp_path / "out" / "checkpoint.safetensors").is_file()
    code, out, _ = evo("generate", tmp_path / "out", "--prompt", "Once", "--tokens", 8)
    assert code == 0
    assert out.startswith("Once")
    again = evo("generate", tmp_path / "out" / "checkpoint.safetensors", "--prompt", "Once", "--tokens", 8)
    assert again == (0, out, "")


def test_json(tmp_path: Path, evo: Evo) -> None:
    """With --json each prints one object and nothing else, also when there was nothing left to do."""
    cfg = written(tmp_path)
    code, out, _ = evo("train", cfg, "--out", tmp_path / "out", "--device", "cpu", "--json")
    result = json.loads(out)
    assert (code, result["command"], result["step"]) == (0, "train", 3)
    assert result["bits_per_byte"] > 0
    _, out, _ = evo("train", cfg, "--out", tmp_path / "out", "--device", "cpu", "--resume", "--json")
    again = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert again["bits_per_byte"] == result["bits_per_byte"]
    code, out, _ = evo("generate", tmp_path / "out", "--tokens", 5, "--json")
    assert (code, json.loads(out)["command"]) == (0, "generate")


def test_mistakes_have_codes(tmp_path: Path, evo: Evo) -> None:
    """What stands in the way, is missing, diverges or is no checkpoint ends in exit code 1 and its diagnostic."""
    cfg = written(tmp_path)
    assert evo("train", cfg, "--out", tmp_path / "out", "--device", "cpu")[0] == 0
    expected = {
        "EVO601": ("train", cfg, "--out", tmp_path / "out", "--device", "cpu"),
        "EVO602": ("train", cfg, "--out", tmp_path / "none", "--device", "cpu", "--resume"),
        "EVO510": ("train", cfg, "--out", tmp_path / "new", "--device", "tpu"),
    }
    for name, arguments in expected.items():
        code, out, err = evo(*arguments)
        assert (code, out) == (1, "")
        assert err.startswith(name)
        code, out, _ = evo(*arguments, "--json")
        assert (code, json.loads(out)["error"][0]["code"]) == (1, name)
    code, _, err = evo("generate", cfg)
    assert (code, err[:6]) == (1, "EVO602")
    written(tmp_path, "clip: 2.0")
    code, _, err = evo("train", cfg, "--out", tmp_path / "out", "--device", "cpu", "--resume")
    assert (code, err[:6]) == (1, "EVO603")


def test_divergence_is_a_diagnostic(tmp_path: Path, evo: Evo, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run whose loss breaks ends in EVO521 and leaves no checkpoint behind, only its metrics."""
    monkeypatch.setattr("evo.dsl.schedules.WsdSchedule.rate", lambda *args: 1e38)
    code, _, err = evo("train", written(tmp_path), "--out", tmp_path / "out", "--device", "cpu")
    assert (code, err[:6]) == (1, "EVO521")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["metrics.jsonl"]


def test_a_persons_own_text(tmp_path: Path, evo: Evo, monkeypatch: pytest.MonkeyPatch) -> None:
    """A corpus path is relative to the document, not to where the program is called."""
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "own.txt").write_bytes(b"some words to learn. " * 600)
    cfg = written(tmp_path, "task: {kind: bytes, corpus: texts/own.txt}")
    monkeypatch.chdir(tmp_path / "texts")
    code, out, _ = evo("train", cfg, "--out", tmp_path / "out", "--device", "cpu")
    assert code == 0
    assert "corpus texts/own.txt" in out
    assert "warning: corpus 'texts/own.txt' has 12,600 bytes" in out


def test_text_beyond_learned_positions(tmp_path: Path, evo: Evo) -> None:
    """Asking for more than the learned positions hold is EVO522 before anything is printed."""
    cfg = written(tmp_path, position="position: {kind: learned}")
    assert evo("train", cfg, "--out", tmp_path / "out", "--device", "cpu")[0] == 0
    code, out, err = evo("generate", tmp_path / "out", "--tokens", 40)
    assert (code, out, err[:6]) == (1, "", "EVO522")


def test_wrong_options_are_the_command_lines_fault(tmp_path: Path, evo: Evo) -> None:
    """Options out of range end in exit code 2."""
    for arguments in (("train", written(tmp_path), "--steps", 0), ("generate", tmp_path, "--temperature", -1)):
        assert evo(*arguments)[0] == 2


def test_steps_have_the_limits_of_the_field(tmp_path: Path, evo: Evo) -> None:
    """More steps than a document may ask for are refused by name before anything runs."""
    code, _, err = evo("train", written(tmp_path), "--steps", 10**8 + 1, "--out", tmp_path / "out", "--device", "cpu")
    assert (code, err[:6]) == (1, "EVO203")
    assert "--steps stands for train.steps" in err
    assert not (tmp_path / "out").exists()


def test_a_place_that_cannot_be_written_is_refused_before_training(
    tmp_path: Path, evo: Evo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F19: --out below a file, or with a name that is too long, is EVO004 before the first step."""
    monkeypatch.setattr("evo.training.loop.Trainer.run", lambda *args, **options: pytest.fail("trained"))
    (tmp_path / "f").touch()
    for out in (tmp_path / "f" / "x", tmp_path / ("n" * 300)):
        code, _, err = evo("train", written(tmp_path), "--out", out, "--device", "cpu")
        assert (code, "EVO004" in err) == (1, True)


def test_another_document_is_told_by_its_fields(tmp_path: Path, evo: Evo) -> None:
    """F31: EVO603 names what differs, and --steps where that is all."""
    options = ("--out", tmp_path / "out", "--device", "cpu", "--threads", 1)
    assert evo("train", written(tmp_path), *options)[0] == 0
    cfg = tmp_path / "tiny.yaml"
    cfg.write_text(cfg.read_text().replace("steps: 3", "steps: 5"))
    code, _, err = evo("train", cfg, *options, "--resume")
    assert (code, err[:6]) == (1, "EVO603")
    assert "train.steps: 3 -> 5" in err
    assert "--steps 5" in err


def test_other_steps_are_said(tmp_path: Path, evo: Evo) -> None:
    """F15: a lengthened schedule says where the rate goes; a shortened one that the steps are done. JSON has both."""
    options = ("--out", tmp_path / "out", "--device", "cpu", "--threads", 1)
    cfg = written(tmp_path)
    assert evo("train", cfg, *options)[0] == 0
    code, out, _ = evo("train", cfg, *options, "--resume", "--steps", 2)
    assert code == 0
    assert "3 steps are done already" in out
    code, out, err = evo("train", cfg, *options, "--resume", "--steps", 6, "--json")
    (warning,) = json.loads(out)["warnings"]
    assert warning in err
    assert "the schedule is recomputed for 6 steps instead of 3: the rate goes from" in warning


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_save(tmp_path: Path, number: signal.Signals) -> None:
    """F25: SIGTERM saves as Ctrl-C does, says so, and ends with its own status; the rest can be resumed."""
    cfg = written(tmp_path)
    command = [sys.executable, "-m", "evo", "train", str(cfg), "--steps", "100000", "--out", str(tmp_path / "out")]
    with subprocess.Popen([*command, "--device", "cpu", "--threads", "1"], stderr=-1, stdout=-1, text=True) as process:
        assert process.stdout is not None
        while not process.stdout.readline().startswith("step "):
            assert process.poll() is None
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == (143 if number is signal.SIGTERM else 130)
    assert "--resume goes on from it" in err
    assert load_checkpoint(tmp_path / "out" / "checkpoint.safetensors").step > 0


def test_train_over_seeds_gives_mean_and_spread(tmp_path: Path, evo: Evo) -> None:
    """Each seed is a training of its own in its folder; a checkpoint has no seeds left to choose."""
    cfg = tmp_path / "tiny.yaml"
    cfg.write_text(
        "evo: 1\norganism: {width: 16, context: 16, stages: [{name: a, mix: {kind: convolution}}]}\n"
        "train: {steps: 2, batch: 2, seed: 4}\n"
    )
    out = tmp_path / "out"
    found = evo("train", cfg, "--seeds", 2, "--out", out, "--device", "cpu", "--json").json
    scores = [training["bits_per_byte"] for training in found["trainings"]]
    assert sorted(path.name for path in out.iterdir()) == ["seed_4", "seed_5"]
    assert found["mean"] == pytest.approx(sum(scores) / 2)
    assert found["sd"] == pytest.approx(abs(scores[0] - scores[1]) / 2**0.5)
    single = evo("train", cfg, "--out", tmp_path / "one", "--device", "cpu", "--json").json
    assert single["bits_per_byte"] == scores[0]
    assert evo("train", out / "seed_4" / "checkpoint.safetensors", "--seeds", 2).code == 2
    shown = evo("train", cfg, "--seeds", 1, "--out", tmp_path / "two", "--device", "cpu").out
    assert "over 1 seed: " in shown
    assert "one seed tells no spread" in shown


@pytest.fixture
def seeded(tmp_path: Path) -> Path:
    """A document of four short steps."""
    cfg = tmp_path / "tiny.yaml"
    cfg.write_text(
        "evo: 1\norganism: {width: 16, context: 16, stages: [{name: a, mix: {kind: convolution}}]}\n"
        "train: {steps: 4, batch: 2, seed: 4}\n"
    )
    return cfg


def test_seeds_are_trained_as_one(tmp_path: Path, evo: Evo, seeded: Path) -> None:
    """Each leaves what it leaves alone, up to rounding."""
    out = tmp_path / "out"
    found = evo("train", seeded, "--seeds", 2, "--device", "cpu", "--json", "--out", out, "--stacked").json
    alone = evo("train", seeded, "--device", "cpu", "--json", "--out", tmp_path / "alone").json
    for name in ("bits_per_byte", "train_loss"):
        assert found["trainings"][0][name] == pytest.approx(alone[name], rel=1e-4)
    for place in (out / "seed_4", out / "seed_5", tmp_path / "alone"):
        assert (place / "metrics.jsonl").read_text().count("\n") == 5
    shown = evo("train", seeded, "--seeds", 2, "--device", "cpu", "--out", tmp_path / "again", "--stacked").out
    assert shown.startswith("2 seeds trained as one, each:\n")
    assert shown.count("bytes to train on") == 1
    assert evo("train", seeded, "--stacked").code == 2


@pytest.mark.slow
def test_stacked_seeds_go_on_where_they_were(tmp_path: Path, evo: Evo, seeded: Path) -> None:
    """All from one step; what cannot be stacked is trained one after the other, with a warning."""
    options = ("--seeds", 2, "--device", "cpu", "--json", "--stacked", "--out")
    evo("train", seeded, *options, tmp_path / "half", "--steps", 2)
    found = evo("train", seeded, *options, tmp_path / "half", "--resume", "--steps", 4).json
    assert [row["step"] for row in found["trainings"]] == [4, 4]
    shown = evo("train", seeded, *options, tmp_path / "again", "--set", "train.activation_checkpointing=true")
    assert "trained one after the other: layers are computed again" in shown.err
