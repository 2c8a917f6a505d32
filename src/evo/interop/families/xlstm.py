"""xLSTM of 7B: matrix memories and gated feed-forwards."""

from evo.interop.assemble import Model, Sub
from evo.interop.config import Config
from evo.interop.decoder import decoder
from evo.interop.families.scans import NONE
from evo.interop.parts import Data, Part, Source, Weights, act_of, ffn, linear, rms, rows, whole

BLOCK = "backbone.blocks.{i}"


def xlstm(c: Config) -> Model:
    """Weights map by map, or several in one."""
    is_fused = c.weight_mode == "fused"
    layers = [
        [
            Sub(_memory(c, is_fused), pre=_norm(c, f"{BLOCK}.norm_mlstm")),
            Sub(_ffn(c, is_fused), pre=_norm(c, f"{BLOCK}.norm_ffn")),
        ]
        for _ in range(c.num_hidden_layers)
    ]
    return decoder(
        c,
        layers,
        final=rms("backbone.out_norm", c.norm_eps),
        position=NONE,
        tokens="backbone.embeddings.weight",
        context=c.get("max_position_embeddings", 2048),
        readout=Part({"soft_cap": float(c.output_logit_soft_cap)}),
    )


def _norm(c: Config, name: str) -> Part:
    plain = rms(name, c.norm_eps)
    if not c.get("use_bias", False):
        return plain
    return Part({**plain.data, "bias": True}, {**plain.weights, "bias": Source(f"{name}.bias")})


def _maps(at: str, fused: str | None, sizes: dict[str, tuple[str, int]], *, bias: bool) -> Weights:
    """Maps by our names, each with its own name there and its size; or all of them one above the other in `fused`."""
    weights: Weights = {}
    start = 0
    for ours, (theirs, size) in sizes.items():
        name, view = (theirs, whole) if fused is None else (fused, rows(start, size))
        weights |= linear(ours, f"{at}.{name}", view, bias)
        start += size
    return weights


def _memory(c: Config, is_fused: bool) -> Part:
    at, heads, has_bias = f"{BLOCK}.mlstm_layer", c.num_heads, bool(c.get("use_bias", False))
    keys, values = int(c.hidden_size * c.qk_dim_factor), int(c.hidden_size * c.v_dim_factor)
    sizes = {"q": ("q", keys), "k": ("k", keys), "v": ("v", values), "gate": ("ogate_preact", values)}
    gates = {"input_gate": ("igate_preact", heads), "forget_gate": ("fgate_preact", heads)}
    weights: Weights = {
        **_maps(at, "qkv_opreact" if is_fused else None, sizes, bias=has_bias),
        **_maps(at, "ifgate_preact" if is_fused else None, gates, bias=True),
        **linear("o", f"{at}.out_proj", bias=has_bias),
        "norm_gain": Source(f"{at}.multihead_norm.weight"),
    }
    data: Data = {
        "kind": "mlstm",
        "heads": heads,
        "key_dim": keys // heads,
        "value_dim": values // heads,
        "cap": float(c.gate_soft_cap),
        "eps": c.norm_eps,
    }
    if has_bias:
        data["bias"] = True
        weights["norm_bias"] = Source(f"{at}.multihead_norm.bias")
    return Part(data, weights)


def _ffn(c: Config, is_fused: bool) -> Part:
    at, step, has_bias = f"{BLOCK}.ffn", c.ffn_round_up_to_multiple_of, bool(c.get("use_bias", False))
    hidden = int((c.hidden_size * c.ffn_proj_factor + step - 1) // step * step)
    sizes = {"gate": ("proj_up_gate", hidden), "up": ("proj_up", hidden)}
    weights = _maps(at, "proj_up_gate_z" if is_fused else None, sizes, bias=has_bias)
    data: Data = {"kind": "gated", "hidden": hidden, "act": act_of("silu"), "bias": has_bias}
    return ffn(data, {**weights, **linear("down", f"{at}.proj_down", bias=has_bias)})
