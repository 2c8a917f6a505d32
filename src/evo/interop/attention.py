"""Attention and positions as configurations say them."""

from __future__ import annotations

from typing import Any

from evo.interop.config import Config, refuse
from evo.interop.parts import Data, Part, Source, View, Weights, linear, rows, under, whole

NO_POSITION: Data = {"kind": "none"}


def rope(config: Config, head_dim: int, parameters: Any = None, *, pairs: str = "halves") -> Data:
    """The rotation that `rope_parameters` (or the older `rope_theta` and `rope_scaling`) says."""
    said = parameters if parameters is not None else (config.get("rope_parameters") or {})
    said = {**(config.get("rope_scaling") or {}), **said}
    theta = said.get("rope_theta", config.get("rope_theta", 10000.0))
    kind = said.get("rope_type", said.get("type", "default"))
    share = said.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0))
    data: Data = {"kind": "rope", "theta": float(theta)}
    if pairs != "halves":
        data["pairs"] = pairs
    if kind != "proportional" and int(head_dim * share) != head_dim:
        data["dims"] = int(head_dim * share)
    if kind not in ("default", "dynamic"):  # the dynamic one is none within the context that was trained on
        data["scaling"] = _scaling(config, kind, said)
    return data


def _scaling(config: Config, kind: str, said: Data) -> Data:
    original = said.get("original_max_position_embeddings", config.get("original_max_position_embeddings"))
    factor = float(said.get("factor", 1.0))
    if kind == "linear":
        return {"kind": "linear", "factor": factor}
    if kind == "llama3":
        low, high = float(said["low_freq_factor"]), float(said["high_freq_factor"])
        return {"kind": "llama3", "factor": factor, "original": original, "low": low, "high": high}
    if kind == "yarn":
        return _yarn(config, said, factor, original)
    if kind == "proportional":
        return {"kind": "proportional", "share": float(said.get("partial_rotary_factor", 1.0)), "factor": factor}
    if kind == "longrope":
        return _longrope(config, said, original)
    raise refuse(config, f"rope scaling '{kind}'")


def _yarn(config: Config, said: Data, factor: float, original: Any) -> Data:
    data: Data = {"kind": "yarn", "factor": factor, "original": original or config.max_position_embeddings}
    for theirs, ours, default in (("beta_fast", "beta_fast", 32.0), ("beta_slow", "beta_slow", 1.0)):
        if said.get(theirs) not in (None, default):
            data[ours] = float(said[theirs])
    if said.get("truncate") is False:
        data["truncate"] = False
    amplitude = said.get("attention_factor")
    if amplitude is None and said.get("mscale") and said.get("mscale_all_dim"):
        amplitude = mscale(factor, said["mscale"]) / mscale(factor, said["mscale_all_dim"])
    if amplitude is not None:
        data["warmth"] = float(amplitude)
    return data


def mscale(factor: float, scale: float) -> float:
    """YaRN's magnitude."""
    import math

    return 1.0 if factor <= 1 else 0.1 * scale * math.log(factor) + 1.0


def _longrope(config: Config, said: Data, original: Any) -> Data:
    import math

    original = original or config.max_position_embeddings
    length = config.max_position_embeddings
    factor = said.get("factor") or length / original
    amplitude = said.get("attention_factor")
    if amplitude is None:
        amplitude = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
    which = "long_factor" if length > original else "short_factor"
    return {"kind": "longrope", "factors": [float(x) for x in said[which]], "warmth": float(amplitude)}


def attention(
    heads: int,
    *,
    kv_heads: int | None = None,
    head_dim: int,
    width: int,
    window: int | None = None,
    norm: Part | None = None,
    norms: tuple[Part, ...] | None = None,
    weights: Weights,
    **options: Any,
) -> Part:
    """Attention with what is default left out. norms: of q and k, with the same data, and the weights of each."""
    data: Data = {"kind": "attention", "heads": heads}
    if kv_heads is not None and kv_heads != heads:
        data["kv_heads"] = kv_heads
    if head_dim * heads != width:
        data["head_dim"] = head_dim
    if window is not None:
        data["stencil"] = {"kind": "window", "size": window}
    if norms is not None:
        data["qk_norm"] = norms[0].data
        weights = {**weights, **under("q_norm", norms[0].weights), **under("k_norm", norms[1].weights)}
    for name, part in (("v_norm", options.pop("v_norm", None)), ("inner_norm", options.pop("inner_norm", None))):
        if part is not None:
            data[name] = part.data
            weights = {**weights, **under(name, part.weights)}
    data |= {key: value for key, value in options.items() if value not in (None, False, ())}
    return Part(data, weights)


def projections(
    theirs: str,
    names: tuple[str, str, str, str] = ("q_proj", "k_proj", "v_proj", "o_proj"),
    *,
    biased: str = "",
    view: View = whole,
    out: str | None = None,
) -> Weights:
    """q, k, v, o as four maps. biased: the ones of them, as letters, that have a bias."""
    weights: Weights = {}
    for ours, name in zip("qkvo", names, strict=True):
        where = out if ours == "o" and out else f"{theirs}.{name}"
        weights |= linear(ours, where, view, ours in biased)
    return weights


def fused(theirs: str, sizes: dict[str, int], *, bias: bool = False, view: View = whole) -> Weights:
    """q, k, v one above the other in one matrix."""
    weights: Weights = {}
    start = 0
    for ours, size in sizes.items():
        part = rows(start, size)
        weights[ours] = Source(f"{theirs}.weight", lambda tensor, part=part: part(view(tensor)))
        if bias:
            weights[f"{ours}_bias"] = Source(f"{theirs}.bias", part)
        start += size
    return weights


def biases(letters: str) -> bool | list[str]:
    """How a bias on some projections is written."""
    return bool(letters) if letters in ("", "qkvo") else [letter for letter in "qkvo" if letter in letters]
