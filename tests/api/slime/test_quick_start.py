"""The original's quick start, training, observability and profiling, with only the imports changed."""

from __future__ import annotations

import weakref
from pathlib import Path

import pytest
import torch

from evo.api.slime import (
    Config,
    MetricsCollector,
    SlimeMoldEncoder,
    Trainer,
    load_config,
    load_tinystories,
    load_wikitext,
    profile_model,
)
from evo.base.diagnostics import DiagnosticError
from evo.training.loop import DivergedError

YAML = """
model:
  sensory_dim: 512
  latent_dim: 256
  head_dim: 64
  num_pseudopods: 8
  behavioral_dims: 2

archive:
  num_centroids: 1000  # CVT partitions, not grid cells
  behavioral_dims: 5   # Can use 4-5 dims without exponential explosion
  low_rank_k: 64       # Factorization rank for weight compression

pool:
  min_size: 4
  max_size: 64
  cull_fraction: 0.2
"""
FAST = {"medium_every": 2, "slow_every": 4, "warmup_steps": 2, "gentle_steps": 6}
STORIES = "Once there was a slime. It grew.\n\nIt found food, and was glad.<|endoftext|>The end of it all. " * 8


def test_quick_start() -> None:
    """As its README begins, on a CPU."""
    model = SlimeMoldEncoder(
        sensory_dim=512,
        latent_dim=256,
        head_dim=64,
        num_pseudopods=8,
        device="cpu",
    )

    x = torch.randn(2, 128, 512, device="cpu")  # (batch, seq, dim)
    output = model(x)  # (2, 128, 256)
    assert output.shape == (2, 128, 256)


def test_configuration(tmp_path: Path) -> None:
    """Its model.yaml is read as it stands; a key that is not there is an error that names it."""
    (tmp_path / "model.yaml").write_text(YAML)
    config = load_config(tmp_path / "model.yaml")
    assert (config.model.num_pseudopods, config.archive.num_centroids, config.pool.max_size) == (8, 1000, 64)
    (tmp_path / "model.yaml").write_text(YAML.replace("max_size", "most"))
    with pytest.raises(DiagnosticError, match="unknown key 'most' in pool"):
        load_config(tmp_path / "model.yaml")


@pytest.mark.parametrize("causal", [True, False])
def test_training_and_observability(tmp_path: Path, causal: bool) -> None:
    """The loss falls; pool size, coverage, births and deaths are told step by step; the same seed gives the same."""
    (tmp_path / "tinystories-train.txt").write_text(STORIES)
    dataset = load_tinystories(split="train", max_samples=10000, path=tmp_path)
    settings = {"training": FAST, "pool": {"min_size": 1, "cull_fraction": 0.5}, "archive": {"num_centroids": 16}}
    finals = []
    for _ in range(2):
        metrics = MetricsCollector()
        model = SlimeMoldEncoder(16, 16, 8, 3, metrics=metrics, slots=4, causal=causal)
        trainer = Trainer(model, Config.model_validate(settings), context=16)
        losses = trainer.train(dataset=dataset, epochs=2, batch_size=8, learning_rate=1e-2)
        finals.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
    assert losses[1] < losses[0]
    births, deaths = (sum(metrics.get(f"component_{name}")) for name in ("births", "deaths"))
    assert births > 0
    assert metrics.get("pool_size")[-1] == 3 + births - deaths == len(model.alive())
    assert len(metrics.get("archive_coverage")) == len(metrics.get("pool_size"))
    assert all(torch.equal(one, finals[1][name]) for name, one in finals[0].items())
    assert "evo_pool_size" in metrics.to_prometheus()


def test_memory_runs_out_and_training_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that finds no memory is tried once more after the worst pseudopod is let go, which is counted; a second
    time raises. What the first try had made is gone by then."""
    model = SlimeMoldEncoder(16, 16, 8, 3, causal=True)
    trainer = Trainer(model, Config.model_validate({"archive": {"num_centroids": 0}}), context=16)
    plain, failures, held = trainer._backward, [1, 0, 0], list[weakref.ref[torch.Tensor]]()

    def backward(*args: object) -> torch.Tensor:
        assert all(activations() is None for activations in held)
        if failures.pop(0):
            activations = torch.zeros(1)
            held.append(weakref.ref(activations))
            raise torch.OutOfMemoryError("no memory")
        return plain(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(trainer, "_backward", backward)
    trainer.train([STORIES[:170]], epochs=2, batch_size=10)
    assert len(model.alive()) == 2
    assert trainer.metrics.get("component_deaths") == [1.0, 0.0]
    failures[:] = [1, 1]
    with pytest.raises(torch.OutOfMemoryError):
        trainer.train([STORIES[:170]], epochs=1, batch_size=10)


def test_a_loss_that_is_no_number_ends_a_training() -> None:
    """Before it reaches the weights."""
    model = SlimeMoldEncoder(16, 16, 8, 3)
    trainer = Trainer(model, context=16)
    with torch.no_grad():
        trainer.model.readout[0] = torch.nan
    with pytest.raises(DivergedError, match="nan at step 1"):
        trainer.train([STORIES])
    assert all(parameter.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_an_encoder_of_another_type_is_trained(dtype: torch.dtype) -> None:
    """Table and readout are of its type."""
    (loss,) = Trainer(SlimeMoldEncoder(16, 16, 8, 3).to(dtype), context=16).train([STORIES])
    assert 0 < loss < 7


def test_what_cannot_be_trained_on_is_refused() -> None:
    """No text at all, batches and windows of nothing."""
    model = SlimeMoldEncoder(16, 16, 8, 3)
    with pytest.raises(ValueError, match="0 bytes of text are less than one window of 17"):
        Trainer(model, context=16).train([])
    with pytest.raises(ValueError, match="found 0 of 16"):
        Trainer(model, context=16).train([STORIES], batch_size=0)
    with pytest.raises(ValueError, match="found 8 of 0"):
        Trainer(model, context=0).train([STORIES])


def test_texts_of_other_formats(tmp_path: Path) -> None:
    """JSON lines are read; what is not there is an error that says what was looked for."""
    (tmp_path / "wikitext-test.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    assert load_wikitext("test", path=tmp_path) == ["one", "two"]
    assert load_wikitext("test", 1, tmp_path / "wikitext-test.jsonl") == ["one"]
    with pytest.raises(FileNotFoundError, match=r"wikitext-train\.txt.*nothing is downloaded"):
        load_wikitext(path=tmp_path)


@pytest.mark.slow
def test_profiling() -> None:
    """Its keys; the operations are those of the products."""
    model = SlimeMoldEncoder(32, 16, 8, 2)
    results = profile_model(model=model, input_shape=(2, 10, 32), num_iterations=2, device="cpu")
    assert {"forward_mean_ms", "forward_std_ms", "backward_mean_ms", "backward_std_ms"} < results.keys()
    assert results["peak_memory_mb"] > 10
    products = 2 * 20 * (32 * 16 + 4 * 16 * 16)
    assert products <= results["estimated_flops"] <= 2 * products
