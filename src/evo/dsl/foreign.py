"""What other tools call things: advice on words that the language does not know, with the unit where it differs.

A foreign word remains an error, and a thing that is not the same is never offered as if it were.
"""

from __future__ import annotations

_WIDTH = "`width` of the organism"
_CONTEXT = "`context` of the organism"
_VOCAB = "`vocab` of the organism"
_HEADS = "`heads` of a mixer: {kind: attention, heads: 4}"
_KV_HEADS = "`kv_heads` of an attention"
_HEAD_DIM = "`head_dim` of an attention"
_WINDOW = "the stencil of an attention: `stencil: {kind: window, size: 128}`"
_REPEAT = "`repeat` of a stage: how many layers it has"
_HIDDEN = "`hidden` of the ffn: `ffn: {kind: gated, hidden: 1024}`, or `ratio`, a multiple of the width"
_FFN = "`ffn` of a stage: `ffn: {kind: dense, ratio: 4.0}`"
_THETA = "`theta` of the position encoding: `position: {kind: rope, theta: 10000.0}`"
_DIMS = "`dims` of rope, rotated channels of a head and no share of it: `position: {kind: rope, dims: 16}`"
_DROPOUT = "`dropout` under `train`: `dropout: {attention: 0.1, residual: 0.1, embedding: 0.1}`"
_LR = "`lr` of the optimizer: `optimizer: {kind: adamw, lr: 3e-4}` under `train`"
_RULE = "a setting of the optimizer: `optimizer: {kind: adamw, ...}` under `train`"
_BETAS = "`beta1` and `beta2` of the optimizer: `optimizer: {kind: adamw, beta1: 0.9, beta2: 0.95}` under `train`"
_WARMUP = "`warmup` of the schedule, a share of the steps and no number of them: `schedule: {kind: wsd, warmup: 0.1}`"
_BATCH = "`batch` under `train`: sequences a step"
_STEPS = "`steps` under `train`: optimizer steps"
_EPOCHS = "`steps` under `train`: evo counts optimizer steps, not passes over the text"
_CLIP = "`clip` under `train`; null for no clipping"
_TIE = "`tie` of the readout: `readout: {tie: true}`"
_ACT = "`act` of the ffn: `ffn: {kind: gated, act: silu}`"
_EPS = "`eps` of the norm: `norm: {kind: rms, eps: 1e-6}`"
_MIX = "`mix` of a stage: `mix: {kind: attention, heads: 4}`"
_PRECISION = "`precision` under `train`: `precision: bf16`"
_DEVICE = "an option of commands, and no part of a document: `evo train --device cuda`"
_TASK = "`task` under `train`: `task: {kind: bytes, corpus: path/to/folder}`"
_SCHEDULE = "`schedule` under `train`: `schedule: {kind: cosine}`"
_ORGANISM = "`organism`: its `width` and `stages`"
_TYPE = "nothing: an organism is written out as stages; documents under examples/ are a start"

KEYS = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "embed_dim", "embedding_size", "model_dim"), _WIDTH),
    **dict.fromkeys(
        ("block_size", "n_ctx", "n_positions", "max_position_embeddings", "max_seq_len", "seq_len", "context_length"),
        _CONTEXT,
    ),
    **dict.fromkeys(("vocab_size", "padded_vocab_size", "n_vocab"), _VOCAB),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "nhead", "heads"), _HEADS),
    **dict.fromkeys(("kv_heads", "num_key_value_heads", "n_kv_heads", "num_kv_heads", "n_query_groups"), _KV_HEADS),
    **dict.fromkeys(("head_size", "d_head", "head_width"), _HEAD_DIM),
    **dict.fromkeys(("sliding_window", "window", "window_size", "attention_window"), _WINDOW),
    **dict.fromkeys(("n_layer", "n_layers", "num_layers", "num_hidden_layers", "layers", "depth"), _REPEAT),
    **dict.fromkeys(("intermediate_size", "n_inner", "d_ff", "ffn_dim", "ffn_hidden_size", "dim_feedforward"), _HIDDEN),
    **dict.fromkeys(("mlp", "feed_forward", "feedforward"), _FFN),
    "mlp_ratio": "`ratio` of the ffn: `ffn: {kind: dense, ratio: 4.0}`",
    **dict.fromkeys(("rope_theta", "rope_base", "rotary_emb_base"), _THETA),
    **dict.fromkeys(("partial_rotary_factor", "rotary_pct", "rotary_percentage"), _DIMS),
    **dict.fromkeys(
        ("dropout", "attn_dropout", "attention_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop", "hidden_dropout"),
        _DROPOUT,
    ),
    **dict.fromkeys(("lr", "learning_rate", "max_lr"), _LR),
    **dict.fromkeys(("weight_decay", "beta1", "beta2"), _RULE),
    "betas": _BETAS,
    **dict.fromkeys(("warmup_steps", "warmup_iters", "num_warmup_steps"), _WARMUP),
    **dict.fromkeys(("batch_size", "micro_batch_size", "global_batch_size"), _BATCH),
    **dict.fromkeys(("max_steps", "max_iters", "num_steps", "iterations"), _STEPS),
    **dict.fromkeys(("epochs", "num_epochs", "num_train_epochs"), _EPOCHS),
    **dict.fromkeys(("grad_clip", "max_grad_norm", "gradient_clipping", "clip_grad_norm"), _CLIP),
    **dict.fromkeys(("tie_word_embeddings", "tie_embeddings"), _TIE),
    **dict.fromkeys(("hidden_act", "act", "activation", "activation_function"), _ACT),
    **dict.fromkeys(("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_eps"), _EPS),
    **dict.fromkeys(("attention", "attn", "self_attn", "self_attention", "mixer"), _MIX),
    **dict.fromkeys(("dtype", "torch_dtype", "mixed_precision", "amp"), _PRECISION),
    **dict.fromkeys(("device", "accelerator"), _DEVICE),
    **dict.fromkeys(("data", "dataset", "corpus", "train_file"), _TASK),
    **dict.fromkeys(("scheduler", "lr_scheduler", "lr_scheduler_type"), _SCHEDULE),
    "model": _ORGANISM,
    **dict.fromkeys(("model_type", "architectures"), _TYPE),
}
"""Keys, and what stands for each."""

VALUES = {
    **dict.fromkeys(
        ("gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu_approx", "gelu_python_tanh"),
        "the tanh form is called `gelu_tanh`, and `gelu` is the exact function: close, not the same",
    ),
    "quick_gelu": "the same function is called `gelu_quick`",
    "swish": "the same function is called `silu`",
    **dict.fromkeys(("relu_squared", "squared_relu"), "the same function is called `relu2`"),
    **{
        name: f"it is no word: `{{kind: pointwise, of: {name}}}`"
        for name in ("mish", "elu", "selu", "relu6", "laplace")
    },
    "hardswish": "it is no word: `{kind: pointwise, of: hard_swish}`",
    "prelu": "it is no word: `{kind: leaky_relu, learned: true}`",
    "swiglu": "a gated ffn with silu: `ffn: {kind: gated, act: silu}`",
    "geglu": "a gated ffn with exact gelu: `ffn: {kind: gated, act: gelu}`",
    "mlp": "a plain feed-forward is `{kind: dense}`",
    "rmsnorm": "it is written `{kind: rms}`",
    **dict.fromkeys(("layernorm", "layer_norm"), "it is written `{kind: layer}`"),
    "rotary": "it is written `{kind: rope}`",
    **dict.fromkeys(
        ("mha", "multihead_attention", "multi_head_attention", "self_attention", "causal_self_attention"),
        "it is written `{kind: attention, heads: 4}`",
    ),
    **dict.fromkeys(("gqa", "mqa"), "it is written `{kind: attention, heads: 4, kv_heads: 1}`"),
    **{
        name: f"a published model is a document: `evo new NAME --from zoo/{name}`"
        for name in ("gpt2", "llama", "mamba", "mamba2", "retnet", "rwkv", "rwkv7", "titans")
    },
    "adam": "without decoupled decay, it is `{kind: adamw, weight_decay: 0}`",
}
"""Values and kinds, and what to write."""

EXAMPLES = {
    "evo": "the first line of a document is `evo: 1`",
    "heads": "for example `heads: 4`",
    "width": "for example `width: 128`",
    "stages": "for example `stages: [{name: body, mix: {kind: attention, heads: 4}}]`",
    "mix": "for example `mix: {kind: attention, heads: 4}`",
    "name": "for example `name: body`",
    "organism": "a document says `evo: 1`, and under `organism` a width and stages",
}
"""Keys that have no default, and how they look."""

_BOOLEANS = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}


def spelling(value: object, fault: str, optional: bool) -> str | None:
    """How a value of the wrong type, or zero where it should be nothing, is written; None where nobody can tell.

    fault: pydantic's name of what is wrong. optional: whether the field may be null.
    """
    if fault == "greater_than" and value == 0 and optional:
        return "write null for none"
    if fault == "bool_type":
        written = _BOOLEANS.get(value.lower()) if isinstance(value, str) else None
        return f"write {written} (YAML 1.2)" if written else None
    if fault in ("int_type", "int_from_float") and isinstance(value, float):
        return f"write {int(value)}" if value.is_integer() else None
    if fault in ("int_type", "float_type") and isinstance(value, str):
        return _number(value, fault == "int_type")
    return None


def _number(text: str, whole: bool) -> str | None:
    plain = text.replace("_", "").replace(",", "").strip()
    size = {"k": 1000, "m": 1_000_000}.get(plain[-1:].lower())
    try:
        if size and plain[:-1].isdigit():
            binary = f" or {int(plain[:-1]) * 1024}" if size == 1000 else ""
            return f"write {int(plain[:-1]) * size}{binary}"
        if whole and not plain.lstrip("+-").isdigit():
            return f"write {int(float(plain))}" if float(plain).is_integer() else None
        float(plain)
    except (ValueError, OverflowError):
        return None
    return f"write {plain} without quotes" if plain == text else f"write {plain}"
