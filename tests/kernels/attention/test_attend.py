"""attend: the equation, the vendor path, gradients, GQA, caches."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from evo.kernels.attention import Stencil, attend, plan, sdpa
from evo.kernels.attention.backends import TABLE
from evo.kernels.dispatch import BackendError, choose

STENCILS = [
    Stencil(),
    Stencil(causal=False),
    Stencil("window", 3, sinks=2),
    Stencil("window", 4, causal=False),
    Stencil("dilated", 3, dilation=2, sinks=1),
    Stencil("block", 4),
    Stencil("block", 4, causal=False),
    Stencil("ring", 2, period=5),
    Stencil("ring", 2, period=11, causal=False),
    Stencil("prefix", 4),
]


def draw(B=2, T=11, S=11, H=4, G=2, K=8, V=8, dtype=torch.float64, seed=0):
    stream = torch.Generator().manual_seed(seed)
    make = lambda *shape: torch.randn(*shape, generator=stream, dtype=dtype).requires_grad_()  # noqa: E731
    return make(B, T, H, K), make(B, S, G, K), make(B, S, G, V)


def sees(stencil, t, s):
    """One cell of the mask, written from the words of the docstring and not from the code."""
    if stencil.kind == "prefix" and s < stencil.size:
        return True
    if stencil.causal and s > t:
        return False
    if s < stencil.sinks or stencil.kind in ("full", "prefix"):
        return True
    gap = t - s if stencil.causal else abs(t - s)
    if stencil.kind == "window":
        return gap < stencil.size
    if stencil.kind == "dilated":
        return gap in range(0, stencil.size * stencil.dilation, stencil.dilation)
    if stencil.kind == "block":
        return t // stencil.size == s // stencil.size
    forward, backward = (t - s) % stencil.period, (s - t) % stencil.period
    return (forward if stencil.causal else min(forward, backward)) < stencil.size


def by_hand(q, k, v, stencil, cap=None, sinks=None, slopes=None):
    """Loops over every batch, head and query."""
    B, T, H, K = q.shape
    S, G = k.shape[1:3]
    rows = []
    for b in range(B):
        for t in range(T):
            for h in range(H):
                g = h // (H // G)
                keys = [s for s in range(S) if sees(stencil, t, s)]
                x = torch.stack([(q[b, t, h] * k[b, s, g]).sum() / math.sqrt(K) for s in keys])
                x = x if cap is None else cap * torch.tanh(x / cap)
                if slopes is not None:
                    x = x - slopes[h] * torch.tensor([abs(t - s) for s in keys], dtype=x.dtype)
                extra = 0 if sinks is None else sinks[h].exp()
                p = x.exp() / (x.exp().sum() + extra)
                rows.append(sum(p[i] * v[b, s, g] for i, s in enumerate(keys)))
    return torch.stack(rows).reshape(B, T, H, -1)


@pytest.mark.parametrize("stencil", STENCILS, ids=str)
def test_reference_is_the_loop_over_queries(stencil):
    """The reference equals a loop written from the definition, for every stencil, with every extra at once."""
    q, k, v = draw(V=6)
    sinks, slopes = torch.randn(4, dtype=torch.float64), torch.rand(4, dtype=torch.float64)
    got = attend(
        q, k, v, stencil=stencil, soft_cap=2.0, sink_logits_H=sinks, alibi_slopes_H=slopes, backend="reference"
    )
    torch.testing.assert_close(got, by_hand(q, k, v, stencil, 2.0, sinks, slopes))


@pytest.mark.parametrize("alibi", [False, True])
@pytest.mark.parametrize("stencil", STENCILS, ids=str)
def test_sdpa_path_equals_reference(stencil, alibi):
    """The vendor path gives the reference's values and gradients."""
    slopes = torch.tensor([0.5, 0.25, 0.125, 0.0625], dtype=torch.float64) if alibi else None
    answers = []
    for backend in ("reference", "sdpa"):
        inputs = draw()
        o = attend(*inputs, stencil=stencil, alibi_slopes_H=slopes, backend=backend)
        answers.append((o, *torch.autograd.grad(o.square().sum(), inputs)))
    for expected, got in zip(*answers, strict=True):
        torch.testing.assert_close(got, expected)


def test_reference_equals_dense_mask_sdpa():
    """A sliding window with GQA equals torch's SDPA given repeated heads and a hand-made dense mask."""
    q, k, v = draw()
    t, s = torch.arange(11)[:, None], torch.arange(11)[None, :]
    mask = (s <= t) & ((t - s < 3) | (s < 2))
    kk, vv = (x.repeat_interleave(2, dim=2).transpose(1, 2) for x in (k, v))
    expected = F.scaled_dot_product_attention(q.transpose(1, 2), kk, vv, attn_mask=mask).transpose(1, 2)
    torch.testing.assert_close(attend(q, k, v, stencil=Stencil("window", 3, sinks=2), backend="reference"), expected)


@pytest.mark.parametrize("stencil", [Stencil("window", 3, sinks=1), Stencil("ring", 2, period=3)], ids=str)
def test_gradients_are_those_of_finite_differences(stencil):
    """gradcheck passes through q, k, v, sinks and slopes."""
    q, k, v = draw(B=1, T=4, S=4, H=2, G=1, K=3, V=2)
    extras = [torch.tensor([0.3, -0.2], dtype=torch.float64, requires_grad=True) for _ in range(2)]

    def run(q, k, v, sinks, slopes):
        return attend(q, k, v, stencil=stencil, soft_cap=3.0, sink_logits_H=sinks, alibi_slopes_H=slopes)

    assert torch.autograd.gradcheck(run, (q, k, v, *extras))


@pytest.mark.parametrize("backend", ["reference", "sdpa"])
@pytest.mark.parametrize("stencil", [s for s in STENCILS if s.causal and s.kind != "prefix"], ids=str)
def test_decoding_with_an_offset_equals_the_whole(stencil, backend):
    """Queries taken one by one at their absolute position give the rows of the parallel form."""
    q, k, v = draw()
    whole = attend(q, k, v, stencil=stencil, backend=backend)
    for t in range(11):
        row = attend(q[:, t : t + 1], k[:, : t + 1], v[:, : t + 1], stencil=stencil, query_offset=t, backend=backend)
        torch.testing.assert_close(row, whole[:, t : t + 1])


@pytest.mark.parametrize("backend", ["reference", "sdpa"])
def test_ring_buffer_cache_with_explicit_positions(backend):
    """A window cache of W slots in rotated order, with an empty slot, gives the window's rows."""
    q, k, v = draw()
    stencil = Stencil("window", 4)
    whole = attend(q, k, v, stencil=stencil)
    for t in (1, 6, 10):
        slots = torch.full((5,), -1, dtype=torch.int64)
        for s in range(max(0, t - 4), t + 1):
            slots[s % 5] = s
        gather = slots.clamp(min=0)
        row = attend(
            q[:, t : t + 1],
            k[:, gather],
            v[:, gather],
            stencil=stencil,
            query_offset=t,
            key_positions_S=slots,
            backend=backend,
        )
        torch.testing.assert_close(row, whole[:, t : t + 1])


@pytest.mark.parametrize("backend", ["reference", "sdpa"])
def test_packed_documents_do_not_see_each_other(backend):
    """With segment ids each document is attended as if alone."""
    q, k, v = draw(B=1)
    ids = torch.tensor([[0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2]])
    whole = attend(q, k, v, stencil=Stencil(), segments_BT=ids, backend=backend)
    for a, b in ((0, 4), (4, 9), (9, 11)):
        torch.testing.assert_close(whole[:, a:b], attend(q[:, a:b], k[:, a:b], v[:, a:b], stencil=Stencil()))


@pytest.mark.parametrize("backend", ["reference", "sdpa"])
def test_blind_rows_are_zero_with_zero_gradients(backend):
    """A query that sees no key returns zeros, and no NaN reaches a gradient."""
    q, k, v = draw()
    slots = torch.full((11,), -1, dtype=torch.int64)
    slots[0] = 5
    o = attend(q, k, v, stencil=Stencil(), key_positions_S=slots, backend=backend)
    assert (o[:, :5] == 0).all()
    assert (o[:, 5:] != 0).any()
    for gradient in torch.autograd.grad(o.square().sum(), (q, k, v)):
        assert gradient.isfinite().all()


@pytest.mark.parametrize("backend", ["reference", "sdpa"])
def test_cross_attention_of_unequal_lengths(backend):
    """Queries and keys of different lengths work, causal and full."""
    q, k, v = draw(T=5, S=9)
    full = attend(q, k, v, stencil=Stencil(causal=False), backend=backend)
    torch.testing.assert_close(full, by_hand(q, k, v, Stencil(causal=False)))
    causal = attend(q, k, v, stencil=Stencil(), backend=backend)
    torch.testing.assert_close(causal, by_hand(q, k, v, Stencil()))


def test_relative_bias_is_added():
    """A bias per head, query and key adds to the logits, with its gradient."""
    q, k, v = draw()
    bias = torch.randn(4, 11, 11, dtype=torch.float64, requires_grad=True)
    grads = []
    for backend in ("reference", "sdpa"):
        o = attend(q, k, v, stencil=Stencil(), bias_HTS=bias, backend=backend)
        grads.append(torch.autograd.grad(o.square().sum(), bias)[0])
    torch.testing.assert_close(*grads)
    assert grads[0].abs().sum() > 0


@pytest.mark.parametrize("value", [1e4, -1e4])
def test_extreme_logits_stay_finite(value):
    """Logits of ±1e4 give finite outputs and gradients."""
    q, k, v = draw(dtype=torch.float32)
    scaled = (q.detach() * value).requires_grad_()
    o = attend(scaled, k, v, stencil=Stencil("window", 5), sink_logits_H=torch.zeros(4))
    assert o.isfinite().all()
    assert all(g.isfinite().all() for g in torch.autograd.grad(o.sum(), (scaled, k, v)))


@pytest.mark.parametrize(("B", "T", "S"), [(0, 4, 4), (2, 0, 4), (2, 3, 0)])
def test_empty_tensors_have_empty_or_zero_answers(B, T, S):
    """No batch, no query, no key: the answer has the right shape and no NaN."""
    o = attend(*draw(B=B, T=T, S=S), stencil=Stencil("window", 2))
    assert o.shape == (B, T, 4, 8)
    assert (o == 0).all()


def test_dtype_of_the_answer_is_that_of_q():
    """bfloat16 in, bfloat16 out, on both paths."""
    inputs = draw(dtype=torch.bfloat16)
    for backend in ("reference", "sdpa"):
        assert attend(*inputs, stencil=Stencil(), backend=backend).dtype == torch.bfloat16


def test_explicit_backend_is_never_replaced():
    """Asking SDPA for a soft cap raises an error that says why; an unknown name lists the known ones."""
    inputs = draw()
    with pytest.raises(BackendError, match="no soft cap"):
        attend(*inputs, stencil=Stencil(), soft_cap=5.0, backend="sdpa")
    with pytest.raises(BackendError, match="known: short, flash-attn-4, vendor, triton, sdpa, reference"):
        attend(*inputs, stencil=Stencil(), backend="sdqa")


def test_choice_tells_the_rejected_and_why():
    """`choose` names the backend and each one before it with its reasons, from meta tensors alone."""
    q, k, v = (x.to("meta") for x in draw())
    problem = plan(q, k, v, Stencil(), soft_cap=5.0)
    choice = choose(TABLE, problem)
    assert choice.backend.name == "reference"
    assert choice.rejected["sdpa"] == ("SDPA has no soft cap",)
    assert choose(TABLE, problem) is choice


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "widow", "size": 3}, "known: full, window"),
        ({"kind": "window"}, "needs a size"),
        ({"kind": "ring", "size": 2}, "needs a period"),
    ],
)
def test_bad_stencils_say_what_they_need(arguments, message):
    """A stencil that means nothing is refused when it is made."""
    with pytest.raises(ValueError, match=message):
        Stencil(**arguments)


def test_bad_shapes_are_refused():
    """Heads that do not divide are an error that shows both numbers."""
    with pytest.raises(ValueError, match=r"query heads \(4\) must be a multiple of kv heads \(3\)"):
        attend(*draw(G=3), stencil=Stencil())


def test_gradients_that_differ_from_call_to_call_are_passed_over_on_request():
    """Where gradients are to be repeatable, and under torch's own switch, SDPA runs on CUDA only without them."""

    def said(repeatable, **change):
        return sdpa.reasons(replace(plan(*draw(), Stencil(), repeatable=repeatable), **{"device": "cuda", **change}))

    assert said(False) == said(True, needs_grad=False) == said(True, device="cpu") == []
    assert said(True) == ["SDPA's gradients on CUDA do not repeat their bytes"]
    torch.use_deterministic_algorithms(True)
    try:
        assert said(False)
    finally:
        torch.use_deterministic_algorithms(False)


ILL_FITTING = {
    "sinks": ({"sink_logits_H": torch.zeros(1)}, r"sink_logits_H must be \(4,\), found \(1,\)"),
    "slopes": ({"alibi_slopes_H": torch.zeros(2)}, r"alibi_slopes_H must be \(4,\), found \(2,\)"),
    "bias": ({"bias_HTS": torch.zeros(3, 11, 11)}, r"bias_HTS must broadcast to \(2, 4, 11, 11\), found \(3, 11, 11\)"),
    "more than batches": ({"bias_HTS": torch.zeros(3, 1, 1, 1)}, r"bias_HTS must broadcast to \(2, 4, 11, 11\)"),
    "positions": ({"key_positions_S": torch.arange(10)}, r"key_positions_S must be \(11,\), found \(10,\)"),
    "documents of one batch": ({"segments_BT": torch.zeros(1, 11, dtype=torch.int64)}, r"must be integers \(2, 11\)"),
    "fractions": ({"segments_BT": torch.zeros(2, 11)}, r"must be integers \(2, 11\), found torch.float32"),
    "documents of keys": (
        {"segments_BT": torch.zeros(2, 11, dtype=torch.int64), "key_segments_BS": torch.zeros(2, 7, dtype=torch.int64)},
        r"must be integers \(2, 11\), found torch.int64 \(2, 7\)",
    ),
    "documents of keys alone": ({"key_segments_BS": torch.zeros(2, 11, dtype=torch.int64)}, "needs segments_BT"),
    "cap": ({"soft_cap": 0.0}, "soft_cap must not be 0"),
}


@pytest.mark.parametrize(("extra", "message"), ILL_FITTING.values(), ids=ILL_FITTING)
def test_what_does_not_fit_is_refused(extra, message):
    """A kernel would read past the end of what is too small; nothing that is given is left out without a word."""
    with pytest.raises(ValueError, match=message):
        attend(*draw(), stencil=Stencil("window", 3), **extra)


@pytest.mark.parametrize("backend", ["reference", "sdpa"])
def test_a_bias_that_closes_a_whole_row_leaves_zeros(backend):
    """A query that sees nothing returns zeros, whether the stencil or a bias of -inf hides the keys."""
    inputs = draw()
    bias = torch.zeros(11, 11, dtype=torch.float64)
    bias[5] = float("-inf")
    o = attend(*inputs, stencil=Stencil(), bias_HTS=bias, backend=backend)
    assert (o[:, 5] == 0).all()
    assert all(g.isfinite().all() for g in torch.autograd.grad(o.sum(), inputs))


@pytest.mark.parametrize("stencil", [Stencil(), Stencil("window", 3)], ids=str)
@pytest.mark.parametrize("backend", ["reference", "sdpa"])
def test_keys_and_values_of_another_dtype(backend, stencil):
    """Keys and values kept in float32 serve queries in bfloat16."""
    q, k, v = (x.detach() for x in draw(dtype=torch.float32))
    o = attend(q.bfloat16(), k, v, stencil=stencil, backend=backend)
    assert o.dtype == torch.bfloat16
    torch.testing.assert_close(o.float(), attend(q, k, v, stencil=stencil), atol=0.05, rtol=0.05)


def test_one_query_of_grouped_heads_copies_no_keys(monkeypatch):
    """A group's heads are rows of one head, with keys wider than values too: the equation, and its gradients."""
    asked, run = [], F.scaled_dot_product_attention

    def seen(q, k, v, **settings):
        asked.append((q.shape[1], k.shape[1]))
        return run(q, k, v, **settings)

    monkeypatch.setattr(F, "scaled_dot_product_attention", seen)
    stream = torch.Generator().manual_seed(0)
    given = [
        torch.randn(shape, generator=stream, dtype=torch.float64).requires_grad_()
        for shape in ((2, 1, 6, 5), (2, 9, 2, 5), (2, 9, 2, 3))
    ]
    found = attend(*given, stencil=Stencil(), query_offset=8, backend="sdpa")
    wanted = attend(*given, stencil=Stencil(), query_offset=8, backend="reference")
    assert asked == [(2, 2)]
    torch.testing.assert_close(found, wanted)
    slopes = torch.arange(found.numel(), dtype=torch.float64).reshape(found.shape)
    got, expected = (torch.autograd.grad((o * slopes).sum(), given) for o in (found, wanted))
    torch.testing.assert_close(got, expected)
