"""GGUF files: what is read from one computes what the model computes that it was written from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import logits_of, tiny_model, tokens

from commands import Evo
from evo.base.diagnostics import DiagnosticError
from evo.compiler.build import build
from evo.compiler.resolve import resolve
from evo.interop.checkpoint import import_weights
from evo.interop.document import import_document
from evo.training.checkpoint import load_checkpoint

gguf: Any = pytest.importorskip("gguf", reason="the package gguf is not installed")
pytest.importorskip("transformers", reason="the oracle transformers is not installed")

KINDS = {
    "llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "phi3": "phi3", "gemma": "gemma", "gemma2": "gemma2",
    "gemma3_text": "gemma3", "mixtral": "llama", "qwen2_moe": "qwen2moe", "qwen3_moe": "qwen3moe", "olmoe": "olmoe",
}  # fmt: skip
"""Types, and what their architecture is called in files."""


def paired(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of q or k as llama.cpp's converter puts them for Llama (`LlamaModel.permute`)."""
    return weight.reshape(heads, 2, -1, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def split_up(tensors: dict[str, torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
    """Tensors by name, gate and up of all experts apart."""
    for name, tensor in tensors.items():
        if name.endswith("experts.gate_up_proj"):
            gate, up = tensor.chunk(2, dim=1)
            yield from ((name.replace("gate_up", "gate"), gate), (name.replace("gate_up", "up"), up))
        else:
            yield name, tensor


def write(model: Any, arch: str, path: Path, *, is_quantised: bool = False) -> None:
    """A file as llama.cpp's converter writes it; where it is quantised, the model gets the numbers that are left."""
    c, writer = model.config, gguf.GGUFWriter(path, arch)
    writer.add_block_count(c.num_hidden_layers)
    writer.add_context_length(c.max_position_embeddings)
    writer.add_embedding_length(c.hidden_size)
    writer.add_vocab_size(c.vocab_size)
    writer.add_feed_forward_length(c.intermediate_size)
    writer.add_head_count(c.num_attention_heads)
    writer.add_head_count_kv(c.num_key_value_heads)
    writer.add_key_length(getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads)
    writer.add_layer_norm_rms_eps(c.rms_norm_eps)
    said = c.rope_parameters
    writer.add_rope_freq_base(said.get("full_attention", said).get("rope_theta", 10000.0))
    if arch.startswith("gemma") and getattr(c, "sliding_window", None):
        writer.add_sliding_window(c.sliding_window)
    for key, add in (
        ("attn_logit_softcapping", writer.add_attn_logit_softcapping),
        ("final_logit_softcapping", writer.add_final_logit_softcapping),
    ):
        if getattr(c, key, None) is not None:
            add(getattr(c, key))
    if said.get("rope_type") == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(said["factor"])
        writer.add_rope_scaling_orig_ctx_len(said["original_max_position_embeddings"])
        writer.add_rope_scaling_yarn_beta_fast(said["beta_fast"])
    for key, add in (
        ("num_experts_per_tok", writer.add_expert_used_count),
        ("moe_intermediate_size", writer.add_expert_feed_forward_length),
        ("shared_expert_intermediate_size", writer.add_expert_shared_feed_forward_length),
        ("clip_qkv", writer.add_clamp_kqv),
    ):
        if getattr(c, key, None) is not None:
            add(getattr(c, key))
    if count := getattr(c, "num_experts", None) or getattr(c, "num_local_experts", None):
        writer.add_expert_count(count)
    named = gguf.get_tensor_name_map({v: k for k, v in gguf.MODEL_ARCH_NAMES.items()}[arch], c.num_hidden_layers)
    for name, tensor in split_up(model.state_dict()):
        if name == "lm_head.weight" and c.tie_word_embeddings:
            continue
        data = tensor.numpy()
        if is_quantised and data.ndim == 2 and data.shape[1] % 32 == 0:
            tensor.copy_(torch.from_numpy(gguf.quants.dequantize(_q8(data), gguf.GGMLQuantizationType.Q8_0)))
        if arch == "llama" and (".q_proj" in name or ".k_proj" in name):
            data = paired(data, c.num_attention_heads if ".q_proj" in name else c.num_key_value_heads)
        if arch.startswith("gemma") and name.endswith("norm.weight"):
            data = data + 1.0
        if "shared_expert_gate" in name:
            data = data.squeeze()  # as the converter does with all
        theirs = named.get_name(name, try_suffixes=(".weight", ".bias"))
        theirs = theirs if theirs.endswith((".weight", ".bias")) else f"{theirs}.weight"
        if is_quantised and data.ndim == 2 and data.shape[1] % 32 == 0:
            writer.add_tensor(theirs, _q8(data), raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(theirs, np.ascontiguousarray(data))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _q8(data: np.ndarray) -> np.ndarray:
    return gguf.quants.quantize(np.ascontiguousarray(data), gguf.GGMLQuantizationType.Q8_0)


def parted(kind: str, path: Path, made: Any = None, **how: Any) -> float:
    """How far the logits of what is read are from those of the model, as a share of the largest."""
    model = (made or tiny_model(kind)).float()
    for layer in model.model.layers:  # what files say nothing of is as in all sizes but the largest Gemma
        layer.self_attn.scaling = layer.self_attn.head_dim**-0.5
        if kind == "qwen3_moe":  # and shares are as in all sizes that there are
            layer.mlp.gate.norm_topk_prob = True
    write(model, KINDS[kind], path, **how)
    imported = import_document(path)
    import_weights(imported, path, path.with_suffix(".safetensors"))
    ours = build(resolve(imported.document.organism), 0)
    ours.load_state_dict(load_checkpoint(path.with_suffix(".safetensors")).weights)
    with torch.no_grad():
        theirs = logits_of(model, tokens())
        return float((ours(tokens()) - theirs).abs().max() / theirs.abs().max())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "kind", ["llama", *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS if kind != "llama")]
)
def test_a_file_computes_what_its_model_does(kind: str, tmp_path: Path) -> None:
    """Logits within 1e-4 of the largest, in float32."""
    assert parted(kind, tmp_path / "m.gguf") < 1e-4


@pytest.mark.filterwarnings("ignore")
def test_quantised_numbers_are_read(tmp_path: Path) -> None:
    """Of a file in Q8_0, a model with the numbers that quantisation left computes the same."""
    assert parted("llama", tmp_path / "m.gguf", is_quantised=True) < 1e-4


@pytest.mark.filterwarnings("ignore")
def test_yarn_is_read(tmp_path: Path) -> None:
    """Of a file whose rotation is stretched by parts, logits within 1e-4 of the largest."""
    from transformers import LlamaConfig, LlamaForCausalLM

    yarn = {"factor": 4.0, "original_max_position_embeddings": 16, "beta_fast": 8.0}
    config = LlamaConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, intermediate_size=24,
        vocab_size=400, max_position_embeddings=64, rope_parameters={"rope_type": "yarn", "rope_theta": 500.0, **yarn},
    )  # fmt: skip
    torch.manual_seed(0)
    assert parted("llama", tmp_path / "m.gguf", LlamaForCausalLM(config).eval()) < 1e-4


def test_what_cannot_be_read(tmp_path: Path, evo: Evo) -> None:
    """Bytes that are no such file, another architecture, and a tensor that is missing are told."""
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"GGUF" + b"\xff" * 60)
    assert evo("import", bad).err.split()[0] == "EVO650"
    assert evo("import", tmp_path / "none.gguf").err.split()[0] == "EVO001"
    other = gguf.GGUFWriter(tmp_path / "other.gguf", "lama")
    other.write_header_to_file()
    other.write_kv_data_to_file()
    other.write_tensors_to_file()
    other.close()
    with pytest.raises(DiagnosticError, match="EVO652"):
        import_document(tmp_path / "other.gguf")
