"""`evo.SlimeMoldEncoder`: an ordinary module, whose state is carried on."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

import evo
from evo.api.slime import FlowState, MetricsCollector, Pseudopod, export_encoder
from evo.kernels.dispatch import BackendError


def encoder(**settings: object) -> evo.SlimeMoldEncoder:
    """A small one."""
    sizes = {"sensory_dim": 12, "latent_dim": 16, "head_dim": 4, "num_pseudopods": 3, **settings}
    return evo.SlimeMoldEncoder(**sizes)  # type: ignore[arg-type]


def vectors(time: int = 10) -> torch.Tensor:
    """(2, time, 12)."""
    return torch.randn(2, time, 12, generator=torch.Generator().manual_seed(0))


def test_it_is_an_ordinary_module() -> None:
    """State dict, double, deepcopy, autocast and a gradient for every parameter that a call uses."""
    one, other, x = encoder(), encoder(seed=1), vectors()
    assert not torch.equal(one(x), other(x))
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(x), other(x))
    assert torch.equal(copy.deepcopy(one)(x), one(x))
    torch.testing.assert_close(copy.deepcopy(one).double()(x.double()).float(), other(x), rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(other(x).float(), one(x).float(), rtol=0.1, atol=0.1)
    other(x).square().sum().backward()
    assert {name for name, p in other.named_parameters() if p.grad is None} == {"tube"}


@pytest.mark.slow
@pytest.mark.parametrize("causal", [True, False])
def test_it_exports(tmp_path: Path, causal: bool) -> None:
    """ONNX and torch's archive give the same values, for another number of rows too; the encoder stays what it is."""
    onnxruntime = pytest.importorskip("onnxruntime")
    model, x = encoder(causal=causal, slots=4, metrics=MetricsCollector()), vectors()
    archive = torch.export.load(export_encoder(model, 10, tmp_path, "torch")).module()
    session = onnxruntime.InferenceSession(str(export_encoder(model, 10, tmp_path, "onnx")))
    for rows in (x, x[:1], x.repeat(3, 1, 1)):
        torch.testing.assert_close(archive(rows), model(rows))
        (found,) = session.run(["latents"], {"vectors": rows.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), model(rows), rtol=1e-4, atol=1e-5)


def test_it_is_the_equation() -> None:
    """y = h + sum_p gain_p softmax(q k^T) v o of the norm of h, h = W x."""
    model, x = encoder().double(), vectors().double()
    h = x @ model.sense.T
    z = h * (h.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * model.norm
    attention = model.pool.mixers[0]
    q, k, v = (z @ getattr(attention, name).T for name in "qkv")
    q, k, v = (t.unflatten(-1, (3, 4)).movedim(2, 1) for t in (q, k, v))
    q, k = (attention.position.rotate(t.movedim(1, 2), t.movedim(1, 2), 0)[0].movedim(2, 1) for t in (q, k))  # type: ignore[union-attr]
    heads = ((q @ k.mT / 2.0).softmax(-1) @ v) * model.pool.gain[:, None, None]
    expected = h + heads.movedim(1, 2).flatten(2) @ attention.o.T  # type: ignore[union-attr]
    torch.testing.assert_close(model(x), expected)


def test_a_causal_one_goes_on_from_its_state() -> None:
    """Pieces equal the whole where tubes have no gain; a state is a value, from which two calls give the same."""
    model, x = encoder(causal=True), vectors()
    with torch.no_grad():
        model.tube.zero_()
    first, state = model.flow(x[:, :6])
    second, after = model.flow(x[:, 6:], state)
    torch.testing.assert_close(torch.cat((first, second), 1), model(x))
    assert (state.seen, after.seen) == (6, 10)
    assert torch.equal(model.flow(x[:, 6:], state)[0], second)


def test_tubes_remember_what_flowed() -> None:
    """What went before changes what comes out, also where attention sees both ways; a fresh state has no past."""
    model, x = encoder(), vectors()
    _, state = model.flow(x * 3.0)
    assert not torch.equal(model.flow(x, state)[0], model(x))
    assert torch.equal(model.flow(x, FlowState())[0], model(x))


@pytest.mark.parametrize("causal", [True, False])
def test_a_state_can_be_cut_from_its_graph(causal: bool) -> None:
    """So that each call of a long stream is trained on by itself; what comes out is the same."""
    model, x = encoder(causal=causal), vectors()
    model.sense.requires_grad_(True)
    _, state = model.flow(x)
    y, _ = model.flow(x, state.detached())
    torch.testing.assert_close(y, model.flow(x, state)[0], rtol=0, atol=0)
    for _ in range(3):
        y, state = model.flow(x, state.detached())
        y.square().mean().backward()


def test_a_state_is_of_its_rows() -> None:
    """Calls of no vector, and of other rows than the state has, are refused with both shapes."""
    model, x = encoder(causal=True), vectors()
    _, state = model.flow(x)
    with pytest.raises(ValueError, match=r"2 rows of one vector at least go on from this state, found \(1, "):
        model.flow(x[:1], state)
    with pytest.raises(ValueError, match=r"found \(2, 0, "):
        model.flow(x[:, :0])


def test_sizes_below_one_are_refused() -> None:
    """With what was found; no slots at all are fewer than the pseudopods."""
    with pytest.raises(ValueError, match="widths are 1 at least, found 0, 8 and 4"):
        evo.SlimeMoldEncoder(0, 8, 4, 2)
    with pytest.raises(ValueError, match="2 pseudopods in 0 slots"):
        evo.SlimeMoldEncoder(8, 8, 4, 2, slots=0)


def test_metrics_are_handed_in() -> None:
    """Each call adds its latency and throughput to the collector that was given, and to no other."""
    metrics = MetricsCollector()
    model = encoder(metrics=metrics)
    model(vectors())
    model(vectors())
    assert len(metrics.get("latency_seconds")) == len(metrics.get("throughput")) == 2


def test_slots_leave_room_for_births() -> None:
    """num_pseudopods are alive in `slots`; the others add nothing."""
    model = encoder(slots=5)
    assert model.alive() == [0, 1, 2]
    assert model.stats()["pool_size"] == 3
    assert [pod.is_alive for pod in model.pseudopods()] == [True] * 3 + [False] * 2
    with pytest.raises(ValueError, match="3 pseudopods in 2 slots"):
        encoder(slots=2)


def test_a_pseudopod_is_plain_data_and_back() -> None:
    """`to_dict` and `from_dict` carry gain and weights from slot to slot; `reset` empties one; statistics are told."""
    model = encoder(slots=4)
    first, last = Pseudopod(model.pool, 0), Pseudopod(model.pool, 3)
    last.from_dict(first.to_dict())
    assert last.is_alive
    for name, weight in first.weights().items():
        assert float((last.weights()[name] - weight).norm() / weight.norm()) < 0.02
    seen = first.feel(torch.randn(30, 16))
    assert seen.correlation.shape == (4, 4)
    assert 1.0 <= float(seen.effective_rank()) <= 4.0
    assert 0.0 <= float(seen.coherence()) <= 1.0
    with pytest.raises(ValueError, match="nothing has gone through"):
        first.coherence()
    last.reset()
    assert not last.is_alive


def test_kernels_are_asked_for_by_name() -> None:
    """The reference computes the same; a backend that is not there is an error and never replaced."""
    torch.testing.assert_close(encoder(kernels="reference")(vectors()), encoder()(vectors()))
    with pytest.raises(BackendError):
        encoder(kernels="nonsense")(vectors())


def test_inputs_of_another_width_are_refused() -> None:
    """With the shape that is wanted and the one that was found."""
    with pytest.raises(ValueError, match=r"\(B, T, 12\), found \(2, 10, 3\)"):
        encoder()(torch.zeros(2, 10, 3))
