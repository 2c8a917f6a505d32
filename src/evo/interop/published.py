"""Checkpoints as they are published: one tensor an expert, and older names; turned into those that families name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

SPARSE = ((".block_sparse_moe.", ".mlp."),)
GRANITE = (
    (".input_linear.weight", ".experts.gate_up_proj"),
    (".output_linear.weight", ".experts.down_proj"),
    (".router.layer.weight", ".router.weight"),
)
FORGETS = ("f_a_proj", "f_b_proj", "dt_bias", "A_log")
RENAMED: dict[str, tuple[tuple[str, str], ...]] = {
    **dict.fromkeys(("minimax", "minimax_m2", "mixtral"), SPARSE),
    "phimoe": (*SPARSE, (".mlp.gate.", ".mlp.router.")),
    "aria_text": (("experts.fc1.weight", "experts.gate_up_proj"), ("experts.fc2.weight", "experts.down_proj")),
    "axk1": (("layers.{i}.post_mlp_layernorm", "layers.{i}.mlp.post_mlp_layernorm"),),
    "ernie4_5_moe": ((".mlp.moe_statics.", ".mlp.gate.moe_statics."),),
    "exaone_moe": ((".mlp.e_score_correction_bias", ".mlp.gate.e_score_correction_bias"),),
    "flint": ((".softmax_offset", ".sinks"),),
    **dict.fromkeys(("granitemoe", "granitemoehybrid", "granitemoeshared", "granitemoe_swa"), tuple(
        (f"block_sparse_moe{old}", f"block_sparse_moe{new}") for old, new in GRANITE
    )),
    "hy_v3": (
        (".mlp.router.gate.", ".mlp.gate."),
        (".mlp.expert_bias", ".mlp.e_score_correction_bias"),
        (".mlp.shared_mlp.", ".mlp.shared_experts."),
    ),
    "hy_v4": (
        (".hc_pre.hc_", ".hc_"),
        (".hc_attn_layer.hc_", ".attn_hc."),
        (".hc_mlp_layer.hc_", ".ffn_hc."),
        (".hc_head_", ".hc_"),
        (".learnable_sink_param", ".sinks"),
        (".linear_gate.", ".gate_proj."),
    ),
    "kimi_linear": (*SPARSE, *((f".self_attn.{name}", f".self_attn.forget_gate.{name}") for name in FORGETS)),
    "kolibri1": (
        (".moe.router.expert_bias", ".mlp.gate.e_score_correction_bias"),
        (".post_attn_norm.", ".post_self_attn_layernorm."),
        (".post_ffn_norm.", ".post_mlp_layernorm."),
    ),
    "laguna": (
        (".mlp.experts.e_score_correction_bias", ".mlp.gate.e_score_correction_bias"),
        (".mlp.shared_expert.", ".mlp.shared_experts."),
    ),
    "lfm3": ((".self_attn.gate_proj.", ".self_attn.g_proj."),),
    "mimo_v2_flash": ((".attention_sink_bias", ".sinks"),),
    "nemotron_h": (("backbone.", "model."),),
    "olmo_hybrid": (
        (".attention_layer_norm.", ".input_layernorm."),
        (".feedforward_layer_norm.", ".post_attention_layernorm."),
    ),
}  # fmt: skip
"""By type, parts of names as they are published and as families have them; `{i}` is a layer's number."""
EXPERT = re.compile(r"(?P<at>.+\.experts)\.(?P<entry>\d+)\.(?P<map>gate_proj|up_proj|down_proj|w1|w2|w3)\.weight")
TAPS = re.compile(r"(?P<at>.+)\.(?P<map>[qkv])_conv1d\.weight")
ORDER = {"gate_proj": 0, "w1": 0, "up_proj": 1, "w3": 1, "q": 0, "k": 1, "v": 2}


@dataclass
class Published:
    """The tensors of a checkpoint under the names that families know, and which published ones each is made of.

    pieces: by name, the rows of published tensors in order; of a stack one list an entry, else one list.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    pieces: dict[str, list[list[str]]] = field(default_factory=dict[str, list[list[str]]])

    def back(self, tensors: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The published tensors that changed ones would be; `like`: the published ones before."""
        found: dict[str, Tensor] = {}
        for name, entries in self.pieces.items():
            is_stack = tensors[name].ndim > like[entries[0][0]].ndim
            for part, names in zip(tensors[name] if is_stack else [tensors[name]], entries, strict=True):
                rows = part.split([len(like[piece]) for piece in names]) if len(names) > 1 else (part,)
                found |= {piece: own.clone() for piece, own in zip(names, rows, strict=True)}
        return found


def published(tensors: Mapping[str, Tensor], kinds: Iterable[str]) -> Published:
    """A checkpoint under the names that families know; one that has them already stays as it is.

    kinds: the type, and that of the language model within it.
    """
    rules = [rule for kind in kinds for rule in RENAMED.get(kind, ())]
    found = Published()
    stacks: dict[str, dict[int, list[tuple[int, str]]]] = {}
    for name in tensors:
        ours = _renamed(name, rules)
        expert, taps = EXPERT.fullmatch(ours), TAPS.fullmatch(ours)
        if expert:
            at, entry, part = expert["at"], int(expert["entry"]), expert["map"]
            stacks.setdefault(_stack(at, part), {}).setdefault(entry, []).append((ORDER.get(part, 0), name))
        elif taps:
            stacks.setdefault(f"{taps['at']}.conv1d.weight", {}).setdefault(-1, []).append((ORDER[taps["map"]], name))
        else:
            found.tensors[ours], found.pieces[ours] = tensors[name], [[name]]
    _without_gates(stacks)
    for ours, entries in stacks.items():
        ordered = [[name for _, name in sorted(entries[entry])] for entry in sorted(entries)]
        rows = [torch.cat([tensors[name] for name in names]) for names in ordered]
        found.tensors[ours] = rows[0] if -1 in entries else torch.stack(rows)
        found.pieces[ours] = ordered
    return found


def _renamed(name: str, rules: Iterable[tuple[str, str]]) -> str:
    number = next((part for part in name.split(".") if part.isdigit()), "")
    for old, new in rules:
        name = name.replace(old.replace("{i}", number), new.replace("{i}", number))
    return name


def _stack(at: str, part: str) -> str:
    return f"{at}.{'down_proj' if part in ('down_proj', 'w2') else 'gate_up_proj'}"


def _without_gates(stacks: dict[str, dict[int, list[tuple[int, str]]]]) -> None:
    """Experts that are not gated have a stack of their own name."""
    for name in [name for name in stacks if name.endswith(".gate_up_proj")]:
        if all(len(parts) == 1 for parts in stacks[name].values()):
            stacks[name.replace(".gate_up_proj", ".up_proj")] = stacks.pop(name)
