"""What kernels a plan takes, and what is asked of them."""

from __future__ import annotations

import importlib
from dataclasses import replace

import pytest
import torch

from evo.base.diagnostics import DiagnosticError
from evo.blocks.base import Block
from evo.blocks.flow import Flow
from evo.compiler.build import build
from evo.compiler.kernels import EVERYWHERE, kernel_choices, use_kernels
from evo.compiler.resolve import resolve
from evo.dsl.document import parse
from evo.kernels import dispatch
from evo.kernels.fused import support
from evo.kernels.tables import table_of

TEXT = """
evo: 1
organism:
  width: 32
  context: 32
  stages:
    - name: a
      repeat: 4
      mix:
        - {kind: attention, heads: 2}
        - {kind: attention, heads: 2, stencil: {kind: window, size: 4}, soft_cap: 20.0}
        - {kind: recurrence, heads: 2}
        - {parallel: [{kind: convolution}, {kind: recurrence, heads: 2, decay: head, update: outer}]}
"""


@pytest.fixture
def plan():
    return resolve(parse(TEXT).document.organism)


def test_training_repeats_its_bytes(plan) -> None:
    """On CUDA no layer trains on kernels whose gradients differ from call to call."""
    choices = kernel_choices(plan, device="cuda", dtype="bfloat16", batch=2, tokens=512)
    plain = next(choice for choice in choices if choice.family == "attention")
    assert plain.rejected["vendor"] == ("SDPA's gradients on CUDA do not repeat their bytes",)


def test_reference_is_plain_torch_throughout(plan, monkeypatch) -> None:
    """Norms, positions, feed-forwards, embedding and loss ask for the reference by name."""
    asked: list = []
    decided = support._decided
    monkeypatch.setattr(support, "_decided", lambda *asks: asked.append(asks[-1]) or decided(*asks))
    model, tokens_BT = build(plan, 0), torch.zeros(2, 16, dtype=torch.long)
    model.loss(tokens_BT, tokens_BT)
    assert set(asked) == {"auto"}
    use_kernels(model, "reference", batch=2, tokens=16)
    asked.clear()
    model.loss(tokens_BT, tokens_BT)
    assert set(asked) == {"reference"}


def noted(monkeypatch) -> list:
    """The problems that kernels are chosen for from now on."""
    posed: list = []
    original = dispatch.choose

    def note(table, call, requested="auto"):
        posed.append(call)
        return original(table, call, requested)

    for module in ("attention.attend", "convolution.short", "recurrence.recur"):
        monkeypatch.setattr(importlib.import_module(f"evo.kernels.{module}"), "choose", note)
    return posed


def test_choices_are_what_a_forward_pass_poses(plan, monkeypatch) -> None:
    """The problems that mixers announce are those that their forward passes choose kernels for."""
    model = build(plan, 0)
    tokens_BT = torch.zeros(2, 16, dtype=torch.long)
    announced = [
        problem
        for stage in plan.stages
        for _, problems in model.stages[stage.name].layer_problems(torch.zeros(2, 16, 32), Flow())
        for problem in problems
    ]
    posed = noted(monkeypatch)
    model(tokens_BT)
    assert posed == announced


def test_decoding_takes_the_stepwise_kernel(plan, monkeypatch) -> None:
    """What a generated token asks of the recurrences would run as a step on a GPU, and its prompt would not."""
    pytest.importorskip("triton")
    model, posed = build(plan, 0), noted(monkeypatch)

    def chosen() -> list[str]:
        problems = [replace(p, device="cuda") for p in posed if p.family == "recurrence"]
        posed.clear()
        return [dispatch.choose(table_of(problem), problem).backend.name for problem in problems]

    with torch.no_grad():
        _, state = model.extend(torch.zeros(1, 20, dtype=torch.long), model.initial_state())
        assert chosen() == ["triton", "triton"]
        model.extend(torch.zeros(1, 1, dtype=torch.long), state)
        assert chosen() == ["step", "step"]


def test_every_layer_with_kernels_is_listed_for_a_device_that_is_not_here(plan) -> None:
    """Choices for CUDA are made without a GPU, in the order of the layers, with the reasons of what was passed over."""
    pytest.importorskip("triton", reason="its absence is a reason against every kernel")
    every = kernel_choices(plan, device="cuda", dtype="bfloat16", batch=4, tokens=32)
    found = [choice for choice in every if choice.layer != EVERYWHERE]
    fused = {choice.family: choice.backend for choice in every if choice.layer == EVERYWHERE}
    assert set(fused.values()) == {"triton"}
    assert {"embed", "add norm", "gated", "cross-entropy"} <= fused.keys()
    shown = [(choice.layer.rpartition(".")[2], choice.family) for choice in found]
    in_front = ("2", "short convolution")
    assert dict.fromkeys(shown) == dict.fromkeys(
        [
            ("0", "attention"),
            ("1", "attention"),
            in_front,
            ("2", "recurrence"),
            ("3", "short convolution"),
            ("3", "recurrence"),
        ]
    )
    assert shown.count(in_front) == 1
    assert found[0].backend == "short"
    assert {"short", "vendor"} <= found[1].rejected.keys()


def test_an_explicit_backend_is_used_everywhere_or_refused(plan) -> None:
    """`reference` runs and agrees with auto; a backend that cannot run a layer here is EVO511 and names the layer."""
    auto, explicit = build(plan, 0), build(plan, 0)
    use_kernels(explicit, "reference", batch=2, tokens=16)
    assert {m.backend for m in explicit.modules() if isinstance(m, Block)} == {"reference"}
    tokens_BT = torch.arange(32).reshape(2, 16)
    torch.testing.assert_close(auto(tokens_BT), explicit(tokens_BT), rtol=1e-4, atol=1e-4)
    with pytest.raises(DiagnosticError) as caught:
        use_kernels(explicit, "triton", batch=2, tokens=16)
    assert caught.value.diagnostics[0].code == "EVO511"
    assert "stages.a.0" in caught.value.diagnostics[0].message


@pytest.mark.parametrize(
    ("layers", "backend"),
    [
        ("mix: {kind: attention, heads: 2}, ffn: {kind: gated}", "sdpa"),
        ("layers: {sublayers: [{block: {kind: experts, count: 3, top: 2}}]}", "all"),
    ],
)
def test_a_backend_of_one_family_leaves_the_fused_operations_alone(layers: str, backend: str) -> None:
    """What its layers may run on by that name, runs: feed-forwards beside them have no backend called so."""
    text = f"evo: 1\norganism: {{width: 32, context: 32, stages: [{{name: a, {layers}}}]}}\n"
    model, tokens_BT = build(resolve(parse(text).document.organism), 0), torch.arange(32).reshape(2, 16)
    expected = model(tokens_BT)
    use_kernels(model, backend, batch=2, tokens=16)
    torch.testing.assert_close(model(tokens_BT), expected)


def test_stages_of_other_lengths_do_not_mix_their_problems(planned) -> None:
    """Keys and values to which a stage adds are as many as its tokens, whatever was posed over patches before."""
    attention = {"kind": "attention", "heads": 2}
    patches = {"name": "a", "kind": "patches", "of": {"name": "b", "mix": attention}, "size": 4, "width": 16}
    plan = planned(patches, {"name": "c", "mix": attention, "kv_add": "a"})
    choices = kernel_choices(plan, device="cpu", dtype="float32", batch=2, tokens=32)
    assert {choice.layer for choice in choices if choice.family == "attention"} == {
        "stages.a.of_b.0",
        "stages.c.0",
    }
