"""`evo doctor`: what it tells is what the code that chooses says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import evo as package
from evo.base.diagnostics import DiagnosticError
from evo.training import device, hardware


def test_choices_follow_what_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU: the CPU in float32 on torch; where one is found: it, in bf16, with captured steps."""
    values = {line.what: line.value for line in hardware.chosen("cpu")}
    assert (values["device"], values["precision"], values["kernels"]) == ("cpu", "float32", "torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (7e9, 8e9))
    monkeypatch.setattr(hardware, "_is_half", lambda _: True)
    assert device.choose_device().type == "cuda"
    values = {line.what: line.value for line in hardware.chosen()}
    assert values["device"] == "cuda"
    assert values["precision"].startswith("bf16")
    assert "CUDA graph" in values["steps"]
    assert values["memory"] == "7.0 of 8.0 GB free on the device"


def test_a_device_that_is_not_there_is_an_error() -> None:
    """As in every command."""
    with pytest.raises(DiagnosticError, match="no device"):
        list(hardware.chosen("cuda:99"))


def test_the_command_tells_both(evo: Any) -> None:
    """Text for people, one JSON object for programs."""
    data = json.loads(evo("doctor", "--device", "cpu", "--json").out)
    assert {row["what"] for row in data["found"]} >= {"system", "torch", "triton", "onnx"}
    text = evo("doctor", "--device", "cpu").out
    assert "found" in text
    assert "chosen" in text


@pytest.mark.parametrize("name", hardware.EXTRAS)
def test_an_optional_package_that_is_told_is_one_that_is_used(name: str) -> None:
    """Nobody is told to install what no source file imports."""
    imported = re.compile(rf"""(import|from) {name}\b|import_module\("{name}""")
    sources = Path(str(package.__file__)).parent.rglob("*.py")
    assert any(imported.search(path.read_text(encoding="utf-8")) for path in sources)
