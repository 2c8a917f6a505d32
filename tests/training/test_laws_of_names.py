"""Names do not matter: a renamed stage, pseudopod or layer has other paths and draws, and else is what it was."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import torch
from tiny_models import CONTEXT, perturbed, task
from torch import Tensor

from evo.archive.snapshot.encode import encode
from evo.archive.snapshot.record import Snapshot
from evo.blocks.feedforward.module import Dense
from evo.blocks.flow import Flow
from evo.compiler.build import build
from evo.compiler.check import require_valid
from evo.compiler.organism import Organism
from evo.compiler.plan import Plan
from evo.compiler.resolve import resolve
from evo.dsl.canonical import to_data
from evo.dsl.document import Document, from_data
from evo.dsl.index import kinds
from evo.evolution.evaluate import input_moments, load_into
from evo.kernels.fused import ACTS
from evo.training.behaviour import behaviour
from evo.training.loop import Trainer
from evo.training.sample import held_out_sample, sample_bits

PLAIN = {"low": "lower", "top": "upper", "pod": "near", "layer": "whole"}
RENAMED = [
    {"low": "embed2", "top": "unembed", "pod": "readout", "layer": "norm"},
    {"low": "positions", "top": "merge", "pod": "bias", "layer": "attention"},
    {"low": "training", "top": "final_norm", "pod": "lm_head", "layer": "gain"},
]


def document(names: dict[str, str], optimizer: str = "adamw") -> Document:
    """Stages with a named mixer and a named layer, two of them read by a third."""
    low, top, pod, layer = (names[key] for key in ("low", "top", "pod", "layer"))
    written = {"sublayers": [{"block": pod, "gain": {"kind": "learned"}, "norm": {"in": {"kind": "rms"}}}]}
    stages: list[dict[str, Any]] = [
        {"name": low, "repeat": 2, "mix": [pod, {"kind": "recurrence", "heads": 2}], "ffn": {"kind": "dense"}},
        {"name": top, "from": [low, "embedding"], "mix": {"parallel": [pod, {"kind": "convolution"}]}},
        {"name": "end", "from": [top, low], "layers": layer},
    ]
    organism = {
        "width": 16, "context": CONTEXT, "position": {"kind": "learned"}, "readout": {"tie": False}, "stages": stages,
        "pseudopods": {pod: {"kind": "attention", "heads": 2}}, "layers": {layer: written},
    }  # fmt: skip
    train = {"steps": 3, "batch": 2, "optimizer": {"kind": optimizer}}
    return require_valid(from_data({"evo": 1, "organism": organism, "train": train}))


def back(path: str, names: dict[str, str]) -> str:
    """The path in the document of plain names."""
    for key in ("low", "top"):
        if path.startswith(f"stages.{names[key]}."):
            return f"stages.{PLAIN[key]}." + path.removeprefix(f"stages.{names[key]}.")
    return path


def initial(plan: Plan, names: dict[str, str]) -> dict[str, Tensor]:
    """The weights that the document of plain names starts from, under the paths of this one."""
    drawn = dict(build(resolve(document(PLAIN).organism), 0).named_parameters())
    return {path: drawn[back(path, names)].detach().clone() for path in plan.weights}


def trained(names: dict[str, str], optimizer: str) -> tuple[Organism, dict[str, Tensor], list[float]]:
    """The model after three steps, what it started from, and its losses."""
    made = document(names, optimizer)
    plan = resolve(made.organism)
    base = initial(plan, names)
    trainer = Trainer(build(plan, 0, weights=base), task(), made.train)
    losses: list[float] = []
    trainer.run(on_step=lambda progress: losses.append(progress.loss))
    return trainer.model, base, losses


def snapshot(model: Organism, base: dict[str, Tensor]) -> Snapshot:
    """What the model would be kept as."""
    weights = {path: p.detach().clone() for path, p in model.named_parameters()}

    def losses_of(restored: dict[str, Tensor]) -> Iterator[float]:
        load_into(model, restored)
        return sample_bits(model, held_out_sample(task(), CONTEXT, 256, cover=256, parts=1))

    found = encode(base, weights, input_moments(model, task(), CONTEXT, 256), losses_of, 0.01)
    load_into(model, weights)
    return found


@pytest.mark.parametrize("names", RENAMED, ids=lambda names: names["low"])
def test_plans_differ_in_paths_alone(names: dict[str, str]) -> None:
    """Weights, costs and what decoding keeps are equal under the other paths."""
    one, two = (resolve(document(found).organism) for found in (PLAIN, names))
    assert {back(path, names): weight for path, weight in two.weights.items()} == one.weights
    for figure in ("parameters", "flops_per_token", "cache_per_token", "state", "activations_per_token", "losses"):
        assert getattr(one, figure) == getattr(two, figure)
    assert one.cache_values(CONTEXT) == two.cache_values(CONTEXT)


@cache
def plainly(optimizer: str) -> tuple[dict[str, Tensor], list[float], Any, Snapshot]:
    """Of the model with plain names: weights, losses, measures and snapshot."""
    model, base, losses = trained(PLAIN, optimizer)
    weights = {path: parameter.detach().clone() for path, parameter in model.named_parameters()}
    return weights, losses, behaviour(model, task(), CONTEXT, 0), snapshot(model, base)


@pytest.mark.parametrize("optimizer", kinds("optimizer"))
@pytest.mark.parametrize("names", RENAMED, ids=lambda names: names["low"])
def test_training_is_equal_to_the_last_byte(names: dict[str, str], optimizer: str) -> None:
    """With the initial weights carried over: every loss, every weight, the measures, and each tensor's snapshot."""
    first, losses_one, behaviour_one, kept_one = plainly(optimizer)
    two, base_two, losses_two = trained(names, optimizer)
    assert losses_one == losses_two
    assert all(torch.equal(parameter, first[back(path, names)]) for path, parameter in two.named_parameters())
    assert behaviour_one == behaviour(two, task(), CONTEXT, 0)
    kept_two = snapshot(two, base_two)
    assert kept_one.payload_bytes == kept_two.payload_bytes
    pieces = {piece.name: piece for piece in kept_one.pieces}
    for piece in kept_two.pieces:
        other = pieces[back(piece.name, names)]
        assert (piece.method, piece.rank, piece.nbytes) == (other.method, other.rank, other.nbytes)
        assert all(torch.equal(*arrays) for arrays in zip(piece.arrays, other.arrays, strict=True))


def test_draws_are_keyed_by_paths() -> None:
    """What does change with a name: without weights carried over, a renamed stage starts from other draws."""
    one, two = (build(resolve(document(found).organism), 0) for found in (PLAIN, RENAMED[0]))
    first = dict(one.named_parameters())
    drawn = {path: torch.equal(p, first[back(path, RENAMED[0])]) for path, p in two.named_parameters() if p.ndim == 2}
    assert drawn["embedding.weight"]
    assert not drawn["stages.embed2.0.mixer.q"]


@pytest.mark.parametrize("has_bias", [False, True])
def test_a_bias_inside_project_or_after_it_is_measured_alike(has_bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same function with its bias handed to `project`, or added behind it: equal losses, measures and moments."""
    made = document(PLAIN)
    data = to_data(made)
    data["organism"]["stages"][0]["ffn"] = {"kind": "dense", "bias": has_bias}
    plan = resolve(require_valid(from_data(data)).organism)
    assert has_bias == any(path.endswith("up_bias") for path in plan.weights)
    inside, behind = perturbed(build(plan, 0)), perturbed(build(plan, 0))
    x_BT = torch.arange(2 * CONTEXT).reshape(2, CONTEXT)

    def forward(self: Dense, x_BTD: Tensor, flow: Flow) -> Tensor:
        def added(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            return flow.project(x, weight) if bias is None else flow.project(x, weight) + bias

        hidden_BTF = ACTS[self.word](added(x_BTD, self.up, self.up_bias))
        return added(hidden_BTF, self.down, self.down_bias)

    def seen(model: Organism) -> tuple[Tensor, tuple[float, ...], dict[str, Tensor]]:
        measures = behaviour(model, task(), CONTEXT, 0).measures.vector()
        return model.loss(x_BT, x_BT.roll(-1, 1)), measures, input_moments(model, task(), CONTEXT, 256)

    one = seen(inside)
    monkeypatch.setattr(Dense, "forward", forward)
    two = seen(behind)
    torch.testing.assert_close(one[0], two[0])
    assert one[1] == pytest.approx(two[1], rel=1e-4)
    torch.testing.assert_close(one[2], two[2])
