"""Exported programs compute what the organism does: a torch file without evo, and ONNX."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from evo.base.diagnostics import DiagnosticError
from evo.compiler.build import build
from evo.compiler.check import is_causal
from evo.compiler.organism import Organism
from evo.compiler.resolve import resolve
from evo.dsl.document import Document, from_data, load
from evo.interop.program.onnx_file import write_onnx
from evo.interop.program.torch_file import write_torch

ROOT = Path(__file__).parents[2] / "examples"
ALONE = """
import sys, torch
sys.path.insert(0, sys.argv[1])
import model
from safetensors.torch import save_file
tokens = torch.load(sys.argv[1] + "/tokens.pt")
made = model.load()
logits = made(tokens)
logits.sum().backward()
gradients = {name: p.grad.contiguous() for name, p in made.named_parameters() if p.grad is not None}
save_file({"logits": logits.detach().contiguous(), **gradients}, sys.argv[1] + "/found.safetensors")
assert not [name for name in sys.modules if name.split(".")[0] == "evo"]
"""
SMALL = from_data(
    {
        "evo": 1,
        "name": "small",
        "organism": {
            "width": 16,
            "context": 12,
            "vocab": 40,
            "stages": [
                {
                    "name": "body",
                    "repeat": 3,
                    "mix": [{"kind": "attention", "heads": 2}, {"kind": "recurrence", "heads": 2}],
                    "ffn": [{"kind": "gated"}, {"kind": "experts", "count": 3, "top": 2}],
                }
            ],
        },
    }
).document
SLOW = ("zoo/qwen3_next", "zoo/rwkv", "hyena")


def exported(document: Document, folder: Path) -> tuple[torch.Tensor, Organism]:
    """Writes the file, for more tokens than are given; and what it is to be compared with."""
    plan = resolve(document.organism)
    length = min(document.organism.context, 20)
    write_torch(build(plan, 0), "it", length, is_causal(document), folder)
    tokens = torch.randint(plan.vocab, (2, length - 3), generator=torch.Generator().manual_seed(0))
    return tokens, build(plan, 0).eval()


def compare(logits: torch.Tensor, gradients: dict[str, torch.Tensor], tokens: torch.Tensor, ours: Organism) -> None:
    """Logits and gradients of both sides."""
    expected = ours(tokens)
    expected.sum().backward()
    assert (logits - expected).abs().max() < 1e-4 * expected.abs().max()
    for path, parameter in ours.named_parameters():
        own = gradients.get(path.replace(".", "/"))
        if parameter.grad is not None and own is not None:
            assert (own - parameter.grad).abs().max() < 1e-3 * parameter.grad.abs().max().clamp_min(1e-3)


@pytest.mark.slow
def test_the_file_computes_and_learns_the_same(tmp_path: Path) -> None:
    """Logits and gradients; equal blocks share one function, and nothing of evo is read."""
    tokens, ours = exported(SMALL, tmp_path)
    text = (tmp_path / "model.py").read_text()
    assert text.count("def Attention(") == 1
    assert text.count("Attention(w.at(") == 2
    assert {line.split()[1].split(".")[0] for line in text.splitlines() if line.startswith(("import ", "from "))} == {
        "json",
        "pathlib",
        "torch",
    }
    module = runpy.run_path(str(tmp_path / "model.py"))
    model = module["load"](tmp_path / "model.safetensors")
    logits = model(tokens)
    logits.sum().backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    compare(logits, gradients, tokens, ours)


@pytest.mark.slow
@pytest.mark.parametrize(
    "stage",
    [
        {"mix": {"kind": "convolution"}, "streams": {"kind": "hyper", "count": 2}},
        {"mix": {"kind": "memory", "heads": 1, "depth": 2, "chunk": 3}},
        {"kind": "memory_tokens", "of": {"name": "b", "mix": {"kind": "convolution"}}, "every": 3, "count": 2},
        {"mix": {"kind": "convolution"}, "ffn": {"kind": "gated", "inner_norm": {"kind": "rms"}}},
        {"mix": {"kind": "convolution"}, "ffn": {"kind": "experts", "count": 3, "of": {"kind": "dense", "bias": True}}},
    ],
    ids=["streams", "memory", "memory tokens", "inner norm", "biases of experts"],
)
def test_a_file_computes_for_any_number_of_rows(stage: dict[str, Any], tmp_path: Path) -> None:
    """What leaves half precision, of which a program needs to hold nothing; what repeats itself for each row; and what
    has a norm inside."""
    organism = {"width": 8, "context": 8, "vocab": 20, "stages": [{"name": "a", **stage}]}
    tokens, ours = exported(from_data({"evo": 1, "organism": organism}).document, tmp_path)
    logits = runpy.run_path(str(tmp_path / "model.py"))["load"](tmp_path / "model.safetensors")(tokens)
    compare(logits, {}, tokens, ours)


@pytest.mark.slow
@pytest.mark.parametrize(
    "mix",
    [
        {"kind": "gated_slots", "heads": 2},
        {"kind": "gated_slots", "heads": 2, "kv_heads": 1},
        {"kind": "spatial", "weigh": "softmax", "keys": True},
    ],
    ids=["gated slots", "shared gated slots", "spatial keys"],
)
def test_a_file_of_what_writes_into_its_own_tensors_learns(mix: dict[str, Any], tmp_path: Path) -> None:
    """Logits and gradients of two rows: halves of chunks that are written into in place, and rows that are spread."""
    organism = {"width": 8, "context": 20, "vocab": 20, "stages": [{"name": "a", "mix": mix}]}
    tokens, ours = exported(from_data({"evo": 1, "organism": organism}).document, tmp_path)
    model = runpy.run_path(str(tmp_path / "model.py"))["load"](tmp_path / "model.safetensors")
    logits = model(tokens)
    logits.sum().backward()
    compare(logits, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}, tokens, ours)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["depths", "chunks", "dynamic_patches"])
def test_a_file_has_what_only_some_tokens_pass(kind: str, tmp_path: Path) -> None:
    """How many do is not asked while it is traced, so that it computes the same for others."""
    inner = {"name": "inner", "mix": {"kind": "attention", "heads": 2}}
    body = {"name": "body", "kind": kind, "of": inner, **{"dynamic_patches": {"size": 2, "heads": 2}}.get(kind, {})}
    organism = {"width": 8, "context": 12, "stages": [body]}
    tokens, ours = exported(from_data({"evo": 1, "organism": organism}).document, tmp_path)
    logits = runpy.run_path(str(tmp_path / "model.py"))["load"](tmp_path / "model.safetensors")(tokens)
    compare(logits, {}, tokens, ours)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_it_does_so_alone(name: str, tmp_path: Path) -> None:
    """In a process that has no evo, for mixers of many kinds."""
    from safetensors.torch import load_file

    tokens, ours = exported(load(ROOT / f"{name}.yaml").document, tmp_path)
    torch.save(tokens, tmp_path / "tokens.pt")
    subprocess.run([sys.executable, "-I", "-W", "ignore", "-c", ALONE, str(tmp_path)], check=True, timeout=120)
    found = load_file(tmp_path / "found.safetensors")
    compare(found.pop("logits"), found, tokens, ours)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_onnx_computes_the_same(tmp_path: Path) -> None:
    """onnxruntime gives the logits, for a batch of another size than the traced one."""
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    plan = resolve(SMALL.organism)
    write_onnx(build(plan, 0), 12, tmp_path)
    tokens = torch.randint(plan.vocab, (5, 12), generator=torch.Generator().manual_seed(0))
    session = runtime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {session.get_inputs()[0].name: tokens.numpy()})
    expected = build(plan, 0).eval()(tokens).detach()
    assert (torch.from_numpy(logits) - expected).abs().max() < 1e-4 * expected.abs().max()


def test_what_cannot_be_traced_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """EVO655, with what torch said first."""
    from evo.blocks.feedforward.module import Gated

    monkeypatch.setattr(Gated, "forward", lambda self, x, flow: x * float(x.sum()))
    with pytest.raises(DiagnosticError, match="EVO655"):
        write_torch(build(resolve(SMALL.organism), 0), "it", 12, True, tmp_path)
