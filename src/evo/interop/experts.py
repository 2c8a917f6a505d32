"""Experts as configurations and checkpoints have them: stacks of gate-and-up matrices, a router, shared ones."""

from __future__ import annotations

from typing import Any

from evo.interop.parts import Data, Part, Source, View, Weights, act_of, under


def stacks(theirs: str, hidden: int, *, is_transposed: bool = False, alternating: bool = False) -> Weights:
    """gate and up of all experts in one tensor (E, 2 F, D), and down (E, D, F).

    is_transposed: inputs come first. alternating: gate and up take turns row by row.
    """

    def turned(view: View) -> View:
        return (lambda tensor: view(tensor.transpose(-1, -2))) if is_transposed else view

    def half(index: int) -> View:
        if alternating:
            return lambda tensor: tensor[:, index::2]
        return lambda tensor: tensor[:, index * hidden : (index + 1) * hidden]

    return {
        "routed.gate": Source(f"{theirs}.gate_up_proj", turned(half(0))),
        "routed.up": Source(f"{theirs}.gate_up_proj", turned(half(1))),
        "routed.down": Source(f"{theirs}.down_proj", turned(lambda tensor: tensor)),
    }


def experts(
    theirs: str,
    *,
    count: int,
    top: int,
    hidden: int,
    act: Any = "silu",
    router: Data,
    gate: str = "gate.weight",
    choice_bias: str = "gate.e_score_correction_bias",
    weights: Weights | None = None,
    shared: Part | None = None,
    shared_gate: str | None = None,
    of: Data | None = None,
    **data: Any,
) -> Part:
    """Experts of one gated feed-forward each. gate, choice_bias: the router's tensors below `theirs`."""
    found: Data = {
        "kind": "experts",
        "of": of or {"kind": "gated", "hidden": hidden, "act": act_of(act)},
        "count": count,
        "top": top,
        "router": {"balance": 0.0, **router} if not router.get("choice_bias") else router,
        **data,
    }
    where = {**(weights or stacks(f"{theirs}.experts", hidden)), "router": Source(f"{theirs}.{gate}")}
    if router.get("choice_bias"):
        where["choice_bias"] = Source(f"{theirs}.{choice_bias}")
    if shared is not None:
        found["shared"] = [{"ffn": shared.data, **({"gate": "sigmoid"} if shared_gate else {})}]
        where |= under("shared0", shared.weights)
        if shared_gate:
            where["shared_gate"] = Source(f"{theirs}.{shared_gate}")
    return Part(found, where)
