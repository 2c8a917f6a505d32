"""`evo generate`: prompts as they came, what is said beyond the context, and the way from a search to a checkpoint."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TINY = """\
evo: 1
organism:
  width: 16
  context: 16
  stages:
    - name: body
      mix: {kind: attention, heads: 2}
train: {steps: 1, batch: 1}
"""


@pytest.fixture
def trained(evo, tmp_path: Path) -> Path:
    """The folder of a checkpoint after one step."""
    (tmp_path / "tiny.yaml").write_text(TINY)
    assert evo("train", tmp_path / "tiny.yaml", "--out", tmp_path / "t").code == 0
    return tmp_path / "t"


def test_text_beyond_the_context_is_said(evo, trained: Path):
    """A warning on stderr with the number of positions; none within."""
    assert (
        "EVO523 warning: 4 of 20 positions are beyond the context of 16"
        in evo("generate", trained, "--prompt", "x", "--tokens", 20).err
    )
    assert evo("generate", trained, "--prompt", "x", "--tokens", 16).err == ""


@pytest.mark.parametrize("option", [("--adapt", "select"), ("--samples", "text.txt")])
def test_what_belongs_to_experts_is_refused_without_them(evo, tmp_path: Path, option: tuple[str, str]):
    """It would change nothing."""
    shown = evo("generate", tmp_path, *option)
    assert shown.code == 2
    assert option[0] in shown.err


def test_a_prompt_that_is_not_utf8_comes_out_as_it_came(evo, trained: Path):
    """Byte for byte into a pipe, and as base64 in JSON, which holds no half characters."""
    command = [sys.executable, "-m", "evo", "generate", str(trained), "--tokens", "4", "--prompt", b"caf\xe9"]
    found = subprocess.run(command, capture_output=True, check=True)
    assert found.stdout.startswith(b"caf\xe9")
    data = evo("generate", trained, "--tokens", 4, "--prompt", os.fsdecode(b"caf\xe9"), "--json").json
    assert base64.b64decode(data["prompt_bytes"]) == b"caf\xe9"
    assert data["prompt"] == "caf\ufffd"
    text = base64.b64decode(data["text_bytes"])
    assert len(text) == 4
    assert text == found.stdout[4:-1]


def test_caches_are_kept_as_asked(evo, trained: Path, tmp_path: Path):
    """No cache gives the text that a full one does; fewer bits and windows decode, and explain counts their bytes."""
    texts = {
        store: evo("generate", trained, "--tokens", 6, "--temperature", 0, "--cache", store, "--json").json["text"]
        for store in ("full", "none", "nf4")
    }
    assert texts["full"] == texts["none"]
    assert evo("generate", trained, "--tokens", 12, "--cache", "int8", "--window", 2).code == 0
    assert evo("generate", trained, "--cache", "none", "--window", 2).code == 2
    assert evo("generate", trained, "--tokens", 12, "--window", 2, "--heavy", 3).code == 0
    assert evo("generate", trained, "--heavy", 3).code == 2
    kept = evo("explain", tmp_path / "tiny.yaml", "--cache", "nf4", "--window", 2, "--json").json["kept_bytes"]
    assert kept == {"nf4, window 2": 6 * 4 * (8 // 2 + 2)}


def test_speculation_is_reported(evo, trained: Path, tmp_path: Path):
    """The same text with how many drafts stayed; refused beside other caches, and where nothing predicts ahead."""
    (tmp_path / "ahead.yaml").write_text(TINY.replace("train:", "  ahead: {kind: parallel, tokens: 2}\ntrain:"))
    assert evo("train", tmp_path / "ahead.yaml", "--out", tmp_path / "a").code == 0
    plain, drafted = (
        evo("generate", tmp_path / "a", "--tokens", 9, "--json", *more).json for more in ((), ("--speculate",))
    )
    assert plain["text_bytes"] == drafted["text_bytes"]
    told = drafted["speculation"]
    assert told["passes"] + told["accepted"] == 9
    assert (
        f"{told['accepted']} of {told['drafted']} drafted"
        in evo("generate", tmp_path / "a", "--tokens", 9, "--speculate").err
    )
    assert evo("generate", tmp_path / "a", "--speculate", "--cache", "int8").code == 2
    assert "EVO527" in evo("generate", trained, "--speculate").err


def test_a_cache_that_may_tip_routers_is_told_of(evo, tmp_path: Path):
    """A warning on stderr, by the command that decodes and by the one that counts; none with int8."""
    (tmp_path / "experts.yaml").write_text(TINY.replace("train:", "      ffn: {kind: experts, count: 4}\ntrain:"))
    said = "EVO526 warning: a cache of nf4 may change what experts chooses"
    assert said in evo("explain", tmp_path / "experts.yaml", "--cache", "nf4").err
    assert "EVO526" not in evo("explain", tmp_path / "experts.yaml", "--cache", "int8").err
    assert evo("train", tmp_path / "experts.yaml", "--out", tmp_path / "t").code == 0
    assert said in evo("generate", tmp_path / "t", "--tokens", 2, "--cache", "nf4").err


def test_a_run_and_a_variant_lead_to_snapshot_restore(evo, tmp_path: Path):
    """What is no checkpoint says what makes one, to the command that writes text and to the one that exports."""
    run = tmp_path / "r"
    (run / "gen_0001").mkdir(parents=True)
    (run / "run.yaml").write_text("evo_run: 2\n")
    (run / "gen_0001" / "variant_00.safetensors").write_bytes(b"x")
    (run / "gen_0001" / "variant_00.yaml").write_text(TINY)
    for path in (run, run / "gen_0001" / "variant_00.safetensors", run / "gen_0001" / "variant_00.yaml"):
        for command in (("generate", path), ("export", path, "--to", "torch", "--out", tmp_path / "exported")):
            outcome = evo(*command)
            assert outcome.code == 1
            assert "EVO602" in outcome.err
            assert f"evo snapshot restore {run}/gen_0001/variant_00.safetensors --out" in outcome.err
    variants = [{"id": "a", "file": "gen_0001/variant_00.yaml"}, {"id": "b", "file": "gen_0002/variant_03.yaml"}]
    (run / "search_report.json").write_text(json.dumps({"variants": variants, "best_scored": "b"}))
    assert f"restore {run}/gen_0002/variant_03.safetensors --out" in evo("generate", run).err  # the best one's
    (tmp_path / "tiny.yaml").write_text(TINY)
    assert f"`evo train {tmp_path / 'tiny.yaml'}` makes a checkpoint" in evo("generate", tmp_path / "tiny.yaml").err
