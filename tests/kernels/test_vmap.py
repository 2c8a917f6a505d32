"""torch.func over members: `vmap(grad(loss))` of stacked inputs is each member's own gradient.

The plain backends on the CPU; the kernels interpreted (`TRITON_INTERPRET=1`) or, as `auto` chooses, on a CUDA device.
"""

import importlib

import pytest
import torch
from tests.kernels.device import DEVICE, RUNS_KERNELS
from torch.func import functional_call, grad, vmap
from torch.nn.functional import normalize

from evo.blocks.constant import Constant
from evo.blocks.norm.rms import rms_norm
from evo.blocks.position.module import turn
from evo.kernels import fused
from evo.kernels.attention import Stencil, attend
from evo.kernels.convolution import long_convolution, short_convolution
from evo.kernels.recurrence import recur
from evo.kernels.triton_support import is_interpreting

MEMBERS = 2
B, T, H, G, K, V = 1 if is_interpreting() else 2, 9, 2, 1, 16, 16
WINDOW, CAUSAL, FULL = Stencil("window", 5, sinks=1), Stencil(), Stencil(causal=False)
SEGMENTS = torch.tensor([[0, 0, 0, 0, 1, 1, 2, 2, 2], [5, 5, 3, 3, 3, 3, 3, 3, 5]])[:B]


def attention(stencil, **numbers):
    """Loss by q, k, v and what the softmax has besides, by name."""

    def loss(backend, q, k, v, **extras):
        segments = {"segments_BT": SEGMENTS.to(q.device)} if numbers.get("packed") else {}
        options = {name: x for name, x in numbers.items() if name != "packed"}
        return weighed(attend(q, k, v, stencil=stencil, backend=backend, **segments, **options, **extras))

    return loss


def recurrence(packed=False):
    """Loss by q, k, v and the parts of the family's member, by name."""

    def loss(backend, q, k, v, a=None, b=None, **parts):
        keys = normalize(k, dim=-1)
        dplr = None if a is None else (-normalize(a, dim=-1), normalize(a, dim=-1) * torch.sigmoid(b))
        if "log_decay" in parts:
            parts["log_decay"] = -torch.nn.functional.softplus(parts["log_decay"])
        if "beta_BTH" in parts:
            parts["beta_BTH"] = torch.sigmoid(parts["beta_BTH"])
        segments = SEGMENTS.to(q.device) if packed else None
        o, state = recur(q, keys, v, dplr=dplr, segments_BT=segments, chunk=8, backend=backend, **parts)
        return weighed(o) + weighed(state)

    return loss


def convolution(packed=False):
    """Loss by x, the taps, and bias and state by name."""

    def loss(backend, x, weight, **parts):
        segments = SEGMENTS.to(x.device) if packed else None
        y, state = short_convolution(x, weight, activation="silu", segments_BT=segments, backend=backend, **parts)
        return weighed(y) + weighed(state)

    return loss


def normed(center):
    def loss(backend, x, gain, bias=None):
        return weighed(fused.norm(x, gain, bias, 1e-6, center=center, backend=backend))

    return loss


def added_and_normed(backend, x, y, gain, bias):
    return sum(weighed(z) for z in fused.add_norm(x, y, gain, bias, 1e-6, center=False, backend=backend))


def gated(backend, gate, up):
    return weighed(fused.gated(gate, up, "silu", backend=backend))


def embedded(backend, weight):
    return weighed(fused.embed(targets(T, weight), weight, backend=backend))


def sorted_rows(scores):
    """The order of rows by numbers that differ from member to member; these have no gradient but 0."""
    return fused.Permutation.of(scores.detach().argsort()), 0 * scores.sum()


def permuted(backend, x, scores, **shares):
    rows, zero = sorted_rows(scores)
    return weighed(fused.permute(x, rows, *shares.values(), backend=backend)) + zero


def unpermuted(backend, y, scores, **shares):
    rows, zero = sorted_rows(scores)
    return weighed(fused.unpermute(y, rows, *shares.values(), backend=backend)) + zero


def entropy(backend, logits):
    return fused.cross_entropy(logits, targets(T, logits), 3.0, backend=backend)


def linear_entropy(backend, h, weight):
    return fused.linear_cross_entropy(h, weight, targets(T, h), backend=backend)


def weighted_entropy(backend, h, weight, counts):
    weights = counts.detach().abs()
    return fused.linear_cross_entropy(h, weight, targets(T, h), weights_N=weights, backend=backend) + 0 * counts.sum()


def lru_terms(backend, u, i, r, bias, gain, rate):
    parts = (x.unflatten(-1, (2, 3)).movedim(-2, 0) for x in (i, r))
    first = targets(T, u).expand(len(u), T) < 4
    return sum(weighed(x) for x in fused.lru_terms(u, *parts, bias, gain, rate, first, backend=backend))


def rotated(backend, q, k):
    return sum(weighed(x) for x in fused.rotate(q, k, *tables(q)))


def rotated_beside(backend, q, k, v):
    return sum(weighed(x) for x in fused.rotate_qkv(q, k, v, *tables(q)))


def weighed(x):
    """A sum in which every element counts differently."""
    return (x * torch.cos(torch.arange(x.numel(), device=x.device)).reshape(x.shape).to(x.dtype)).sum()


def targets(size, like):
    return torch.arange(size, device=like.device) * 7 % 11


QKV = {"q": (B, T, H, K), "k": (B, T, G, K), "v": (B, T, G, V)}
HEADS = {"q": (B, T, H, K), "k": (B, T, H, K), "v": (B, T, H, V)}
TOKEN, CHANNEL, STATE = (B, T, H), (B, T, H, K), (B, H, K, V)
REMOVALS = {"a": CHANNEL, "b": CHANNEL}
CONV = {"x": (B, T, 6), "weight": (6, 3)}
LAYER = {"gain": (6,), "bias": (6,)}

CASES = {
    "attention": (attention(CAUSAL), QKV),
    "attention full": (attention(FULL), QKV),
    "attention window": (attention(WINDOW), QKV),
    "attention soft cap": (attention(CAUSAL, soft_cap=2.0), QKV),
    "attention sink": (attention(CAUSAL), {**QKV, "sink_logits_H": (H,)}),
    "attention slopes": (attention(WINDOW), {**QKV, "alibi_slopes_H": (H,)}),
    "attention sink and slopes": (attention(CAUSAL), {**QKV, "sink_logits_H": (H,), "alibi_slopes_H": (H,)}),
    "attention bias": (attention(CAUSAL), {**QKV, "bias_HTS": (H, T, T)}),
    "attention bias by batch": (attention(CAUSAL), {**QKV, "bias_HTS": (B, 1, T, T)}),
    "attention packed": (attention(CAUSAL, packed=True), QKV),
    "attention packed sink": (attention(CAUSAL, packed=True), {**QKV, "sink_logits_H": (H,)}),
    "recur": (recurrence(), HEADS),
    "recur state": (recurrence(), {**HEADS, "initial_state_BHKV": STATE}),
    "recur head": (recurrence(), {**HEADS, "log_decay": (H,), "initial_state_BHKV": STATE}),
    "recur token": (recurrence(), {**HEADS, "log_decay": TOKEN}),
    "recur channel": (recurrence(), {**HEADS, "log_decay": CHANNEL, "initial_state_BHKV": STATE}),
    "recur bonus": (recurrence(), {**HEADS, "log_decay": TOKEN, "bonus_HK": (H, K)}),
    "recur channel bonus": (recurrence(), {**HEADS, "log_decay": CHANNEL, "bonus_HK": (H, K)}),
    "recur packed": (recurrence(packed=True), {**HEADS, "log_decay": (H,)}),
    "delta": (recurrence(), {**HEADS, "beta_BTH": TOKEN, "initial_state_BHKV": STATE}),
    "delta head": (recurrence(), {**HEADS, "beta_BTH": TOKEN, "log_decay": (H,), "initial_state_BHKV": STATE}),
    "delta token": (recurrence(), {**HEADS, "beta_BTH": TOKEN, "log_decay": TOKEN}),
    "delta channel": (recurrence(), {**HEADS, "beta_BTH": TOKEN, "log_decay": CHANNEL}),
    "delta packed": (recurrence(packed=True), {**HEADS, "beta_BTH": TOKEN}),
    "dplr": (recurrence(), {**HEADS, **REMOVALS, "log_decay": CHANNEL, "initial_state_BHKV": STATE}),
    "dplr head": (recurrence(), {**HEADS, **REMOVALS, "log_decay": (H,)}),
    "dplr bonus packed": (recurrence(packed=True), {**HEADS, **REMOVALS, "bonus_HK": (H, K)}),
    "convolution": (convolution(), {**CONV, "bias_D": (6,), "state_BWD": (B, 2, 6)}),
    "convolution packed": (convolution(packed=True), CONV),
    "rms norm": (normed(center=False), {"x": (B, T, 6), "gain": (6,)}),
    "layer norm": (normed(center=True), {"x": (B, T, 6), **LAYER}),
    "add norm": (added_and_normed, {"x": (B, T, 6), "y": (B, T, 6), **LAYER}),
    "gated": (gated, {"gate": (B, T, 6), "up": (B, T, 6)}),
    "lru terms": (lru_terms, {**dict.fromkeys("uir", (B, T, 6)), **LAYER, "rate": (6,)}),
    "embed": (embedded, {"weight": (11, 6)}),
    "permute": (permuted, {"x": (T, 6), "scores": (3 * T,)}),
    "permute weighed": (permuted, {"x": (T, 6), "scores": (3 * T,), "shares": (T, 3)}),
    "unpermute": (unpermuted, {"y": (3 * T, 6), "scores": (3 * T,)}),
    "unpermute weighed": (unpermuted, {"y": (3 * T, 6), "scores": (3 * T,), "shares": (T, 3)}),
    "cross entropy": (entropy, {"logits": (T, 11)}),
    "linear cross entropy": (linear_entropy, {"h": (T, 6), "weight": (11, 6)}),
    "weighted cross entropy": (weighted_entropy, {"h": (T, 6), "weight": (11, 6), "counts": (T,)}),
}

PLAIN = {
    "rms norm on the CPU": (lambda backend, x, gain: weighed(rms_norm(x, gain, 1e-6)), {"x": (B, T, 6), "gain": (6,)}),
    "turn": (lambda backend, x: weighed(turn(x, *angles(x, K // 2))), {"x": (B, T, H, K)}),
    "long convolution": (lambda backend, x, taps: weighed(long_convolution(x, taps)), {"x": (B, T, 6), "taps": (6, T)}),
}
TURNED = {
    "rotate": (rotated, {"q": (B, T, H, K), "k": (B, T, G, K)}),
    "rotate beside": (rotated_beside, QKV),
}


SLOW = {"delta channel", "dplr head", "dplr bonus packed"}
"""What takes the interpreter seconds and shows nothing new there."""
INTERPRETED = {name: case for name, case in {**CASES, **TURNED}.items() if not is_interpreting() or name not in SLOW}
PARAMETERS = {"gain", "bias", "weight", "bias_D", "sink_logits_H", "alibi_slopes_H", "bonus_HK", "rate", "scores"}
"""What has no batch, beside decays of shape (H,)."""


def angles(x, pairs):
    """Cosines and sines (T, 1, pairs) in x's dtype."""
    found = torch.outer(torch.arange(T, device=x.device), 0.5 ** torch.arange(pairs, device=x.device))[:, None]
    return found.cos().to(x.dtype), found.sin().to(x.dtype)


def tables(x):
    return [table[:, 0].contiguous() for table in angles(x, K // 4)]


def drawn(shapes, device):
    """For every name a tensor (members, *shape)."""
    stream = torch.Generator().manual_seed(0)
    return {name: torch.randn(MEMBERS, *shape, generator=stream).to(device) for name, shape in shapes.items()}


def check(loss, shapes, backend, device, shared=(), tolerance=None):
    """Values and gradients of all members in one call against each member's own. shared: what all have in common."""
    stacked = drawn(shapes, device)
    stacked |= {name: stacked[name][0] for name in shared}

    def value(inputs):
        return loss(backend, **inputs)

    in_dims = {name: None if name in shared else 0 for name in stacked}
    found = vmap(grad(value), in_dims=(in_dims,))(stacked)
    for member in range(MEMBERS):
        leaves = {name: (x if name in shared else x[member]).clone().requires_grad_() for name, x in stacked.items()}
        expected = torch.autograd.grad(value(leaves), list(leaves.values()))
        for name, wanted in zip(leaves, expected, strict=True):
            bounds = tolerance or {"rtol": 1e-4, "atol": 1e-5}
            torch.testing.assert_close(found[name][member], wanted, **bounds, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize(("loss", "shapes"), [*CASES.values(), *PLAIN.values()], ids=[*CASES, *PLAIN])
def test_members_on_the_cpu(loss, shapes):
    """The plain backends."""
    check(loss, shapes, "auto", "cpu")


@pytest.mark.parametrize(("loss", "shapes"), INTERPRETED.values(), ids=INTERPRETED)
class TestKernels:
    """The kernels, by name."""

    pytestmark = RUNS_KERNELS

    def test_members(self, loss, shapes):
        """Each with tensors and parameters of its own."""
        check(loss, shapes, "triton", DEVICE)

    def test_members_with_parameters_in_common(self, loss, shapes):
        """What has no batch is the same for all members, but has a gradient for each."""
        names = [name for name, shape in shapes.items() if name in PARAMETERS or shape == (H,)]
        if not names or len(names) == len(shapes):
            pytest.skip("nothing, or everything, would be in common")
        check(loss, shapes, "triton", DEVICE, shared=names)


@pytest.mark.gpu
@pytest.mark.skipif(is_interpreting() or not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("loss", "shapes"), [*CASES.values(), *TURNED.values()], ids=[*CASES, *TURNED])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_members_on_a_gpu(loss, shapes, dtype):
    """Whatever backend a CUDA device would run, in single and half precision."""

    def cast(backend, **inputs):
        return loss(backend, **{name: x.to(dtype) for name, x in inputs.items()}).float()

    bounds = None if dtype == torch.float32 else {"rtol": 3e-2, "atol": 3e-2}
    check(cast, shapes, "auto", "cuda", tolerance=bounds)


class TestSliced:
    """The cross-entropy whose logits never exist together."""

    pytestmark = RUNS_KERNELS

    def test_members(self, monkeypatch):
        """It is one call a member."""
        monkeypatch.setattr(importlib.import_module("evo.kernels.fused.cross_entropy"), "SLICE", 40)
        check(*CASES["linear cross entropy"], "triton", DEVICE)


@pytest.mark.parametrize(("loss", "shapes"), [CASES["recur token"], CASES["delta head"], CASES["attention sink"]])
class TestOrder:
    """grad of vmap, in place of vmap of grad."""

    pytestmark = RUNS_KERNELS

    def test_a_sum_over_members(self, loss, shapes):
        """Has the members' gradients too, though inside vmap no tensor says that it needs one."""
        stacked = drawn(shapes, DEVICE)

        def value(inputs):
            return loss("triton", **inputs)

        found, expected = grad(lambda all_: vmap(value)(all_).sum())(stacked), vmap(grad(value))(stacked)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_tables_made_inside_a_transform_outlive_it():
    """Cosines and constants that a block keeps are plain tensors, which a kernel can be launched on later."""
    held = Constant(torch.ones(6, dtype=torch.float64))
    vmap(grad(lambda x: (held.like(x) * x).sum()))(torch.randn(MEMBERS, 6))
    assert held.like(torch.zeros(1)).data_ptr() != 0


def test_a_module_over_members():
    """functional_call with stacked parameters, as a population's step does."""
    module = torch.nn.Linear(6, 6)
    weights = {"weight": torch.randn(MEMBERS, 6, 6), "bias": torch.randn(MEMBERS, 6)}
    x = torch.randn(B, T, 6)

    def value(parameters):
        return weighed(fused.gated(functional_call(module, parameters, (x,)), x, "relu2"))

    found = vmap(grad(value))(weights)
    assert found["weight"].shape == (MEMBERS, 6, 6)
    assert not torch.equal(found["weight"][0], found["weight"][1])
