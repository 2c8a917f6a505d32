"""Two passes: the first finds which experts' gains suit a text, the second has them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tiny_models import document, task
from torch import Tensor

from commands import Evo
from evo.base.diagnostics import DiagnosticError
from evo.base.streams import Stream
from evo.compiler.build import build
from evo.compiler.organism import Organism
from evo.compiler.resolve import resolve
from evo.training.checkpoint import Checkpoint
from evo.training.generate import generate
from evo.training.two_pass import Experts

MADE = document(adapters={"kind": "svf"}, readout={"tie": False, "scale": 4.0})


def found(*seeds: int) -> tuple[Organism, list[Checkpoint]]:
    """A model, and experts whose gains are drawn."""
    model = build(resolve(MADE.organism), 0)
    weights = {path: parameter.detach().clone() for path, parameter in model.named_parameters()}
    experts = [
        Checkpoint(MADE, {**weights, **{path: drawn(weights[path], seed) for path in model.plan.trained}}, 0, 1, "")
        for seed in seeds
    ]
    return model, experts


def drawn(like: Tensor, seed: int) -> Tensor:
    return 4 * torch.rand(like.shape, generator=torch.Generator().manual_seed(seed))


def loss(model: Organism, text: list[int]) -> float:
    with torch.no_grad():
        return float(F.cross_entropy(model(torch.tensor([text[:-1]]))[0], torch.tensor(text[1:])))


def test_the_expert_that_wrote_a_text_is_selected() -> None:
    """Its share is one, the model computes what it does, and a mixture is at least as good."""
    model, experts = found(1, 2, 3)
    writer = build(resolve(MADE.organism), 0, weights=experts[1].weights)
    text = list(b"ab") + list(generate(writer, task(), b"ab", 100, temperature=1.0))
    assert Experts(model, experts).adapt(text, False, Stream(0)) == (0.0, 1.0, 0.0)
    selected = loss(model, text)
    assert selected == pytest.approx(loss(writer, text), rel=1e-5)
    shares = Experts(model, experts).adapt(text, True, Stream(0))
    assert shares == Experts(model, experts).adapt(text, True, Stream(0))
    assert loss(model, text) <= selected


def test_a_mixture_is_that_of_singular_values() -> None:
    """Each map is U diag(sum of share z times s) V^T, by a decomposition of its own."""
    model, experts = found(4, 5)
    shares = Experts(model, experts).adapt(list(b"some text to judge by"), True, Stream(1))
    assert len({*shares, 0.0, 1.0}) == 4
    for path, block in model.named_blocks():
        for name, adapter in block.named_adapters().items():
            weight = getattr(block, name).detach().double()
            left, values, right = torch.linalg.svd(weight, full_matrices=False)
            own = [expert.weights[f"{path}.adapters.{name}.gains"].double() for expert in experts]
            expected = left @ torch.diag(values * (shares[0] * own[0] + shares[1] * own[1])) @ right
            torch.testing.assert_close(weight + adapter.delta().detach().double(), expected, rtol=1e-4, atol=1e-4)


def test_what_cannot_be_mixed() -> None:
    """Adapters that are no gains, other frozen weights, and a text of one token."""
    model, experts = found(1, 2)
    with pytest.raises(DiagnosticError, match="nothing to predict"):
        Experts(model, experts).adapt([7], True, Stream(0))
    other = {**experts[1].weights, "embedding.weight": experts[1].weights["embedding.weight"] + 1}
    with pytest.raises(DiagnosticError, match="same frozen weights"):
        Experts(model, [experts[0], Checkpoint(MADE, other, 0, 1, "")])
    plain = document()
    with pytest.raises(DiagnosticError, match="EVO528"):
        Experts(build(resolve(plain.organism), 0), [Checkpoint(plain, {}, 0, 1, "")] * 2)


def test_generate_adapts(tmp_path: Path, evo: Evo) -> None:
    """`evo generate A --expert B` says whose shares it writes with; a text beside the prompt may be judged."""
    base = "evo: 1\norganism: {width: 16, context: 16, stages: [{name: a, mix: {kind: attention, heads: 2}}]}\n"
    (tmp_path / "base.yaml").write_text(base + "train: {steps: 1, batch: 1}\n")
    assert evo("train", tmp_path / "base.yaml", "--out", tmp_path / "base").code == 0
    for seed in (1, 2):
        more = ("--set", "organism.adapters={kind: svf}", "--set", f"train.seed={seed}", "--out", tmp_path / str(seed))
        assert evo("train", tmp_path / "base.yaml", "--from", tmp_path / "base", *more).code == 0
    both = ("generate", tmp_path / "1", "--expert", tmp_path / "2", "--tokens", 3)
    told = evo(*both, "--prompt", "some text", "--adapt", "select", "--json").json["shares"]
    assert sorted(told.values()) == [0.0, 1.0]
    (tmp_path / "samples.txt").write_text("other text")
    assert "experts: " in evo(*both, "--samples", tmp_path / "samples.txt").err
    assert "EVO528" in evo(*both, "--prompt", "x").err
    assert "EVO001" in evo(*both, "--samples", tmp_path / "none.txt").err
