"""The weights of attention, in order."""

from __future__ import annotations

from collections.abc import Mapping

from evo.blocks.attention.fields import AttentionFields
from evo.dsl.plan import ONES, ZEROS, Init, Weight, linear, table, vector
from evo.dsl.spec import Scope

KEEP = Init("constant", 4.0)
"""The logit of a forget gate at first: 0.98 a token."""


def attention_weights(
    spec: AttentionFields, scope: Scope, sizes: Mapping[str, tuple[int, int]], dims: tuple[int, int, int]
) -> tuple[Weight, ...]:
    """sizes: the output and input width of each projection. dims: key heads, and widths of their keys and values."""
    groups, dim, values = dims
    weights: list[Weight] = []
    for name, (out, into) in sizes.items():
        gain = scope.residual_gain if name == "o" else 1.0
        weights.append(linear(name, out, into, gain, writes_residual=name == "o"))
    if spec.low_rank is not None:
        weights += spec.low_rank.weights(scope.width, spec.speaking * values)
    weights += spec.factors.weights(scope.width, spec.heads, groups) if spec.factors is not None else []
    biased = tuple(sizes) if spec.bias is True else spec.bias or ()
    with_bias = [name for name in sizes if name.removesuffix("_late").removesuffix("_shared") in biased]
    weights += [vector(f"{name}_bias", sizes[name][0], ZEROS) for name in with_bias]
    if spec.head_experts is not None:
        weights = [spec.head_experts.stack(w) if w.name in ("q", "q_bias", "o") else w for w in weights]
    if spec.head_maps is not None:
        heads = {"v": groups, "o": spec.heads}
        weights = [spec.head_maps.stacked(w, heads[w.name]) if w.name in spec.head_maps.on else w for w in weights]
        weights += spec.head_maps.routers(scope.width, heads)
    weights += [vector("gate_heads_bias", spec.speaking, ZEROS)] if "gate_heads" in biased else []
    if spec.persistent:
        for name, width in (("k", dim), ("v", values)):
            weights.append(table(f"persistent_{name}", spec.persistent, groups * width, width**-0.5))
    if spec.taps is not None:
        weights += spec.taps.weights({"q": (spec.heads, dim), "k": (groups, dim), "v": (groups, values)}, sizes)
    weights += [vector("key_gain", groups, ONES)] if spec.key_gain and spec.kv_from is None else []
    heard = spec.speaking if spec.differ is None else spec.differing
    weights += [vector("head_gain", heard, ONES)] if spec.head_gain else []
    weights += spec.head_shares.weights(scope.width) if spec.head_shares is not None else []
    weights += spec.mix_scores.weights(scope.width, spec.heads) if spec.mix_scores is not None else []
    if spec.values_from is not None and spec.kv_from is None:
        weights.append(vector("value_mix", 2, Init("constant", 0.5)))
    if spec.forget:
        weights += [linear("forget", spec.heads, scope.width), vector("forget_bias", spec.heads, KEEP)]
    if spec.sink_logit:
        weights.append(vector("sink_logit", spec.heads, ZEROS))
    if spec.differ is not None:
        weights += [vector(f"lambda_{name}", dim, Init("normal", 0.1)) for name in ("q1", "k1", "q2", "k2")]
    weights += [linear("less", spec.speaking, scope.width)] if spec.subtract else []
    return tuple(weights)
