"""The feed-forwards that the contract suite runs over, with a set of options each."""

from __future__ import annotations

from typing import Any

ROUTED = {"kind": "experts", "count": 4, "of": {"kind": "gated", "ratio": 1.0}}
"""Experts that are small."""
ROOMY = {**ROUTED, "shared": [{"ffn": {"kind": "dense", "ratio": 0.5}}]}
"""A token that finds no room still meets a shared one."""

STATEFUL_FFNS: dict[str, dict[str, Any]] = {
    "experts, capacity": {**ROOMY, "router": {"capacity": 0.5, "renormalise": False}},
    "experts, capacity, input": {**ROOMY, "on": "input", "skip": 1, "router": {"capacity": 0.6, "score": "sigmoid"}},
    "experts choose": {**ROOMY, "router": {"choose": "each_expert"}},
    "dense, taps": {"kind": "dense", "hidden": 20, "taps": {"size": 3}},
    "gated, taps": {"kind": "gated", "hidden": 20, "act": "gelu", "bias": True, "taps": {"residual": False}},
    "channel mix": {"kind": "channel_mix", "ratio": 1.5},
    "channel mix without a gate": {"kind": "channel_mix", "hidden": 20, "gate": False},
    "experts choose less": {**ROOMY, "router": {"choose": "each_expert", "capacity": 0.5, "renormalise": False}},
}
"""Feed-forwards that look at earlier tokens: what holds for mixers holds for them."""

FFNS: dict[str, dict[str, Any]] = (
    {
        "structured": {"kind": "structured", "ratio": 1.5, "act": "silu", "gate": True},
        "structured, blocks": {"kind": "structured", "form": "blocks", "blocks": 2, "inner_norm": {"kind": "rms"}},
        "structured, kronecker": {"kind": "structured", "form": "kronecker", "hidden": 12, "bias": True},
        "structured, low rank": {"kind": "structured", "form": "low_rank", "rank": 3, "act": {"kind": "xielu"}},
        "structured, activated": {"kind": "structured", "gate": True, "blocks": 2, "factor_act": "silu"},
        "structured, both active": {"kind": "structured", "hidden": 16, "gate": True, "act": "relu", "up_act": "relu"},
        "gated, both active": {"kind": "gated", "hidden": 20, "act": {"kind": "clipped"}, "up_act": "tanh"},
        "kan": {"kind": "kan"},
        "kan of gaussians": {"kind": "kan", "hidden": 12, "basis": "gaussian", "act": "identity", "grid": 4},
        "experts of kan": {**ROUTED, "of": {"kind": "kan", "hidden": 4, "grid": 3, "degree": 2}},
        "experts": ROUTED,
        "experts of dense ones, biased": {**ROUTED, "of": {"kind": "dense", "ratio": 0.5, "bias": True, "act": "gelu"}},
        "experts, grouped": {
            **ROUTED,
            "count": 8,
            "router": {
                "score": "sigmoid",
                "choice_bias": True,
                "groups": 4,
                "top_groups": 2,
                "scale": 2.5,
                "eps": 1e-20,
                "bias": True,
                "z_loss": 0.1,
            },
        },
        "experts, shared": {**ROUTED, "shared": [{"gate": "sigmoid"}, {"ffn": {"kind": "dense"}}], "latent": 8},
        "experts, shared by score": {
            **ROUTED,
            "shared": [{"gate": "routed"}, {"gate": "sigmoid", "ffn": {"kind": "dense"}}, {"gate": "routed"}],
            "router": {"score": "sigmoid", "bias": True, "choice_bias": True},
        },
        "experts, idle": {**ROUTED, "top": 3, "identity": 2, "skip": 1, "router": {"soft_cap": 2.0}},
        "experts by a network": {
            **ROUTED,
            "top": 1,
            "router": {
                "renormalise": False,
                "network": {"width": 6, "norm": {"kind": "rms"}, "to": "routers"},
            },
        },
        "experts by a norm": {**ROUTED, "router": {"norm": {"kind": "layer"}, "network": {"width": 6}}},
        "experts by a narrow map": {**ROUTED, "router": {"network": {"width": 3, "depth": 0, "bias": False}}},
        "experts on inputs": {
            **ROUTED,
            "on": "input",
            "top": 1,
            "router": {"score": "sqrt_softplus", "renormalise": False},
        },
        "experts, constants": {
            **ROUTED,
            "top": 3,
            "identity": 1,
            "skip": 1,
            "constant": 2,
            "router": {"renormalise": False, "logits_to": "logits"},
        },
        "experts, constants of inputs": {**ROUTED, "top": 4, "constant": 2, "on": "input", "latent": 8},
        "experts up to a mass": {**ROUTED, "top": 4, "router": {"top_p": 0.6, "entropy": 0.1}},
        "experts as many as wanted": {**ROUTED, "top": 4, "router": {"score": "relu", "renormalise": False}},
        "dense, gains": {"kind": "dense", "hidden": 20, "gain": 2.0, "act": "gelu"},
        "gated, gains": {"kind": "gated", "hidden": 20, "gain": 4.0, "bias": True, "inner_norm": {"kind": "rms"}},
        "linear": {"kind": "linear"},
        "linear, normed, beside x": {"kind": "linear", "rank": 2, "norm": {"kind": "rms"}, "residual": True},
        "linear, activated": {"kind": "linear", "act": "relu2", "norm": {"kind": "rms"}, "residual": True},
        "linear, narrow, biased": {"kind": "linear", "rank": 3, "bias": True},
        "product keys": {"kind": "product_keys", "keys": 5, "heads": 2, "top": 3, "dim": 6},
        "product keys of neurons": {
            "kind": "product_keys",
            "keys": 3,
            "heads": 2,
            "top": 4,
            "dim": 4,
            "of": "neurons",
            "gate": True,
            "q_norm": {"kind": "rms"},
        },
        "token table": {"kind": "token_table", "channels": 6, "scale": 3.0},
        "experts by a table": {**ROUTED, "router": {"choose": "table", "score": "sqrt_softplus"}},
        "experts by a table alone": {**ROUTED, "top": 3, "router": {"choose": "table", "score": "alike"}},
        "experts by hash": {**ROUTED, "router": {"choose": "hash"}},
        "experts by hash alone": {**ROUTED, "top": 1, "router": {"choose": "hash", "score": "alike"}},
    }
    | {
        f"{kind} {act}{' bias' * bias}": {"kind": kind, "act": act, "bias": bias, "ratio": 1.5}
        for kind in ("dense", "gated")
        for act in ("relu", "relu2", "gelu", "silu")
        for bias in (False, True)
    }
    | {
        f"{kind} {act if isinstance(act, str) else act['kind']}": {
            "kind": kind,
            "act": act,
            "hidden": 11,
            "inner_norm": {"kind": "rms", "eps": 1e-3},
        }
        for kind in ("dense", "gated")
        for act in (
            "gelu_tanh",
            "gelu_quick",
            "sigmoid",
            "tanh",
            "softplus",
            "identity",
            {"kind": "clipped", "limit": 1.0, "slope": 1.7, "shift": 1.0},
            {"kind": "soft_capped", "gate": 1.0, "up": 2.0},
            {"kind": "top_gauss", "share": 0.3},
            {"kind": "xielu"},
            {"kind": "polynomial"},
            {"kind": "polynomial", "of": "relu", "order": 2},
            {"kind": "rational"},
            {"kind": "pointwise"},
            {"kind": "leaky_relu", "slope": 0.1, "learned": True},
            {"kind": "learned_silu"},
        )
    }
)
