"""The references against code that nobody here wrote: fla's naive functions and transformers' torch paths."""

from types import SimpleNamespace

import pytest
import torch

from evo.kernels.attention import Stencil, attend
from evo.kernels.recurrence import recur
from oracles import naive

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
BACKENDS = ("reference", "chunked")
B, T, H, K, V = 2, 64, 2, 16, 12
TOLERANCE = {"rtol": 2e-4, "atol": 2e-4}


def normal(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def sequences(value_dim=V):
    k = torch.nn.functional.normalize(normal(B, T, H, K, seed=1).detach(), dim=-1).requires_grad_()
    return normal(B, T, H, K, seed=0), k, normal(B, T, H, value_dim, seed=2)


def decays(*shape):
    return torch.nn.functional.logsigmoid(normal(*shape, seed=3).detach() + 2).requires_grad_()


def same_with_gradients(ours, theirs, inputs):
    """Values and the gradients of a random linear loss."""
    direction = normal(*ours.shape, seed=9).detach()
    torch.testing.assert_close(ours, theirs, **TOLERANCE)
    got, wanted = (torch.autograd.grad((x * direction).sum(), inputs, retain_graph=True) for x in (ours, theirs))
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, **TOLERANCE)


def heads_first(*tensors):
    return [x.transpose(1, 2) for x in tensors]


@pytest.mark.parametrize("backend", BACKENDS)
def test_linear_attention(backend):
    """No decay, outer update: fla's linear attention."""
    theirs_of = naive("fla.ops.linear_attn.naive:naive_recurrent_linear_attn")
    inputs, state = sequences(), normal(B, H, K, V, seed=5)
    theirs, final = theirs_of(*inputs, initial_state=state, output_final_state=True)
    ours, mine = recur(*inputs, initial_state_BHKV=state, backend=backend)
    torch.testing.assert_close(mine, final, **TOLERANCE)
    same_with_gradients(ours, theirs, (*inputs, state))


@pytest.mark.parametrize("backend", BACKENDS)
def test_retention(backend):
    """Constant decay per head 1 - 2^(-5-h): RetNet's retention."""
    theirs_of = naive("fla.ops.retention.naive:naive_retention")
    inputs = sequences()
    log_decay = torch.log(1 - 2.0 ** (-5 - torch.arange(H)))
    theirs = theirs_of(*heads_first(*inputs)).transpose(1, 2)
    same_with_gradients(recur(*inputs, log_decay=log_decay, backend=backend)[0], theirs, inputs)


@pytest.mark.parametrize("backend", BACKENDS)
def test_scalar_gate(backend):
    """One gate per token and head: simple GLA, the SSD form of Mamba-2."""
    theirs_of = naive("fla.ops.simple_gla.naive:naive_recurrent_simple_gla")
    inputs, gates = sequences(), decays(B, T, H)
    theirs, final = theirs_of(*inputs, gates)
    ours, mine = recur(*inputs, log_decay=gates, backend=backend)
    torch.testing.assert_close(mine, final, **TOLERANCE)
    same_with_gradients(ours, theirs, (*inputs, gates))


@pytest.mark.parametrize("backend", BACKENDS)
def test_gla(backend):
    """One gate per channel: gated linear attention."""
    theirs_of = naive("fla.ops.gla.naive:naive_recurrent_gla")
    inputs, gates = sequences(), decays(B, T, H, K)
    theirs, final = theirs_of(*inputs, gates, output_final_state=True)
    ours, mine = recur(*inputs, log_decay=gates, backend=backend)
    torch.testing.assert_close(mine, final, **TOLERANCE)
    same_with_gradients(ours, theirs, (*inputs, gates))


@pytest.mark.parametrize("backend", BACKENDS)
def test_rwkv6(backend):
    """Channel gates and a bonus for the current token: RWKV-6."""
    theirs_of = naive("fla.ops.rwkv6.recurrent_naive:naive_recurrent_rwkv6")
    inputs, gates, bonus = sequences(), decays(B, T, H, K), normal(H, K, seed=4)
    theirs, final = theirs_of(*heads_first(*inputs, gates), bonus, output_final_state=True)
    ours, mine = recur(*inputs, log_decay=gates, bonus_HK=bonus, backend=backend)
    torch.testing.assert_close(mine, final, **TOLERANCE)
    same_with_gradients(ours, theirs.transpose(1, 2), (*inputs, gates, bonus))


@pytest.mark.parametrize("backend", BACKENDS)
def test_delta_rule(backend):
    """No decay, delta update: DeltaNet."""
    theirs_of = naive("fla.ops.delta_rule.naive:delta_rule_recurrence")
    inputs, beta = sequences(value_dim=K), torch.sigmoid(normal(B, T, H, seed=4).detach()).requires_grad_()
    theirs, final = theirs_of(*heads_first(*inputs, beta))
    ours, mine = recur(*inputs, beta_BTH=beta, backend=backend)
    torch.testing.assert_close(mine, final, **TOLERANCE)
    same_with_gradients(ours, theirs.transpose(1, 2), (*inputs, beta))


@pytest.mark.parametrize("backend", BACKENDS)
def test_gated_delta_rule(backend):
    """Decay per token, delta update on the decayed state: gated DeltaNet."""
    theirs_of = naive("fla.ops.gated_delta_rule.naive:naive_recurrent_gated_delta_rule")
    inputs, gates = sequences(), decays(B, T, H)
    beta = torch.sigmoid(normal(B, T, H, seed=4).detach()).requires_grad_()
    theirs, final = theirs_of(*inputs, beta, gates, output_final_state=True)
    ours, mine = recur(*inputs, log_decay=gates, beta_BTH=beta, backend=backend)
    torch.testing.assert_close(mine, final, **TOLERANCE)
    same_with_gradients(ours, theirs, (*inputs, beta, gates))


@pytest.mark.parametrize("backend", BACKENDS)
def test_channel_gated_delta_rule(backend):
    """Decay per channel, delta update: Kimi delta attention."""
    theirs_of = naive("fla.ops.kda.naive:naive_recurrent_kda")
    inputs, gates = sequences(), decays(B, T, H, K)
    beta = torch.sigmoid(normal(B, T, H, seed=4).detach()).requires_grad_()
    theirs, final = theirs_of(*inputs, gates, beta, output_final_state=True)
    ours, mine = recur(*inputs, log_decay=gates, beta_BTH=beta, backend=backend)
    torch.testing.assert_close(mine, final, **TOLERANCE)
    same_with_gradients(ours, theirs, (*inputs, beta, gates))


@pytest.mark.parametrize("backend", BACKENDS)
def test_generalised_delta_rule(backend):
    """Diagonal plus low rank, RWKV-7's transition: a reads the state before its decay."""
    theirs_of = naive("fla.ops.generalized_delta_rule.dplr.naive:dplr_recurrence")
    inputs, gates = sequences(), decays(B, T, H, K)
    a = torch.nn.functional.normalize(normal(B, T, H, K, seed=6).detach(), dim=-1)
    b = (-a * torch.sigmoid(normal(B, T, H, K, seed=7).detach())).requires_grad_()
    a.requires_grad_()
    theirs, final = theirs_of(*heads_first(*inputs, a, b, gates))
    ours, mine = recur(*inputs, log_decay=gates, dplr=(a, b), backend=backend)
    torch.testing.assert_close(mine, final, **TOLERANCE)
    same_with_gradients(ours, theirs.transpose(1, 2), (*inputs, a, b, gates))


def causal_mask(window=None):
    t, s = torch.arange(T)[:, None], torch.arange(T)[None, :]
    seen = (s <= t) if window is None else (s <= t) & (t - s < window)
    return torch.zeros(T, T).masked_fill(~seen, float("-inf"))[None, None]


@pytest.mark.parametrize("window", [None, 9])
def test_learned_sinks_are_those_of_gpt_oss(window):
    """The extra logit that joins the softmax and is dropped."""
    module = pytest.importorskip("transformers.models.gpt_oss.modeling_gpt_oss", reason="transformers is not installed")
    q, k, v = normal(B, T, 4, K, seed=0), normal(B, T, 2, K, seed=1), normal(B, T, 2, V, seed=2)
    sinks = normal(4, seed=3)
    host = SimpleNamespace(num_key_value_groups=2, sinks=sinks, training=False)
    theirs, _ = module.eager_attention_forward(host, *heads_first(q, k, v), causal_mask(window), K**-0.5)
    stencil = Stencil() if window is None else Stencil("window", window)
    same_with_gradients(attend(q, k, v, stencil=stencil, sink_logits_H=sinks), theirs, (q, k, v, sinks))


def test_soft_cap_is_that_of_gemma2():
    """cap tanh(x / cap), before the mask."""
    module = pytest.importorskip("transformers.models.gemma2.modeling_gemma2", reason="transformers is not installed")
    q, k, v = normal(B, T, 4, K, seed=0), normal(B, T, 2, K, seed=1), normal(B, T, 2, V, seed=2)
    host = SimpleNamespace(num_key_value_groups=2, training=False, head_dim=K)
    theirs, _ = module.eager_attention_forward(host, *heads_first(q, k, v), causal_mask(), softcap=2.0)
    same_with_gradients(attend(q, k, v, stencil=Stencil(), soft_cap=2.0), theirs, (q, k, v))


def test_alibi_is_that_of_bloom():
    """Bloom's slopes times key position differ from -slope (t - s) by a constant per row, which softmax ignores."""
    module = pytest.importorskip("transformers.models.bloom.modeling_bloom", reason="transformers is not installed")
    q, k, v = (normal(B, T, H, K, seed=s) for s in range(3))
    slopes = torch.tensor([2.0**-4, 2.0**-8])
    bias = module.build_alibi_tensor(torch.ones(B, T, dtype=torch.int64), H, torch.float32).view(B, H, 1, T)
    logits = (q.transpose(1, 2) @ k.permute(0, 2, 3, 1)) * K**-0.5 + bias + causal_mask()
    theirs = (logits.softmax(-1) @ v.transpose(1, 2)).transpose(1, 2)
    same_with_gradients(attend(q, k, v, stencil=Stencil(), alibi_slopes_H=slopes), theirs, (q, k, v))
