"""Residual streams: published connections, a stage written out, and growth that changes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from block_variants import document, plan, stage
from torch import Tensor, nn

from evo.base.streams import Stream
from evo.blocks.flow import Flow
from evo.blocks.stages.layers.streamed import StreamedLayers
from evo.blocks.streams.module import Beginning, Connection, End
from evo.blocks.streams.spec import StreamsSpec
from evo.compiler.build import build, drawn, make
from evo.compiler.check import check
from evo.compiler.organism import Organism
from evo.compiler.resolve import organism_scope, resolve
from evo.compiler.transplant import transplant
from evo.dsl.document import from_data
from evo.dsl.organism import OrganismSpec
from evo.dsl.patch import apply
from evo.dsl.plan import BlockPlan
from evo.evolution.operators.growth import AddStreams, keeps

ATTENTION = {"kind": "attention", "heads": 2}
WIDTH, COUNT = 16, 3
SUBLAYER_KINDS = ("hyper", "gates", "sinkhorn", "dual", "gated", "channels", "fractions")
AROUND_SUBLAYERS: list[dict[str, Any]] = [{"kind": kind} for kind in SUBLAYER_KINDS]
KINDS = pytest.mark.parametrize("streams", AROUND_SUBLAYERS)
FORMS = ("gru", "highway", "output", "input", "sigmoid_tanh")
AROUND_LAYERS = [{"kind": "altup"}, {"kind": "dense"}, {"kind": "dense", "ways": "qkv"}]
EVERY_KIND = pytest.mark.parametrize("streams", [*AROUND_SUBLAYERS, *AROUND_LAYERS, {"kind": "attended"}])


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def moved(module: nn.Module) -> Any:
    """The module in float64 with every weight far from where it starts."""
    with torch.no_grad():
        for index, weight in enumerate(module.double().parameters()):
            weight.copy_(noise(*weight.shape, seed=index + 1) * 0.5)
    return module


def spec_of(found: OrganismSpec) -> StreamsSpec:
    """Of the streams of the first stage."""
    spec = vars(found.stages[0])["streams"]
    assert isinstance(spec, StreamsSpec)
    return spec


def planned(streams: dict[str, Any]) -> tuple[BlockPlan, BlockPlan]:
    """The plans of the connection of the first sublayer and of the end."""
    found = document([stage("a", ATTENTION, streams={"count": COUNT, **streams})]).organism
    spec = spec_of(found)
    return spec.connection(organism_scope(found), 0), spec.end(organism_scope(found))


def model(streams: dict[str, Any], **settings: Any) -> Organism:
    return moved(build(plan([stage("a", ATTENTION, repeat=2, streams=streams, **settings)]), 0))


def whole(connection: Connection, x: Tensor, y: Tensor) -> Tensor:
    """What a connection makes of streams and of a sublayer that adds y to what it reads."""
    read, kept, gains = connection.read(x, Flow())
    return connection.written(kept, gains, read.tanh() + y, Flow())


def test_hyper_connections_are_those_of_the_package() -> None:
    """Values and gradients equal those of `hyper-connections`, dynamic form."""
    theirs_of = pytest.importorskip("hyper_connections").HyperConnections
    ours: Any = moved(make(planned({"kind": "hyper", "eps": 1e-30})[0]))
    theirs = theirs_of(COUNT, dim=WIDTH, layer_index=0).double()
    with torch.no_grad():
        theirs.static_alpha.copy_(torch.cat((ours.reads[:, None], ours.mix), 1))
        theirs.static_beta.copy_(ours.writes)
        theirs.dynamic_alpha_fn.copy_(ours.changes[:-1].T)
        theirs.dynamic_beta_fn.copy_(ours.changes[-1])
        theirs.dynamic_alpha_scale.copy_(ours.scales[0])
        theirs.dynamic_beta_scale.copy_(ours.scales[1])
    x, y = noise(2, 5, COUNT, WIDTH).requires_grad_(), noise(2, 5, WIDTH, seed=1)
    mine = whole(ours, x, y)
    given = x.detach().clone().requires_grad_()
    read, add = theirs(given.movedim(2, 1).flatten(0, 1))  # its streams are lines of the batch
    other = add(read.tanh() + y).unflatten(0, (2, COUNT)).movedim(1, 2)
    torch.testing.assert_close(mine, other)
    ours_of = torch.autograd.grad(mine.square().sum(), [x, ours.writes, ours.mix])
    inner = [given, theirs.static_beta, theirs.static_alpha]
    found = torch.autograd.grad(other.square().sum(), inner)
    torch.testing.assert_close(ours_of, (*found[:2], found[2][:, 1:]))


@pytest.mark.parametrize("kind", ["gates", "sinkhorn"])
def test_gates_are_those_of_published_models(kind: str) -> None:
    """Connections and ends equal those of HY-V4 and of DeepSeek-V4 in transformers, values and gradients."""
    pytest.importorskip("transformers")
    settings = {"gates": {"magnitude": 1.5}, "sinkhorn": {"iterations": 4}}[kind]
    connection, end = planned({"kind": kind, "eps": 1e-3, "norm_eps": 1e-2, **settings})
    theirs, head = _published(kind)
    ours, ours_end = moved(make(connection)), moved(make(end))
    with torch.no_grad():
        theirs.fn.copy_(ours.maps)
        biases = [ours.read_bias, ours.write_bias, *([ours.mix_bias.flatten()] if kind == "sinkhorn" else [])]
        theirs.base.copy_(torch.cat(biases))
        theirs.scale.copy_(ours.scales)
        head.hc_fn.copy_(ours_end.maps)
        head.hc_base.copy_(ours_end.bias)
        head.hc_scale.copy_(ours_end.scale)
    x, y = noise(2, 5, COUNT, WIDTH).requires_grad_(), noise(2, 5, WIDTH, seed=1)
    given = x.detach().clone().requires_grad_()
    if kind == "gates":
        post, read = theirs(given)
        kept = given
    else:
        post, comb, read = theirs(given)
        kept = comb.transpose(-1, -2) @ given
    other = kept + post[..., None] * (read.tanh() + y)[..., None, :]
    mine = whole(ours, x, y)
    torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-5)  # theirs is in float32
    torch.testing.assert_close(ours_end.ended(x, Flow()), head(given), rtol=1e-5, atol=1e-5)
    ours_g = torch.autograd.grad(mine.square().sum(), [x, ours.maps, ours.scales])
    theirs_g = torch.autograd.grad(other.square().sum(), [given, theirs.fn, theirs.scale])
    for found, expected in zip(ours_g, theirs_g, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)


def _published(kind: str) -> tuple[Any, Any]:
    if kind == "gates":
        from transformers.models.hy_v4 import modeling_hy_v4 as hy

        config = hy.HYV4Config(hidden_size=WIDTH, hc_mult=COUNT, hc_magnitude=1.5, hc_eps=1e-3, rms_norm_eps=1e-2)
        return hy.HYV4HyperConnection(config).double(), hy.HYV4HyperHead(config).double()
    from transformers.models.deepseek_v4 import modeling_deepseek_v4 as deepseek

    sizes = {"hidden_size": WIDTH, "hc_mult": COUNT, "hc_eps": 1e-3, "rms_norm_eps": 1e-2, "hc_sinkhorn_iters": 4}
    config = deepseek.DeepseekV4Config(**sizes)
    return deepseek.DeepseekV4HyperConnection(config).double(), deepseek.DeepseekV4HyperHead(config).double()


@pytest.mark.filterwarnings("ignore")
def test_gates_of_channels_are_those_of_qwen() -> None:
    """Values and gradients of connection and end equal those of Qwen4-Exp's gated residual."""
    modeling = pytest.importorskip("transformers.models.qwen4_exp.modeling_qwen4_exp")
    sizes = {"hidden_size": WIDTH, "hc_count": COUNT, "hc_lowrank": 5, "rms_norm_eps": 1e-2}
    config = modeling.Qwen4ExpTextConfig(**sizes)
    norm = {"kind": "rms", "gain": "heads", "eps": 1e-2}
    ours, ours_end = (moved(make(part)) for part in planned({"kind": "channels", "rank": 5, "norm": norm}))
    theirs, head = (modeling.Qwen4ExpTextGatedResidual(config, use_combine=c).double() for c in (True, False))
    with torch.no_grad():
        for own, other in ((ours, theirs), (ours_end, head)):
            other.hc_norm.weight.copy_(own.child("norm").gain.flatten() - 1.0)
            other.input_mix_weight_down.weight.copy_(own.down * COUNT)
            other.input_mix_weight_up.weight.copy_(own.up)
        theirs.block_inject_weight.weight.copy_(ours.write * COUNT)
    x, y = noise(2, 5, COUNT, WIDTH).requires_grad_(), noise(2, 5, WIDTH, seed=1)
    read, kept, gains = theirs(x.flatten(-2))
    wanted = kept.unflatten(-1, (COUNT, WIDTH)) + gains[..., None] * (read.tanh() + y)[..., None, :]
    mine = whole(ours, x, y)
    torch.testing.assert_close(mine, wanted, rtol=1e-5, atol=1e-5)  # theirs norms in float32
    torch.testing.assert_close(ours_end.ended(x, Flow()), head(x.flatten(-2)), rtol=1e-5, atol=1e-5)
    got, expected = (
        torch.autograd.grad((each * noise(*each.shape, seed=3)).sum(), [x, up])
        for each, up in ((mine, ours.up), (wanted, theirs.input_mix_weight_up.weight))
    )
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore")
def test_alternating_updates_are_those_of_gemma() -> None:
    """Values and gradients of predictions and corrections equal those of Gemma 3n's module."""
    modeling = pytest.importorskip("transformers.models.gemma3n.modeling_gemma3n")
    sizes = {"hidden_size": WIDTH, "altup_num_inputs": COUNT, "rms_norm_eps": 1e-3}
    theirs = modeling.Gemma3nTextAltUp(modeling.Gemma3nTextConfig(**sizes)).double().eval()
    ours: Any = moved(make(planned({"kind": "altup", "eps": 1e-3})[0]))
    pairs = {
        ours.router: theirs.modality_router.weight,
        ours.predict: theirs.prediction_coefs.weight,
        ours.correct: theirs.correction_coefs.weight,
        ours.child("norm").gain: theirs.router_norm.weight,
    }
    with torch.no_grad():
        for own, other in pairs.items():
            own.mul_(4.0)
            other.copy_(own)
    x, y = noise(2, 5, COUNT, WIDTH), noise(2, 5, WIDTH, seed=1)
    mine = ours.corrected(ours.predicted(x, Flow()), y, Flow())
    wanted = theirs.correct(theirs.predict(x.movedim(2, 0)), y).movedim(0, 2)
    torch.testing.assert_close(mine, wanted, rtol=1e-5, atol=1e-5)  # theirs is in float32 here and there
    ours_g = torch.autograd.grad(mine.square().sum(), list(pairs))
    theirs_g = torch.autograd.grad(wanted.square().sum(), list(pairs.values()))
    for found, expected in zip(ours_g, theirs_g, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_layer_computes_the_first_of_alternating_streams() -> None:
    """A stage written out: a layer on the first stream, and a sublayer aside that adds to the others."""
    layers = {"sublayers": [{"block": {"kind": "linear"}}, {"block": {"kind": "linear", "bias": True}}]}
    streams = {"kind": "altup", "count": COUNT, "aside": 1}
    found = moved(build(plan([{"name": "a", "layers": layers, "streams": streams}]), 0))
    run, x = found.stages["a"], noise(2, 5, WIDTH)
    layer = run.child("0")
    around: Any = layer.child("0_streams")
    one, other = (layer.child(name) for name in ("0", "1"))
    predicted = around.predicted(run.child("streams_begin").begun(x, Flow()), Flow())
    first = predicted[..., 0, :]
    corrected = around.corrected(predicted, first + one(first, Flow()), Flow())
    added = other(corrected[..., 0, :] * around.aside_gain, Flow())
    wanted = torch.cat((corrected[..., :1, :], corrected[..., 1:, :] + added[..., None, :]), dim=-2)
    wanted = run.child("streams_end").ended(wanted, Flow())
    torch.testing.assert_close(run.run({"x": [x]}, Flow()).value(), wanted)


def test_two_streams_are_those_of_residual() -> None:
    """x <- norm(x + f(x)), d <- d + f(x), and x + norm(d) at the end (Xie et al. 2023, eq. 4)."""
    layers = {"sublayers": [{"block": ATTENTION}, {"block": {"kind": "dense", "hidden": 8}}]}
    found = moved(build(plan([{"name": "a", "repeat": 2, "layers": layers, "streams": {"kind": "dual"}}]), 0))
    run: Any = found.stages["a"]
    x = noise(2, 6, WIDTH)
    first, second = x, x
    for layer in run.layers():
        for name in ("0", "1"):
            y = layer.child(name)(first, Flow())
            gain = layer.child(f"{name}_streams").child("norm").gain
            first, second = F.rms_norm(first + y, (WIDTH,), gain, 1e-6), second + y
    expected = first + F.rms_norm(second, (WIDTH,), run.child("streams_end").child("norm").gain, 1e-6)
    torch.testing.assert_close(run.run({"x": [x]}, Flow()).value(), expected)


@pytest.mark.parametrize("form", FORMS)
def test_gates_of_one_stream_are_those_of_gtrxl(form: str) -> None:
    """Values, and gradients of both inputs and of every weight (Parisotto et al. 1910.06764, section 3.2)."""
    spec = spec_of(document([stage("a", ATTENTION, streams={"kind": "gated", "form": form})]).organism)
    ours: Any = moved(make(spec.connection(organism_scope(document([stage("a", ATTENTION)]).organism), 0)))
    w, b = dict(ours.named_parameters()), ours.bias
    x, y = noise(2, 5, WIDTH).requires_grad_(), noise(2, 5, WIDTH, seed=1).requires_grad_()

    def of(name: str, x: Tensor, y: Tensor) -> Tensor:
        return torch.stack([v @ w[key].T for key, v in ((f"{name}_x", x), (f"{name}_y", y)) if key in w]).sum(0)

    if form == "gru":
        z, r = torch.sigmoid(of("gate", x, y) - b), torch.sigmoid(of("reset", x, y))
        expected = (1 - z) * x + z * torch.tanh(of("new", r * x, y))
    elif form == "sigmoid_tanh":
        expected = x + torch.sigmoid(of("gate", x, y) - b) * torch.tanh(of("new", x, y))
    else:
        g = torch.sigmoid(of("gate", x, y) + b)
        expected = {"highway": g * x + (1 - g) * y, "output": x + (1 - g) * y, "input": g * x + y}[form]
    mine = ours.written(x[..., None, :], None, y, Flow())[..., 0, :]
    torch.testing.assert_close(mine, expected, rtol=1e-12, atol=1e-12)
    cotangent, of_all = noise(2, 5, WIDTH, seed=2), [x, y, *w.values()]
    found, wanted = (torch.autograd.grad((z * cotangent).sum(), of_all) for z in (mine, expected))
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)


@KINDS
def test_a_stage_is_its_connections_in_a_row(streams: dict[str, Any]) -> None:
    """Copies or parts of the input, each sublayer between a read and a write, the end; and step by step the same."""
    found = model(streams)
    run = found.stages["a"]
    assert isinstance(run, StreamedLayers)
    x = noise(2, 6, WIDTH)
    begin = dict(run.named_children()).get("streams_begin")
    found_streams = begin.begun(x, Flow()) if isinstance(begin, Beginning) else torch.stack([x] * run.count, 2)
    for layer in run.layers():
        for name in ("mixer", "ffn"):
            connection, norm = layer.child(f"{name}_streams"), layer.child(f"{name}_norm")
            assert isinstance(connection, Connection)
            read, kept, gains = connection.read(found_streams, Flow())
            y = layer.child(name)(norm(read, Flow()), Flow())
            found_streams = connection.written(kept, gains, y, Flow())
    end = run.child("streams_end")
    assert isinstance(end, End)
    torch.testing.assert_close(run.run({"x": [x]}, Flow()).value(), end.ended(found_streams, Flow()))


@EVERY_KIND
def test_step_by_step_it_is_the_same(streams: dict[str, Any]) -> None:
    """Streams are of a token: decoding keeps nothing of them."""
    found = model(streams)
    tokens = torch.randint(256, (2, 10), generator=torch.Generator().manual_seed(0))
    state, parts = found.initial_state(), []
    for part in tokens.split([4, 1, 5], 1):
        logits, state = found.extend(part, state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, 1), found(tokens))


@EVERY_KIND
def test_the_plan_counts_what_is_built(streams: dict[str, Any]) -> None:
    """Every parameter, the same cache as one stream, more FLOPs and activations."""
    found, plain = model(streams).plan, plan([stage("a", ATTENTION, repeat=2)])
    assert found.parameters == sum(p.numel() for p in build(found, 0).parameters())
    assert found.cache_values(9) == plain.cache_values(9)
    assert found.flops_per_token > plain.flops_per_token
    assert found.activations_per_token > plain.activations_per_token


def test_growing_into_streams_changes_nothing_at_first() -> None:
    """The operator gives a stage streams with which a trained parent computes exactly what it did, and then learns."""
    parent = document([stage("a", ATTENTION, repeat=2)])
    site = next(iter(AddStreams().sites(parent)))
    tokens = torch.randint(256, (2, 10), generator=torch.Generator().manual_seed(0))
    before = moved(build(resolve(parent.organism), 0))
    for seed in range(4):
        proposal = AddStreams().propose(parent, site, 1.0, np.random.default_rng(seed))
        assert proposal is not None
        child = resolve(apply(proposal.patch, parent).document.organism)
        assert keeps(before.plan, child)
        weights, _ = transplant(child, 0, before.state_dict())
        after = build(child, 0, weights=weights).double()
        reference = build(before.plan, 0, weights=before.state_dict()).double()
        torch.testing.assert_close(after(tokens), reference(tokens), rtol=0, atol=1e-12)
        after.loss(tokens, tokens).backward()
        still = {path for path, p in after.named_parameters() if p.grad is None or not bool(p.grad.any())}
        assert all(path.endswith(("scales", "down")) for path in still)  # of changes that are zero
    assert not keeps(before.plan, plan([stage("a", ATTENTION, repeat=2, streams={"kind": "gates"})]))


def test_a_doubly_stochastic_mix_starts_near_none() -> None:
    """Its rows and columns sum to one, and each stream keeps nearly all of itself."""
    connection, _ = planned({"kind": "sinkhorn", "count": 4})
    weight = next(weight for weight in connection.weights if weight.name == "mix_bias")
    start = drawn(weight, Stream(0))
    assert torch.equal(start, 8.0 * torch.eye(4))


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"mix": ATTENTION, "norm": {"kind": "rms", "place": "post"}}, "EVO357"),
        ({"layers": {"sublayers": [{"block": ATTENTION, "skip": 0.5}]}}, "EVO357"),
        ({"mix": ATTENTION, "streams": {"kind": "dual", "norm": {"kind": "rms", "groups": 3}}}, "EVO303"),
    ],
)
def test_what_cannot_be_is_said(body: dict[str, Any], code: str) -> None:
    """No norm behind a sum of streams, no skip on it, no norm of theirs that does not fit."""
    organism = {"width": 16, "stages": [{"name": "a", "streams": {"kind": "hyper"}, **body}]}
    assert [fault.code for fault in check(from_data({"evo": 1, "organism": organism}))] == [code]
