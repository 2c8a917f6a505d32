"""Tiny random models of transformers' types, with every weight and buffer large, and their organisms."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from evo.compiler.build import build
from evo.compiler.check import problems
from evo.compiler.organism import Organism
from evo.compiler.resolve import resolve
from evo.dsl.document import Document, from_data
from evo.interop.assemble import Model
from evo.interop.config import Config
from evo.interop.families import read
from evo.interop.weights import take

COMMON: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 44,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "sliding_window": 7,
    "n_embd": 32,
    "n_layer": 3,
    "n_head": 4,
    "n_positions": 64,
    "n_ctx": 64,
    "d_model": 32,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
"""Settings that a tiny configuration has where the type knows them and its default is not null."""
SPARSE: dict[str, Any] = {
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 6),
    **dict.fromkeys(("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k"), 2),
    "moe_intermediate_size": 20,
    "shared_expert_intermediate_size": 12,
    "shared_intermediate_size": 12,
    "n_group": 3,
    "topk_group": 2,
    "first_k_dense_replace": 1,
    "num_dense_layers": 1,
    "kv_lora_rank": 12,
    "q_lora_rank": 16,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 8,
    "v_head_dim": 6,
}
"""The same for experts and latents."""
BERT = {"is_decoder": True, "max_position_embeddings": 40}
BART = {
    "is_decoder": True, "is_encoder_decoder": False, "decoder_layers": 3, "decoder_attention_heads": 4,
    "decoder_ffn_dim": 44, "encoder_layers": 1, "encoder_attention_heads": 4, "encoder_ffn_dim": 44,
}  # fmt: skip
DELTA = {
    "num_hidden_layers": 4, "linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 6,
    "linear_value_head_dim": 8,
}  # fmt: skip
OWN: dict[str, dict[str, Any]] = {
    "llama4_text": {
        "num_hidden_layers": 4, "attention_chunk_size": 7, "floor_scale": 5, "moe_layers": [1, 3], "head_dim": 8,
        "intermediate_size_mlp": 36, "no_rope_layers": [1, 1, 1, 0],
    },
    "granitemoe_swa": {"num_hidden_layers": 4},
    "granitemoehybrid": {
        "layer_types": ["mamba", "attention", "mamba"], "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_n_groups": 1,
        "mamba_d_state": 6, "mamba_expand": 2,
    },
    **{key: {"num_hidden_layers": 5} for key in ("smollm3", "cohere2", "exaone4", "olmo3", "cwm", "granite_swa")},
    "gemma3_text": {"num_hidden_layers": 7},
    "ministral": {"head_dim": 8},
    "hunyuan_v1_dense": {"head_dim": 8},
    "nemotron": {"head_dim": 8, "num_key_value_heads": 2},
    "gpt_neo": {"num_layers": 4, "num_heads": 4, "attention_types": [[["global", "local"], 2]], "window_size": 7},
    "gptj": {"rotary_dim": 4},
    **{key: {"head_dim": 4} for key in ("deepseek_v3", "youtu")},
    "deepseek_v2": {"num_experts_per_tok": 2, "first_k_dense_replace": 1, "head_dim": 4},
    **{key: {"state_size": 4, "intermediate_size": 64, "expand": 2} for key in ("mamba", "falcon_mamba")},
    "mamba2": {"num_heads": 4, "head_dim": 16, "state_size": 6, "n_groups": 2, "chunk_size": 8},
    "rwkv": {"attention_hidden_size": 32},
    "recurrent_gemma": {"lru_width": 32, "attention_window_size": 7, "num_hidden_layers": 4},
    "jamba": {
        "mamba_d_state": 4, "mamba_dt_rank": 5, "num_hidden_layers": 4, "attn_layer_period": 4, "attn_layer_offset": 2,
    },
    "bamba": {
        "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_n_groups": 2, "mamba_d_state": 6, "mamba_chunk_size": 8,
        "attn_layer_indices": [1],
    },
    "olmo_hybrid": {"num_hidden_layers": 4, "linear_key_head_dim": 6, "linear_value_head_dim": 10},
    "nemotron_h": {
        "mamba_num_heads": 4, "mamba_head_dim": 16, "n_groups": 2, "ssm_state_size": 6, "use_mamba_kernels": False,
        "moe_shared_expert_intermediate_size": 12,
    },
    **dict.fromkeys(("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text"), DELTA),
    "moshi": {"sliding_window": 3000, "ffn_dim": 44},
    "lfm2": {"num_hidden_layers": 4, "layer_types": ["conv", "conv", "full_attention", "conv"]},
    "modernbert-decoder": {"local_attention": 14},
    "laguna": {"num_attention_heads_per_layer": None},
    "diffllama": {"head_dim": 8},
    **{key: {"num_hidden_layers": 5} for key in ("afmoe", "exaone_moe", "mellum")},
    "granitemoeshared": {"shared_intermediate_size": 12},
    "hunyuan_v1_moe": {"head_dim": 8, "moe_intermediate_size": 20, "moe_topk": 2},
    "dots1": {"n_routed_experts": 6, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "solar_open": {"n_group": 1, "topk_group": 1},
    "codegen": {"rotary_dim": 4},
    "mpt": {"n_heads": 12, "d_model": 48, "n_layers": 3, "max_seq_len": 64},
    "bloom": {"n_head": 12, "hidden_size": 48},
    "falcon": {"ffn_hidden_size": 44, "bias": True},
    "starcoder2": {"sliding_window": 7},
    "opt": {"ffn_dim": 44, "word_embed_proj_dim": 32},
    "xglm": {"num_layers": 3, "attention_heads": 4, "ffn_dim": 44},
    "whisper": {**BART, "max_target_positions": 64},
    "marian": {**BART, "decoder_vocab_size": 300},
    **dict.fromkeys(("bart", "mvp", "plbart", "trocr", "blenderbot-small"), BART),
    **dict.fromkeys(("mbart", "blenderbot", "pegasus"), BART),
    **dict.fromkeys(
        (
            "bert", "bert-generation", "camembert", "data2vec-text", "ernie", "megatron-bert", "roberta",
            "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl",
        ),
        BERT,
    ),
    "electra": {**BERT, "embedding_size": 32},
    "big_bird": {**BERT, "attention_type": "original_full", "use_bias": True},
    "roformer": {**BERT, "embedding_size": 32},
}  # fmt: skip
"""Settings of single types."""


SHORT = {"qwen3_next": 14}
"""Tokens of types whose float32 arithmetic inside adds up too much noise over more."""
SINGLE = ("xglm",)
"""Types that fail in float64."""
FORMULAS = {"roformer": "embed_positions"}
"""Weights that follow from a formula."""


def tiny_config(kind: str) -> Any:
    """A tiny configuration of transformers."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    cls: Any = CONFIG_MAPPING[kind]
    default = cls()
    known = default.to_dict()
    settings = {key: value for key, value in COMMON.items() if known.get(key) is not None}
    if known.get("num_key_value_heads") == known.get("num_attention_heads"):
        settings.pop("num_key_value_heads", None)
        if "num_key_value_heads" in known:
            settings["num_key_value_heads"] = 4
    for key in ("head_dim",):
        if known.get(key) is None or (settings.get("num_attention_heads") and "head_dim" not in cls.__annotations__):
            settings.pop(key, None) if known.get(key) is None else None
    settings |= {key: None for key in ("layer_types", "mlp_layer_types", "no_rope_layers") if key in known}
    settings |= {key: value for key, value in SPARSE.items() if known.get(key) is not None}
    settings |= OWN.get(kind, {})
    return cls(**settings, attn_implementation="eager")


def tiny_model(kind: str) -> Any:
    """A model of that type in float64 with every weight and buffer large."""
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    cls = getattr(transformers, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[kind])
    _without_kernels(sys.modules[cls.__module__])
    torch.manual_seed(0)
    config = tiny_config(kind)
    config._experts_implementation = "eager"
    model = cls(config).eval()
    model = model if kind in SINGLE else model.double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *_buffers(model)]:
            if kind in FORMULAS and FORMULAS[kind] in name:
                continue
            tensor.copy_(_large(name, tensor, generator))
    return model


def _without_kernels(module: Any) -> None:
    """Take the plain forms of what would run on an installed package's kernels."""
    for name, function in list(vars(module).items()):
        if name.startswith(("torch_", "causal_conv1d")) and hasattr(function, "__wrapped__"):
            setattr(module, name, function.__wrapped__)


def _buffers(model: nn.Module) -> list[tuple[str, torch.Tensor]]:
    """Buffers that checkpoints hold."""
    kept = model.state_dict().keys()
    found = [(name, buffer) for name, buffer in model.named_buffers() if name in kept and buffer.is_floating_point()]
    return [(name, buffer) for name, buffer in found if buffer.ndim]  # the others are constants of a formula


def _large(name: str, tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
    if tensor.ndim >= 2 and "embed" not in name and "wte" not in name:
        return noise * 1.5 / tensor.shape[-1] ** 0.5
    return noise * 0.5 + (1.0 if "norm" in name.lower() and not name.endswith("bias") else 0.0)


@dataclass
class Twin:
    """Both sides of one type."""

    kind: str
    theirs: Any
    model: Model
    document: Document
    ours: Organism

    @property
    def lines(self) -> int:
        """Lines of the document."""
        from evo.dsl.canonical import to_yaml

        return len(to_yaml(self.document).splitlines())


def twin(kind: str) -> Twin:
    """A type's tiny model, and the organism that its configuration and checkpoint are imported as."""
    theirs = tiny_model(kind)
    config = Config(json.loads(theirs.config.to_json_string(use_diff=False)))
    model = read(config)
    document = from_data({"evo": 1, "organism": model.organism}).document
    faults = [fault for fault in problems(document) if fault.severity == "error"]
    assert not faults, faults
    unused = unused_tensors(theirs, model)
    assert not unused, f"unused: {unused[:6]}"
    plan = resolve(document.organism)
    weights = take(plan, model.weights, dict(theirs.state_dict()))
    ours = build(plan, 0).double()
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            parameter.copy_(weights[name])
    return Twin(kind, theirs, model, document, ours)


IDLE = (
    "pooler",
    "encoder_attn",
    "token_type_embeddings",
    "embed_positions",
    "rotary_emb",
    "sinusoidal",
    "embed_out",
    "lm_head",
)
"""Parts of names that a decoder alone, with tied weights, has no use for."""


def unused_tensors(theirs: Any, model: Model) -> list[str]:
    """Tensors of a model that no weight of the organism is taken from."""
    used = {name for source in model.weights.values() for name in source.name.split("|")}
    used |= {name for source in model.weights.values() for name, _ in source.plus}
    shared = {tensor.data_ptr() for name, tensor in theirs.state_dict().items() if name in used}
    rest = ((name, tensor) for name, tensor in theirs.state_dict().items() if name not in used and tensor.ndim)
    rest = ((name, tensor) for name, tensor in rest if tensor.data_ptr() not in shared)
    return [name for name, _ in rest if not any(part in name for part in IDLE)]


def tokens(length: int = 25) -> torch.Tensor:
    """Two rows of tokens without the padding token."""
    return torch.randint(3, 300, (2, length), generator=torch.Generator().manual_seed(3))


def logits_of(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Their logits."""
    return model(input_ids=x, attention_mask=torch.ones_like(x), use_cache=False).logits


def stepwise(model: Organism, x: torch.Tensor) -> torch.Tensor:
    """Our logits, a first chunk and then token by token."""
    state, pieces = model.initial_state(), []
    for chunk in x.split([9, *[1] * (x.shape[1] - 9)], dim=1):
        logits, state = model.extend(chunk, state)
        pieces.append(logits)
    return torch.cat(pieces, dim=1)


@dataclass(frozen=True)
class Parity:
    """Largest differences, as shares of the largest logit or gradient."""

    prefill: float
    steps: float
    gradients: float


def parity(pair: Twin) -> Parity:
    """How far both sides are apart."""
    x = tokens(SHORT.get(pair.kind, 25))
    theirs, ours = logits_of(pair.theirs, x), pair.ours(x)
    ours = ours[..., : theirs.shape[-1]]
    scale = theirs.detach().abs().max()
    with torch.no_grad():
        steps = (stepwise(pair.ours, x) - theirs).abs().max() / scale
    cotangent = torch.randn(theirs.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    (theirs * cotangent).sum().backward()
    (ours * cotangent).sum().backward()
    return Parity(float((ours - theirs).abs().max() / scale), float(steps), _gradients(pair))


def _gradients(pair: Twin) -> float:
    """The largest difference of gradients, as shares of the largest of each weight."""
    named = dict(pair.theirs.named_parameters(remove_duplicate=False))
    grads = [float(p.grad.abs().max()) for p in pair.ours.parameters() if p.grad is not None]
    least = 1e-3 * max(grads)  # some gradients are zero but for rounding: of the biases of keys
    worst = 0.0
    for path, parameter in pair.ours.named_parameters():
        source = pair.model.weights[path]
        holder = next((named[name] for name in source.name.split("|") if name in named), None)
        if holder is None or holder.grad is None or parameter.grad is None or source.plus:
            continue
        theirs = source.view(holder.grad).reshape(parameter.shape) / source.scale
        size = theirs.abs().max().clamp_min(least)
        worst = max(worst, float((parameter.grad - theirs).abs().max() / size))
    return worst
