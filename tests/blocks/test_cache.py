"""Caches in few bits and of few positions: published number formats, exact bytes, decoding written out."""

from __future__ import annotations

from dataclasses import fields, replace
from statistics import NormalDist
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from block_variants import organism, stage
from torch import Tensor

from evo.blocks.attention.module import Attention
from evo.blocks.cache.packers import Packed, pack, packer_of, unpack
from evo.blocks.cache.policy import EVERYTHING, SINKS, STORES, CachePolicy
from evo.blocks.flow import Flow, State
from evo.blocks.nf4 import LEVELS
from evo.compiler.organism import Organism
from evo.dsl.layers import LayerPlan

ATTENTION = {"kind": "attention", "heads": 4, "kv_heads": 2, "head_dim": 6}
LATENT = {"kind": "latent", "heads": 2, "kv_rank": 5, "nope_dim": 4, "rope_dim": 2, "value_dim": 5}
WINDOW = {**ATTENTION, "stencil": {"kind": "window", "size": 4, "sinks": 1}}
FORGETTING = {**ATTENTION, "forget": True}
UNIT = {"kind": "gated_attention", "inner": 24, "dim": 6, "position": {"kind": "rope"}}
NEAR_UNIT = {**UNIT, "stencil": {"kind": "window", "size": 4, "sinks": 1}}
PACKING = [name for name, store in STORES.items() if store.packer]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def decoded(model: Organism, tokens: Tensor, policy: CachePolicy, first: int = 1) -> tuple[Tensor, Any]:
    """Logits token by token after a first piece, and the last state."""
    state, parts = model.initial_state(), []
    for part in tokens.split([first, *[1] * (tokens.shape[1] - first)], dim=1):
        logits, state = model.extend(part, state, cache=policy)
        parts.append(logits)
    return torch.cat(parts, 1), state


def kept_bytes(state: object) -> int:
    """The bytes of all floating-point tensors in states, those that are not packed as two a number."""
    if isinstance(state, Packed):
        return state.nbytes
    if isinstance(state, Tensor):
        return 2 * state.numel() if state.is_floating_point() else 0
    if isinstance(state, State):
        return sum(kept_bytes(getattr(state, field.name)) for field in fields(state))  # pyright: ignore[reportArgumentType]
    items = state.values() if isinstance(state, dict) else state if isinstance(state, tuple) else ()
    return sum(map(kept_bytes, items))


def test_nf4_is_the_quantiles_of_a_normal() -> None:
    """The 16 published values are what QLoRA's appendix derives: quantiles, 0 among them, scaled to end at one."""
    offset, quantile = 0.9677083, NormalDist().inv_cdf
    above = [quantile(0.5 + (offset - 0.5) * (8 - i) / 8) for i in range(8)]
    below = [-quantile(0.5 + (offset - 0.5) * (7 - i) / 7) for i in range(7)]
    table = torch.tensor(sorted([*above, 0.0, *below]))
    torch.testing.assert_close(table / table.max(), LEVELS.values.float(), rtol=0, atol=1e-6)


def test_fp8_is_that_of_ml_dtypes() -> None:
    """Bytes equal an independent implementation's."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = (noise(500) * 100).clamp(-448, 448)
    codes = packer_of(STORES["fp8"]).codes(x).view(torch.uint8)
    assert codes.numpy().tobytes() == x.numpy().astype(ml_dtypes.float8_e4m3fn).tobytes()


@pytest.mark.parametrize("name", PACKING)
@pytest.mark.parametrize("width", [1, 7, 8])
def test_each_number_is_the_nearest_there_is(name: str, width: int) -> None:
    """Of all values that the codes stand for; a second round changes nothing; zeros stay; bytes are as counted."""
    store = STORES[name]
    packer = packer_of(store)
    x = torch.cat((noise(50, width) * 10 ** noise(50, 1, seed=1), torch.zeros(1, width)))
    packed = pack(x, store)
    found = unpack(packed)
    every = torch.arange(256, dtype=torch.uint8)
    values = LEVELS.values.float() if name == "nf4" else packer.values(every.view(packer.codes(x[:1]).dtype), 256)
    grid = values[values.abs() <= packer.top] * packed.scales.float()
    nearest = (x[..., None] - grid[:, None]).abs().amin(-1)
    torch.testing.assert_close((x - found).abs(), nearest, rtol=1e-3, atol=1e-6)
    again = pack(found, store)
    assert torch.equal(again.codes.view(torch.uint8), packed.codes.view(torch.uint8))
    assert torch.equal(again.scales, packed.scales)
    assert not found[-1].any()
    assert packed.nbytes == len(x) * store.vector_bytes(width)


@pytest.mark.parametrize(
    "mixer",
    [ATTENTION, LATENT, WINDOW, FORGETTING, UNIT, NEAR_UNIT],
    ids=["attention", "latent", "window", "forgetting", "unit", "unit in a window"],
)
@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("name", ["full", *PACKING])
def test_bytes_are_those_that_the_plan_counts(name: str, window: int | None, mixer: dict[str, Any]) -> None:
    """What decoding holds after some tokens, convolutions' states among it, is what `explain` says, to the byte."""
    model = organism([stage("a", [mixer, {"kind": "convolution"}], repeat=2, ffn={"kind": "none"})]).float()
    policy = CachePolicy(STORES[name], window)
    tokens = torch.randint(256, (1, 12), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        _, state = decoded(model, tokens, policy, first=5)
    assert kept_bytes(state) == model.plan.cache_bytes(12, policy)
    if name == "full" and window is None:
        assert model.plan.cache_bytes(12, EVERYTHING) == 2 * model.plan.cache_values(12)


@pytest.mark.parametrize("name", ["full", "int8"])
@pytest.mark.parametrize(("mixer", "window"), [(WINDOW, None), (ATTENTION, 3)], ids=["its own window", "the policy's"])
def test_limits_are_those_of_what_a_stage_inside_sees(mixer: dict[str, Any], window: int | None, name: str) -> None:
    """Beside memory tokens, as anywhere, a cache holds as many positions as its window, in as few bits."""
    body = {"name": "b", "kind": "memory_tokens", "of": stage("a", mixer, ffn={"kind": "none"}), "every": 4, "count": 2}
    model = organism([body]).float()
    policy = CachePolicy(STORES[name], window)
    tokens = torch.randint(256, (1, 12), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        _, state = decoded(model, tokens, policy, first=5)
    assert kept_bytes(state) == model.plan.cache_bytes(12, policy)


@pytest.mark.parametrize("policy", [EVERYTHING, CachePolicy(STORES["int8"]), CachePolicy(STORES["nf4"], 3)], ids=str)
def test_bytes_of_a_longer_sequence(policy: CachePolicy) -> None:
    """Learned vectors before the text are kept as its tokens are, in windows too."""
    inner = stage("b", [ATTENTION, WINDOW], repeat=2, ffn={"kind": "none"})
    model = organism([{"name": "a", "kind": "memory_tokens", "every": None, "count": 3, "of": inner}]).float()
    tokens = torch.randint(256, (1, model.plan.context), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        _, state = decoded(model, tokens, policy, first=5)
    assert kept_bytes(state) == model.plan.cache_bytes(model.plan.context, policy)


@pytest.mark.parametrize(("name", "window"), [("int8", None), ("nf4", None), ("full", 3), ("fp8", 2)])
def test_decoding_reads_what_was_kept(name: str, window: int | None) -> None:
    """Each query meets its own key and value as they are, and earlier ones as the policy kept them, written out."""
    model = organism([stage("a", ATTENTION, ffn={"kind": "none"})]).float()
    layer = model.plan.layers["stages.a.0"]
    assert isinstance(layer, LayerPlan)
    block = model.stages["a"].child("0").child("mixer")
    assert isinstance(block, Attention)
    store, x = STORES[name], noise(1, 11, 16)
    with torch.no_grad():
        q, k, v = block._project(x, x, Flow(), None)  # pyright: ignore[reportPrivateUsage]
        kept = [unpack(pack(y, store)) if store.packer else y for y in (k, v)]
        states, parts = {}, []
        expected = []
        for t in range(11):
            flow = Flow(position=t, states=states, cache=CachePolicy(store, window))
            parts.append(flow.run(block, x[:, t : t + 1]))
            states = flow.next_states
            past = [s for s in range(t) if window is None or s < SINKS or s >= t - window]
            keys, values = (
                torch.cat((old[:, past], new[:, t : t + 1]), 1).repeat_interleave(2, 2).transpose(1, 2)
                for old, new in zip(kept, (k, v), strict=True)
            )
            seen = F.scaled_dot_product_attention(q[:, t : t + 1].transpose(1, 2), keys, values)
            expected.append(seen.transpose(1, 2).flatten(2) @ block.o.T)
    torch.testing.assert_close(torch.cat(parts, 1), torch.cat(expected, 1))


@pytest.mark.parametrize("weigh", ["relu2", "softmax"])
def test_a_unit_reads_what_a_window_keeps(weigh: str) -> None:
    """The first positions and the latest: a parallel pass in which a query sees these alone."""
    shown = {"kind": "window", "size": 4, "sinks": SINKS}
    models = [
        organism([stage("a", {**UNIT, "weigh": weigh, **settings}, ffn={"kind": "none"})]).float()
        for settings in ({}, {"stencil": shown})
    ]
    tokens = torch.randint(256, (2, 14), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found, _ = decoded(models[0], tokens, CachePolicy(window=3))
        wanted = models[1](tokens)
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("name", ["full", "nf4"])
def test_the_heaviest_and_the_latest_are_kept(name: str) -> None:
    """Each key head forgets, outside the latest, the key with the least attention so far: H2O written out.

    A first piece of five tokens is read whole, as its bytes are counted; those held are those that the plan says.
    """
    policy, first, steps = CachePolicy(STORES[name], window=2, heavy=3), 5, 14
    model = organism([stage("a", ATTENTION, ffn={"kind": "none"})]).float()
    block = model.stages["a"].child("0").child("mixer")
    assert isinstance(block, Attention)
    x = noise(2, steps, 16, seed=3) * 2
    with torch.no_grad():
        q, k, v = block._project(x, x, Flow(), None)  # pyright: ignore[reportPrivateUsage]
        states, parts, position = {}, [], 0
        for piece in x.split([first, *[1] * (steps - first)], dim=1):
            flow = Flow(position=position, states=states, cache=policy)
            parts.append(flow.run(block, piece))
            states, position = flow.next_states, position + piece.shape[1]
        store = STORES[name]
        kept_k, kept_v = (unpack(pack(y, store)) if store.packer else y for y in (k, v))
        expected = torch.zeros(2, steps, 4, 6)
        for row in range(2):
            for head in range(2):
                past: list[int] = []
                got: dict[int, float] = {}
                for piece in torch.arange(steps).split([first, *[1] * (steps - first)]):
                    new = piece.tolist()
                    for t in new:
                        here = [*past, *(s for s in new if s <= t)]
                        keys = torch.stack([(k if s in new else kept_k)[row, s, head] for s in here])
                        values = torch.stack([(v if s in new else kept_v)[row, s, head] for s in here])
                        shares = (q[row, t, 2 * head : 2 * head + 2] @ keys.T / 6**0.5).softmax(-1)
                        expected[row, t, 2 * head : 2 * head + 2] = shares @ values
                        for s, share in zip(here, shares.sum(0).tolist(), strict=True):
                            got[s] = got.get(s, 0.0) + share
                    old, latest = [*past, *new][:-2], [*past, *new][-2:]
                    past = [*sorted(sorted(old, key=lambda s: -got[s])[:3]), *latest]
        torch.testing.assert_close(torch.cat(parts, 1), expected.flatten(2) @ block.o.T, rtol=1e-4, atol=1e-5)
    sums = 4 * 2 * 5  # float32, two key heads, five positions
    vectors = model.plan.cache_bytes(5, CachePolicy(store))
    assert model.plan.cache_bytes(steps, policy) == vectors + sums
    assert kept_bytes(next(iter(states.values()))) == 2 * (vectors + sums // 2)  # two rows; sums counted as two bytes


def test_room_for_all_forgets_nothing() -> None:
    """With as many places as tokens, and for attention that knows distances, choosing the heaviest changes nothing."""
    tokens = torch.randint(256, (2, 12), generator=torch.Generator().manual_seed(0))
    whole, window = CachePolicy(window=4, heavy=8), CachePolicy(window=3)
    with torch.no_grad():
        model = organism([stage("a", ATTENTION, repeat=2)]).float()
        torch.testing.assert_close(decoded(model, tokens, whole, first=3)[0], model(tokens))
        by_place = organism([stage("a", [{**ATTENTION, "position": {"kind": "alibi"}}, LATENT], repeat=2)]).float()
        heavy = CachePolicy(window=3, heavy=2)
        assert torch.equal(decoded(by_place, tokens, heavy)[0], decoded(by_place, tokens, window)[0])
    assert by_place.plan.cache_bytes(12, heavy) == by_place.plan.cache_bytes(12, window)


@pytest.mark.parametrize("mixer", [ATTENTION, LATENT], ids=["attention", "latent"])
@pytest.mark.parametrize("policy", [CachePolicy(STORES[name]) for name in PACKING], ids=PACKING)
def test_what_is_packed_stays_as_it_is(policy: CachePolicy, mixer: dict[str, Any]) -> None:
    """A step adds the bytes of its own token and packs no earlier one again: bytes it would never write stay."""
    model = organism([stage("a", mixer, ffn={"kind": "none"})]).float()
    tokens = torch.randint(256, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        _, state = decoded(model, tokens[:, :8], policy, first=7)
        [(key, block)] = state.blocks.items()
        packed = {name: kept for name, kept in vars(block).items() if isinstance(kept, Packed)}
        odd = {name: replace(kept, codes=torch.ones_like(kept.codes)) for name, kept in packed.items()}
        _, after = model.extend(tokens[:, 8:], replace(state, blocks={key: replace(block, **odd)}), cache=policy)
    for name, kept in odd.items():
        late = getattr(after.blocks[key], name)
        assert late.codes.shape[1] == 9
        assert torch.equal(late.codes[:, :8], kept.codes)
        assert torch.equal(late.scales[:, :8], kept.scales)


def test_coarse_caches_tip_what_chooses() -> None:
    """Rounding beyond a hundredth is told of where something chooses by numbers, and nowhere else."""
    experts = {"kind": "experts", "count": 4}
    chooser, none = (organism([stage("a", ATTENTION, ffn=ffn)]).plan for ffn in (experts, {"kind": "dense"}))
    found = {
        name: (chooser.tipped(CachePolicy(store)), none.tipped(CachePolicy(store))) for name, store in STORES.items()
    }
    coarse = (("experts",), ())
    assert found == {"full": ((), ()), "int8": ((), ()), "fp8": coarse, "nf4": coarse, "none": ((), ())}


@pytest.mark.parametrize("name", PACKING)
def test_errors_of_rounding_are_as_declared(name: str) -> None:
    """Of the largest number of a vector, the most that any number of it moves by; some number moves nearly that far."""
    store = STORES[name]
    x = torch.linspace(-1, 1, 20_001)[None]
    off = (unpack(pack(x, store)) - x).abs().amax()
    assert 0.95 * store.error < off < 1.02 * store.error


def test_fewer_bits_are_further_off() -> None:
    """Decoding with everything equals the parallel pass; with 8 bits it is near, with 4 less so."""
    model = organism([stage("a", ATTENTION, repeat=2)]).float()
    with torch.no_grad():
        for parameter in model.stages.parameters():
            parameter.mul_(2)
        tokens = torch.randint(256, (2, 20), generator=torch.Generator().manual_seed(0))
        whole = model(tokens)
        off = {
            name: float((decoded(model, tokens, CachePolicy(store))[0] - whole).abs().max() / whole.abs().max())
            for name, store in STORES.items()
            if name != "none"
        }
    assert off["full"] < 1e-5 < off["int8"] < off["fp8"] < off["nf4"] < 1.0
