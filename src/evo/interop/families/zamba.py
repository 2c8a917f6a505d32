"""Zamba: scans, and transformer blocks that return among them, on the stream beside the embedding."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from evo.interop.assemble import Layer, Model, Sub, stage_of
from evo.interop.attention import attention, projections, rope
from evo.interop.config import Config, refuse
from evo.interop.decoder import Staged, staged
from evo.interop.families.llama import AT
from evo.interop.families.scans import NONE, ssd
from evo.interop.parts import Data, Part, Source, View, Weights, gated, gated_fused, rms, rows, under

Mixer = Callable[[str], Part]


@dataclass(frozen=True)
class Uses:
    """The blocks that return, and what each of their uses has of its own.

    block: one of them. count: how many there are, which take turns. adapters: of the number of a use and of the layer
    that has its block first, the adapters, and their weights by our names.
    """

    block: Layer
    count: int = 1
    adapters: Callable[[int, int], Part] | None = None

    def stage(self, number: int, hybrids: list[int]) -> Staged:
        """The use of that number, before the layer of the same place in a list."""
        index, first = hybrids[number], hybrids[number % self.count]
        own = Part({}) if self.adapters is None else self.adapters(number, first)
        name, weights = f"block{index}", under(f"stages.block{index}.beside", own.weights)
        data: Data = {"name": name, **({"adapters": own.data} if own.data else {})}
        if index != first:
            return {**data, "weights_of": f"block{first}"}, {}, weights
        of, extra, inner = stage_of([self.block], "block" if own.data else name, [index])
        if not own.data:
            return of, extra, inner
        moved = {f"stages.{name}.of_{path.removeprefix('stages.')}": source for path, source in inner.items()}
        return {**data, "kind": "adapted", "of": of}, extra, {**moved, **weights}


def zamba(c: Config) -> Model:
    """Scans of several heads; one block."""
    at = f"{AT}.shared_transf"
    block = _block(c, at, gated(f"{at}.feed_forward", c.intermediate_size, c.hidden_act))
    stages = _stages(c, partial(_scan, c), Uses(block))
    return staged(c, stages, final=rms("model.final_layernorm", c.rms_norm_eps), position=NONE)


def zamba2(c: Config) -> Model:
    """Mamba-2's recurrence; blocks with low-rank maps of each use beside theirs."""
    if c.get("add_bias_linear", False):
        raise refuse(c, "a bias of all that a recurrence projects from its input")
    at = f"{AT}.shared_transformer"
    ffn = gated_fused(f"{at}.feed_forward", c.intermediate_size, c.hidden_act)
    uses = Uses(_block(c, at, ffn), c.num_mem_blocks, partial(_adapters, c))
    width, heads, state = c.mamba_expand * c.hidden_size, c.n_mamba_heads, c.mamba_d_state
    limits = [float(c.time_step_min), float("inf")]
    mixer = partial(_recurrence, heads, width // heads, c.mamba_ngroups, state, c.mamba_d_conv, limits)
    position = rope(c, c.attention_head_dim) if c.get("use_mem_rope", False) else NONE
    final = rms("model.final_layernorm", c.rms_norm_eps)
    return staged(c, _stages(c, mixer, uses), final=final, position=position)


def _stages(c: Config, mixer: Mixer, uses: Uses) -> list[Staged]:
    """Runs of scans, and before each hybrid layer a block and the map whose sum with the stream its scan reads."""
    hybrids = [index for index, kind in enumerate(c.layers_block_type) if kind == "hybrid"]
    stages, trunk, start = list[Staged](), "embedding", 0
    for number, end in enumerate([*hybrids, c.num_hidden_layers]):
        if start < end:
            trunk = f"scans{start}"
            stages.append(stage_of([_scan_layer(c, mixer) for _ in range(start, end)], trunk, range(start, end)))
        if number < len(hybrids):
            stages += [uses.stage(number, hybrids), _map(end), _hybrid(c, mixer, end, trunk)]
            trunk, start = f"hybrid{end}", end + 1
    return stages


def _scan_layer(c: Config, mixer: Mixer) -> Layer:
    return [Sub(mixer(f"{AT}.mamba"), pre=rms(f"{AT}.input_layernorm", c.rms_norm_eps))]


def _map(index: int) -> Staged:
    """What a use of the block gives, through a map."""
    part = Part({"kind": "linear"}, {"o": Source(f"{AT}.linear.weight")})
    return stage_of([[Sub(part, skip=0.0)]], f"map{index}", [index])


def _hybrid(c: Config, mixer: Mixer, index: int, trunk: str) -> Staged:
    """A scan of the stream and what that map gives, whose output is added to the stream alone."""
    scan = mixer(f"{AT}.mamba_decoder.mamba")
    norm = rms(f"{AT}.mamba_decoder.input_layernorm", c.rms_norm_eps)
    part = _joined(scan, norm, to=f"map{index}", by="sum")
    data, extra, weights = stage_of([[Sub(part)]], f"hybrid{index}", [index])
    return {**data, "from": trunk}, extra, weights


def _joined(block: Part, norm: Part, **data: str) -> Part:
    weights = {**under("main", block.weights), **under("norm", norm.weights)}
    return Part({"joined": block.data, **data, "norm": norm.data}, weights)


def _block(c: Config, at: str, ffn: Part) -> Layer:
    """Attention to the stream beside the embedding, then a feed-forward, with no stream of their own."""
    mixer = attention(
        c.num_attention_heads,
        kv_heads=c.num_key_value_heads,
        head_dim=c.attention_head_dim,
        width=2 * c.hidden_size,
        scale=(c.attention_head_dim / 2) ** -0.5,
        weights=projections(f"{at}.self_attn"),
    )
    first = _joined(mixer, rms(f"{at}.input_layernorm", c.rms_norm_eps))
    return [Sub(first, skip=0.0), Sub(ffn, pre=rms(f"{at}.pre_ff_layernorm", c.rms_norm_eps), skip=0.0)]


def _adapters(c: Config, number: int, index: int) -> Part:
    """The low-rank maps of one use, in the layer that has its block; gate and up have one lower map between them."""
    at, size = f"model.layers.{index}.shared_transformer", c.intermediate_size
    ffn = f"{at}.feed_forward.gate_up_proj_adapter_list.{number}"
    weights: Weights = {}
    for name, start in (("gate", 0), ("up", size)):
        weights[f"0.1.{name}.down"] = Source(f"{ffn}.0.weight")
        weights[f"0.1.{name}.up"] = Source(f"{ffn}.1.weight", rows(start, size))
    asked = "qkv" if c.get("use_shared_attention_adapter", False) else ""
    for name in asked:
        own = f"{at}.self_attn.linear_{name}_adapter_list.{number}"
        weights[f"0.0.main.{name}.down"] = Source(f"{own}.0.weight")
        weights[f"0.0.main.{name}.up"] = Source(f"{own}.1.weight")
    rank = c.adapter_rank
    return Part({"kind": "lora", "on": [*asked, "gate", "up"], "rank": rank, "alpha": float(rank)}, weights)


def _recurrence(heads: int, dim: int, groups: int, state: int, conv: int, limits: list[float], at: str) -> Part:
    return ssd(at, heads, dim, groups, state, conv, 1e-5, limits)


def _scan(c: Config, at: str) -> Part:
    """A selective scan whose heads have maps of their own; rows of what is scanned and of its gate take turns."""
    inner, rank, state = c.mamba_expand * c.hidden_size, c.mamba_dt_rank, c.mamba_d_state
    x, gate = (_every_other(start) for start in (0, 1))
    weights: Weights = {
        "x": Source(f"{at}.in_proj.weight", x),
        "gate": Source(f"{at}.in_proj.weight", gate),
        **{name: Source(f"{at}.x_proj_weight", view) for name, view in _cut(step_down=rank, b=state, c=state).items()},
        "step_up": Source(f"{at}.dt_proj_weight"),
        "step_bias": Source(f"{at}.dt_proj_bias"),
        "decay_rate": Source(f"{at}.A_log"),
        "skip": Source(f"{at}.D"),
        "taps": Source(f"{at}.conv1d.weight"),
        "o": Source(f"{at}.out_proj.weight"),
    }
    data: Data = {"kind": "selective_scan", "inner": inner, "state": state, "rank": rank, "conv": c.mamba_d_conv}
    if c.n_mamba_heads > 1:
        data["heads"] = c.n_mamba_heads
    if c.mamba_conv_bias:
        weights["taps_bias"] = Source(f"{at}.conv1d.bias")
    else:
        data["conv_bias"] = False
    if c.mamba_proj_bias:
        data["bias"] = True
        weights |= {f"{name}_bias": Source(f"{at}.in_proj.bias", view) for name, view in (("x", x), ("gate", gate))}
        weights["o_bias"] = Source(f"{at}.out_proj.bias")
    return Part(data, weights)


def _every_other(start: int) -> View:
    return lambda tensor: tensor[start::2]


def _cut(**sizes: int) -> dict[str, View]:
    """Rows of each head's map, one part after another."""
    found: dict[str, View] = {}
    start = 0
    for name, size in sizes.items():
        found[name] = lambda tensor, start=start, end=start + size: tensor[:, start:end]
        start += size
    return found
