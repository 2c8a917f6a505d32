"""Hashed n-grams behind gates: against Qwen4-Exp's layer, over several streams, with documents by themselves."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from block_variants import CONVOLUTION, built, organism, stage
from torch import Tensor

from evo.blocks.base import Block
from evo.blocks.engram.hashes import sizes
from evo.blocks.engram.spec import EngramSpec
from evo.blocks.flow import Flow
from evo.blocks.norm.spec import RMSNormSpec
from evo.blocks.position.spec import NoPositionSpec
from evo.blocks.stages.layers.streamed import StreamedLayer
from evo.compiler.check import check
from evo.compiler.organism import OrganismState
from evo.dsl.document import from_data
from evo.dsl.spec import TOKENS, Scope

WIDTH, VOCAB, TIME, STREAMS = 8, 50, 20, 3
SCOPE = Scope(width=WIDTH, context=TIME, depth=1, position=NoPositionSpec(), vocab=VOCAB)


def tokens(batch: int = 2, seed: int = 0) -> Tensor:
    """Of few kinds, so that n-grams come again and texts end."""
    return torch.randint(0, 5, (batch, TIME), generator=torch.Generator().manual_seed(seed))


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def engram(streams: int, place: int = 0) -> Block:
    """One with large weights, over so many streams."""
    norm = RMSNormSpec(eps=1e-3, gain="heads" if streams > 1 else True)
    block = built(EngramSpec(heads=2, rows=11, dim=3, norm=norm, end=2, place=place).over(SCOPE, streams))
    with torch.no_grad():
        for index, weight in enumerate(block.parameters()):
            weight.copy_(noise(*weight.shape, seed=index) * 0.7)
    return block


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("place", [0, 2])
def test_it_is_the_layer_of_qwen(place: int) -> None:
    """Outputs over three streams, and gradients of the input and of every weight."""
    modeling = pytest.importorskip("transformers.models.qwen4_exp.modeling_qwen4_exp")
    config = modeling.Qwen4ExpTextConfig(
        hidden_size=WIDTH, hc_count=STREAMS, vocab_size=VOCAB, ple_embed_dim=12, ngram_size=3, heads_per_ngram=2,
        ngram_vocab_size_base=11, eos_token_id=2, rms_norm_eps=1e-3,
    )  # fmt: skip
    theirs, ours = modeling.Qwen4ExpTextPLELayer(config, 0, place).double(), engram(STREAMS, place)
    mine = dict(ours.named_parameters())
    pairs = {
        "table": theirs.ple_embedding.ngram_embedding.weight,
        "key": theirs.key_proj.weight,
        "v": theirs.value_proj.weight,
        "taps": theirs.conv1d.weight,
        "key_norm.gain": theirs.norm_key.weight,
        "x_norm.gain": theirs.norm_query.weight,
        "conv_norm.gain": theirs.norm_conv.weight,
    }
    assert mine.keys() == pairs.keys()
    with torch.no_grad():
        for name, other in pairs.items():
            own = mine[name].reshape(-1, *other.shape[1:]) - (1.0 if name.endswith("gain") else 0.0)
            other[: len(own)].copy_(own)
    x, ids = noise(2, TIME, STREAMS, WIDTH, seed=9).requires_grad_(), tokens()
    got = ours(x, Flow(signals={TOKENS: ids}))
    wanted = theirs(x.flatten(-2), ids, None).view_as(x)
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)  # theirs norms in float32
    cotangent = noise(*x.shape, seed=8)
    gradients = torch.autograd.grad((got * cotangent).sum(), [x, *mine.values()])
    expected = torch.autograd.grad((wanted * cotangent).sum(), [x, *(pairs[name] for name in mine)])
    for found, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(found, other.reshape(-1)[: found.numel()].view_as(found), rtol=1e-4, atol=1e-4)


def test_documents_are_alone() -> None:
    """A row of documents gives what each gives by itself."""
    block, x, ids, lengths = engram(1), noise(1, TIME, WIDTH), tokens(1), [7, 2, 11]
    segments = torch.repeat_interleave(torch.tensor((4, 2, 7)), torch.tensor(lengths))[None]
    alone = [
        block(part, Flow(signals={TOKENS: own}))
        for part, own in zip(x.split(lengths, 1), ids.split(lengths, 1), strict=True)
    ]
    got = block(x, Flow(signals={TOKENS: ids}, segments_BT=segments))
    torch.testing.assert_close(got, torch.cat(alone, dim=1), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("streams", [{"kind": "channels", "count": 3, "rank": 2}, {"kind": "hyper", "count": 2}])
def test_it_reads_every_stream_itself(streams: dict[str, object]) -> None:
    """No connection stands around it, each stream has keys of its own, and decoding is what the whole pass is."""
    sublayers = [{"block": {"kind": "engram", "rows": 40}}, {"block": CONVOLUTION}]
    model = organism([{"name": "s", "layers": {"sublayers": sublayers}, "streams": streams}])
    layer = model.stages["s"].child("0")
    assert isinstance(layer, StreamedLayer)
    assert layer.connections == (None, "1_streams")
    assert layer.child("0").get_parameter("key").shape[0] == 16 * int(str(streams["count"]))
    ids, state, parts = torch.randint(0, 256, (1, 12), generator=torch.Generator().manual_seed(0)), OrganismState(), []
    for token_B1 in ids.split(1, dim=1):
        logits, state = model.extend(token_B1, state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, 1), model(ids), rtol=1e-9, atol=1e-11)


def test_a_gate_around_it_is_kept() -> None:
    """One stream whose sums are gated is no bundle that it could read itself: the gate stands, and decides."""
    model = organism([{"name": "s", "mix": {"kind": "engram", "rows": 40}, "streams": {"kind": "gated"}}])
    layer = model.stages["s"].child("0")
    assert isinstance(layer, StreamedLayer)
    assert None not in layer.connections
    ids = torch.randint(0, 256, (1, 12), generator=torch.Generator().manual_seed(0))
    before = model(ids)
    with torch.no_grad():
        layer.child("mixer_streams").get_parameter("bias").add_(50.0)
    assert not torch.equal(model(ids), before)


def test_functions_have_primes_of_their_own() -> None:
    """Those from the least on, one after another over all places."""
    plain = [n for n in range(2, 3000) if all(n % d for d in range(2, n))]
    assert sizes(2, len(plain), 0) == tuple(plain)
    assert sizes(11, 3, 0) + sizes(11, 3, 1) == (11, 13, 17, 19, 23, 29)


@pytest.mark.parametrize("wrong", [{"sizes": [3, 2]}, {"sizes": [2, 16]}, {"end": 300}])
def test_what_cannot_be_is_told(wrong: dict[str, object]) -> None:
    """EVO355: sizes that do not rise or are longer than a text, and a token that there is not."""
    stages = [stage("s", {"kind": "engram", **wrong})]
    data: Any = {"evo": 1, "organism": {"width": 16, "context": 12, "stages": stages}}
    found = check(from_data(data))
    assert [diagnostic.code for diagnostic in found] == ["EVO355"]
