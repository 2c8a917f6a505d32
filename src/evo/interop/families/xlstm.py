"""xLSTM of 7B: matrix memories and gated feed-forwards."""

from evo.interop.assemble import Model, Sub
from evo.interop.config import Config, refuse
from evo.interop.decoder import decoder
from evo.interop.families.scans import NONE
from evo.interop.parts import Data, Part, Source, Weights, act_of, ffn, linear, rms, rows

BLOCK = "backbone.blocks.{i}"
GATES = {"input_gate": "igate_preact", "forget_gate": "fgate_preact"}


def xlstm(c: Config) -> Model:
    """Weights map by map, or several in one."""
    if c.get("use_bias", False):
        raise refuse(c, "RMS norms with a bias")
    is_fused = c.weight_mode == "fused"
    layers = [
        [
            Sub(_memory(c, is_fused), pre=rms(f"{BLOCK}.norm_mlstm", c.norm_eps)),
            Sub(_ffn(c, is_fused), pre=rms(f"{BLOCK}.norm_ffn", c.norm_eps)),
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


def _memory(c: Config, is_fused: bool) -> Part:
    at, heads = f"{BLOCK}.mlstm_layer", c.num_heads
    keys, values = int(c.hidden_size * c.qk_dim_factor), int(c.hidden_size * c.v_dim_factor)
    weights: Weights = {"norm_gain": Source(f"{at}.multihead_norm.weight"), **linear("o", f"{at}.out_proj")}
    start = 0
    for ours, theirs, size in (
        ("q", "q", keys),
        ("k", "k", keys),
        ("v", "v", values),
        ("gate", "ogate_preact", values),
    ):
        whole = linear(ours, f"{at}.{theirs}")
        weights |= linear(ours, f"{at}.qkv_opreact", rows(start, size)) if is_fused else whole
        start += size
    for index, (ours, theirs) in enumerate(GATES.items()):
        half = rows(index * heads, heads)
        whole = linear(ours, f"{at}.{theirs}", bias=True)
        weights |= linear(ours, f"{at}.ifgate_preact", half, bias=True) if is_fused else whole
    data: Data = {
        "kind": "mlstm",
        "heads": heads,
        "key_dim": keys // heads,
        "value_dim": values // heads,
        "cap": float(c.gate_soft_cap),
        "eps": c.norm_eps,
    }
    return Part(data, weights)


def _ffn(c: Config, is_fused: bool) -> Part:
    at, step = f"{BLOCK}.ffn", c.ffn_round_up_to_multiple_of
    hidden = int((c.hidden_size * c.ffn_proj_factor + step - 1) // step * step)
    gate, up = linear("gate", f"{at}.proj_up_gate"), linear("up", f"{at}.proj_up")
    if is_fused:
        both = f"{at}.proj_up_gate_z"
        gate, up = linear("gate", both, rows(0, hidden)), linear("up", both, rows(hidden, hidden))
    data: Data = {"kind": "gated", "hidden": hidden, "act": act_of("silu")}
    return ffn(data, {**gate, **up, **linear("down", f"{at}.proj_down")})
