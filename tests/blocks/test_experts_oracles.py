"""Experts against transformers' blocks: outputs and gradients, every weight large, choice biases included."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from block_variants import block_of, built, plan
from torch import Tensor, nn

from evo.blocks.base import Block
from evo.blocks.flow import Flow

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
WIDTH, HIDDEN, EXPERTS, TIME = 16, 24, 8, 40
ONE = {"kind": "gated", "ratio": HIDDEN / WIDTH}
Weights = dict[str, Tensor]


def family(name: str) -> Any:
    """A family's modeling module, or a skip with the reason."""
    pytest.importorskip("transformers", reason="the oracle transformers is not installed")
    return importlib.import_module(f"transformers.models.{name}.modeling_{name}")


def config(name: str, **settings: Any) -> Any:
    """A small configuration of some class of transformers."""
    sizes = {"hidden_size": WIDTH, "num_local_experts": EXPERTS, "num_experts": EXPERTS, "num_experts_per_tok": 2}
    found = getattr(importlib.import_module("transformers"), name)(**{**sizes, **settings})
    found._experts_implementation = "eager"
    return found


def ours(**settings: Any) -> Block:
    """The block in this language, float64, with large weights."""
    return one_after_another(settings)[0]


def one_after_another(*settings: dict[str, Any]) -> list[Block]:
    """Such blocks of one layer, each behind the one before."""
    data = [{"block": {"kind": "experts", "of": ONE, "count": EXPERTS, **own}} for own in settings]
    whole = plan([{"name": "s", "layers": {"sublayers": data}}])
    blocks = [built(block_of(whole, str(index))) for index in range(len(settings))]
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in (parameter for block in blocks for parameter in block.parameters()):
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return blocks


def stacked_in_out(w: Weights) -> Weights:
    """[gate | up] of all experts (E, 2 F, D), and down (E, D, F)."""
    return {
        "experts.gate_up_proj": torch.cat((w["routed.gate"], w["routed.up"]), 1),
        "experts.down_proj": w["routed.down"],
    }


def shared(w: Weights, theirs: str) -> Weights:
    """A shared gated feed-forward under their name."""
    return {f"{theirs}.{name}_proj.weight": w[f"shared0.{name}"] for name in ("gate", "up", "down")}


def compare(block: Block, oracle: nn.Module, to_theirs: Callable[[Weights], Weights], first: bool = False) -> None:
    """Outputs and the gradients of the input and of every weight, in float64."""
    oracle = oracle.double().train(False)
    generator = torch.Generator().manual_seed(0)
    x, cotangent = (torch.randn(2, TIME, WIDTH, generator=generator, dtype=torch.float64) for _ in range(2))
    mine_x, their_x = x.clone().requires_grad_(), x.clone().requires_grad_()
    weights = {name: p.detach().clone().requires_grad_() for name, p in block.named_parameters()}
    found = torch.func.functional_call(oracle, to_theirs(weights), (their_x,))
    wanted = (found[0] if isinstance(found, tuple) else found).view(x.shape)
    mine = block(mine_x, Flow())
    torch.testing.assert_close(mine, wanted, rtol=1e-5, atol=1e-6 * float(wanted.detach().abs().max()))
    got = torch.autograd.grad((mine * cotangent).sum(), [mine_x, *block.parameters()], allow_unused=True)
    expected = torch.autograd.grad((wanted * cotangent).sum(), [their_x, *weights.values()], allow_unused=True)
    for name, a, b in zip(["x", *weights], got, expected, strict=True):
        if b is None:
            assert a is None, f"{name} has a gradient, and theirs has none"
            continue
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * float(b.abs().max()), msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize(
    ("name", "prefix", "renormalise"),
    [("mixtral", "Mixtral", True), ("qwen3_moe", "Qwen3Moe", True), ("olmoe", "Olmoe", False)],
)
def test_softmax_of_all(name: str, prefix: str, renormalise: bool):
    """Mixtral, Qwen3-MoE, OLMoE: softmax over all experts, the two best, renormalised or not."""
    theirs = family(name)
    made = config(f"{prefix}Config", intermediate_size=HIDDEN, moe_intermediate_size=HIDDEN, norm_topk_prob=renormalise)
    block = ours(router={"renormalise": renormalise})
    compare(
        block,
        getattr(theirs, f"{prefix}SparseMoeBlock")(made),
        lambda w: {"gate.weight": w["router"], **stacked_in_out(w)},
    )


def test_a_gated_shared_expert():
    """Qwen2-MoE: beside the chosen ones, a shared expert times sigmoid(w x)."""
    made = config("Qwen2MoeConfig", moe_intermediate_size=HIDDEN, shared_expert_intermediate_size=32)
    block = ours(router={"renormalise": False}, shared=[{"ffn": {"kind": "gated", "ratio": 2.0}, "gate": "sigmoid"}])
    compare(
        block,
        family("qwen2_moe").Qwen2MoeSparseMoeBlock(made),
        lambda w: {
            "gate.weight": w["router"],
            "shared_expert_gate.weight": w["shared_gate"],
            **stacked_in_out(w),
            **shared(w, "shared_expert"),
        },
    )


def test_groups_and_a_choice_bias():
    """DeepSeek-V3: sigmoid scores, a bias for the choice alone, groups by their two best, a scale, a shared expert."""
    made = config(
        "DeepseekV3Config", n_routed_experts=EXPERTS, moe_intermediate_size=HIDDEN, n_group=4, topk_group=2,
        n_shared_experts=1, routed_scaling_factor=2.5,
    )  # fmt: skip
    router = {"score": "sigmoid", "choice_bias": True, "groups": 4, "top_groups": 2, "eps": 1e-20, "scale": 2.5}
    compare(
        ours(router=router, shared=[{"ffn": ONE}]),
        family("deepseek_v3").DeepseekV3MoE(made),
        lambda w: {
            "gate.weight": w["router"],
            "gate.e_score_correction_bias": w["choice_bias"].detach(),
            **stacked_in_out(w),
            **shared(w, "shared_experts"),
        },
    )


def test_shares_on_inputs():
    """Llama 4: one expert, whose input is multiplied by sigmoid of its logit, beside a shared one."""
    made = config("Llama4TextConfig", intermediate_size=HIDDEN, num_experts_per_tok=1)
    router = {"score": "sigmoid", "renormalise": False}
    compare(
        ours(top=1, on="input", router=router, shared=[{"ffn": ONE}]),
        family("llama4").Llama4TextMoe(made),
        lambda w: {
            "router.weight": w["router"],
            "experts.gate_up_proj": torch.cat((w["routed.gate"], w["routed.up"]), 1).mT,
            "experts.down_proj": w["routed.down"].mT,
            **shared(w, "shared_expert"),
        },
    )


def test_identity_experts():
    """LongCat-Flash: further choices return their input; a bias for the choice, a scale, no renormalisation."""
    made = config(
        "LongcatFlashConfig", n_routed_experts=EXPERTS, zero_expert_num=4, expert_ffn_hidden_size=HIDDEN, moe_topk=3,
        routed_scaling_factor=1.5,
    )  # fmt: skip
    made.num_experts_per_tok, made.num_local_experts = 3, EXPERTS
    router = {"choice_bias": True, "renormalise": False, "scale": 1.5}

    def to_theirs(w: Weights) -> Weights:
        stacks = stacked_in_out(w)
        gate_up = stacks["experts.gate_up_proj"]  # theirs has rows for identity experts, which nothing reads
        stacks["experts.gate_up_proj"] = torch.cat((gate_up, gate_up[:4]))
        bias = w["choice_bias"].detach()
        return {"router.classifier.weight": w["router"], "router.e_score_correction_bias": bias, **stacks}

    compare(ours(top=3, identity=4, router=router), family("longcat_flash").LongcatFlashMoE(made), to_theirs)


def test_a_network_that_reads_the_router_before():
    """ZAYA1: narrow router vectors that pass on from layer to layer, a network on them, and a choice of nothing."""
    made = config("ZayaConfig", moe_intermediate_size=HIDDEN, num_experts_per_tok=1, router_hidden_size=12)
    theirs = [family("zaya").ZayaSparseMoeBlock(made, layer).double() for layer in (0, 1)]
    network = {"width": 12, "norm": {"kind": "rms", "eps": made.rms_norm_eps}, "to": "r"}
    plain = {"renormalise": False, "choice_bias": True}
    routers = [{**plain, "network": one} for one in (network, {**network, "from": "r"})]
    blocks = one_after_another(*({"top": 1, "skip": 1, "router": router} for router in routers))
    names = {"in": "down_proj", "hidden0": "router_mlp.fc1", "hidden1": "router_mlp.fc2"}
    inputs = torch.randn(2, 2, TIME, WIDTH, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    flow, earlier = Flow(), None
    mine: list[Tensor] = []
    wanted: list[Tensor] = []
    weights: list[Weights] = []
    for x, block, oracle in zip(inputs, blocks, theirs, strict=True):
        w = {name: p.detach().clone().requires_grad_() for name, p in block.named_parameters()}
        given = {f"gate.{their}.weight": w[f"network.{our}"] for our, their in names.items()}
        given |= {f"gate.{their}.bias": w[f"network.{our}_bias"] for our, their in names.items()}
        given |= {"gate.router_mlp.norm.weight": w["network.norm.gain"], "gate.router_mlp.out_proj.weight": w["router"]}
        given["gate.balancing_biases"] = w["choice_bias"].detach()
        if earlier is not None:
            given["gate.router_states_scale"] = w["network.earlier"]
        y, earlier = torch.func.functional_call(oracle, {**given, **stacked_in_out(w)}, (x, earlier))
        wanted.append(y)
        mine.append(block(x, flow))
        weights.append(w)
    torch.testing.assert_close(mine, wanted, rtol=1e-5, atol=1e-5)
    cotangent = torch.randn_like(wanted[1])
    sums = [(made[1] * cotangent).sum() for made in (mine, wanted)]
    parameters = [[*blocks[0].parameters(), *blocks[1].parameters()], [*weights[0].values(), *weights[1].values()]]
    got, expected = (
        torch.autograd.grad(total, own, allow_unused=True) for total, own in zip(sums, parameters, strict=True)
    )
    for name, a, b in zip([f"{i}.{name}" for i, w in enumerate(weights) for name in w], got, expected, strict=True):
        assert (a is None) == (b is None), name
        if a is not None and b is not None:
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * float(b.abs().max()), msg=name)
    assert any(gradient is not None for gradient in got[: len(weights[0])])


def test_biased_router_and_clipped_experts():
    """GPT-OSS: softmax over the chosen logits, biases on router and experts, a clipped gate beside up + 1."""
    made = config("GptOssConfig", intermediate_size=HIDDEN)
    of = {"kind": "gated", "hidden": HIDDEN, "bias": True, "act": {"kind": "clipped", "limit": 7.0}}

    def to_theirs(w: Weights) -> Weights:
        fused = torch.stack((w["routed.gate"], w["routed.up"]), 2).flatten(1, 2)  # gate and up take turns
        biases = torch.stack((w["routed.gate_bias"], w["routed.up_bias"]), 2).flatten(1)
        return {
            "router.weight": w["router"],
            "router.bias": w["router_bias"],
            "experts.gate_up_proj": fused.mT,
            "experts.gate_up_proj_bias": biases,
            "experts.down_proj": w["routed.down"].mT,
            "experts.down_proj_bias": w["routed.down_bias"],
        }

    compare(ours(of=of, router={"bias": True}), family("gpt_oss").GptOssMLP(made), to_theirs)


def test_the_balance_loss():
    """Mixtral's loss over all layers is ours times the number of choices."""
    router = {"renormalise": False, "balance": 0.5}
    block, x = ours(top=3, router=router), torch.randn(2, TIME, WIDTH, dtype=torch.float64)
    flow = Flow()
    block(x, flow)
    logits = x.flatten(0, 1) @ dict(block.named_parameters())["router"].T
    wanted = family("mixtral").load_balancing_loss_func((logits.detach(),), EXPERTS, 3)
    torch.testing.assert_close(flow.losses["balance"].float(), (wanted / 3 * 0.5).float(), rtol=1e-5, atol=1e-6)
