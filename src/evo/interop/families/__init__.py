"""Which file reads which architecture: `model_type` of a configuration -> the function of a family, by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace

from evo.base.diagnostics import Diagnostic, DiagnosticError, suggestion
from evo.interop.assemble import Model
from evo.interop.config import Config
from evo.interop.nearest import nearest, unheard
from evo.interop.parts import Source

FAMILIES: dict[str, tuple[str, ...]] = {
    "llama:llama": (
        "llama", "mistral", "internlm3", "iquestcoder", "ministral", "smollm3", "cwm", "emu3_text_model",
    ),
    "llama:qwen2": ("qwen2",),
    "llama:mllama": ("mllama_text_model",),
    "llama:qwen3": ("qwen3",),
    "llama:arcee": ("arcee",),
    "llama:ministral3": ("ministral3",),
    "llama:seed_oss": ("seed_oss",),
    "granite:granite": ("granite",),
    "granite:granite_swa": ("granite_swa",),
    "llama:hyperclovax": ("hyperclovax",),
    "llama:exaone4": ("exaone4",),
    "llama:olmo": ("olmo",),
    "llama:olmo2": ("olmo2", "olmo3"),
    "llama:apertus": ("apertus",),
    "llama:nanochat": ("nanochat",),
    "llama:hunyuan": ("hunyuan_v1_dense",),
    "llama:bitnet": ("bitnet",),
    "llama:phi3": ("phi3", "phi4_multimodal"),
    "llama:glm": ("glm",),
    "llama:glm4": ("glm4",),
    "llama:helium": ("helium",),
    "llama:ernie4_5": ("ernie4_5",),
    "gemma:gemma": ("gemma", "gemma2", "gemma3_text", "vaultgemma"),
    "gemma3n:gemma3n": ("gemma3n_text",),
    "gemma4:gemma4": ("gemma4_text", "gemma4_unified_text"),
    "cohere:cohere": ("cohere", "cohere2"),
    "cohere:compass": ("cohere_compass_text",),
    "experts:moe": ("mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "flex_olmo", "mellum"),
    "experts:glm4_moe": ("glm4_moe", "dots1", "solar_open", "minimax_m2", "hy_v3", "exaone_moe"),
    "experts:ernie": ("ernie4_5_moe",),
    "experts:gpt_oss": ("gpt_oss",),
    "granite:granitemoe": ("granitemoe", "granitemoeshared"),
    "granite:granitemoe_swa": ("granitemoe_swa",),
    "experts:afmoe": ("afmoe",),
    "experts:aria": ("aria_text",),
    "experts:hunyuan": ("hunyuan_v1_moe",),
    "sparse:kolibri": ("kolibri1",),
    "sparse:cohere_moe": ("cohere2_moe",),
    "sparse:dbrx": ("dbrx",),
    "sparse:mimo": ("mimo_v2_flash",),
    "sparse:minimax_m3": ("minimax_m3_vl_text",),
    "latent:deepseek": (
        "axk1", "deepseek_v2", "deepseek_v3", "deepseek_v32", "youtu", "minicpm3", "glm4_moe_lite", "glm_moe_dsa",
    ),
    "latent:axk2": ("axk2",),
    "latent:dots3": ("dots3_note_text",),
    "latent:longcat": ("longcat_flash",),
    "streamed:deepseek_v4": ("deepseek_v4",),
    "streamed:hy_v4": ("hy_v4",),
    "streamed:qwen4": ("qwen4_exp_text",),
    "sparse:beam": ("beam",),
    "sparse:phimoe": ("phimoe",),
    "convolved:inkling": ("inkling_text",),
    "convolved:zaya": ("zaya",),
    "jetmoe:jetmoe": ("jetmoe",),
    "xlstm:xlstm": ("xlstm",),
    "zamba:zamba": ("zamba",),
    "zamba:zamba2": ("zamba2",),
    "odd:doge": ("doge",),
    "odd:diffllama": ("diffllama",),
    "odd:modernbert": ("modernbert-decoder",),
    "odd:xlnet": ("xlnet",),
    "cycled:hrm_text": ("hrm_text",),
    "odd:laguna": ("laguna",),
    "odd:flint": ("flint",),
    "odd:moshi": ("moshi",),
    "patched:blt": ("blt",),
    "liquid:lfm": ("lfm2", "lfm2_moe", "lfm3"),
    "scans:mamba": ("mamba",),
    "scans:falcon_mamba": ("falcon_mamba",),
    "experts:llama4": ("llama4_text",),
    "scans:granite_hybrid": ("granitemoehybrid",),
    "scans:mamba2": ("mamba2",),
    "scans:rwkv": ("rwkv",),
    "griffin:recurrent_gemma": ("recurrent_gemma",),
    "scans:jamba": ("jamba",),
    "scans:bamba": ("bamba",),
    "scans:qwen3_next": ("qwen3_next",),
    "scans:qwen3_5": ("qwen3_5_text", "qwen3_5_moe_text"),
    "hybrids:olmo_hybrid": ("olmo_hybrid",),
    "hybrids:nemotron_h": ("nemotron_h",),
    "hybrids:falcon_h1": ("falcon_h1",),
    "hybrids:minimax": ("minimax",),
    "hybrids:ling": ("bailing_hybrid",),
    "hybrids:kimi": ("kimi_linear",),
    "gpt:gpt2": ("gpt2", "gpt-sw3"),
    "gpt:gpt1": ("openai-gpt",),
    "odd:ctrl": ("ctrl",),
    "gpt:bigcode": ("gpt_bigcode",),
    "gpt:gpt_neo": ("gpt_neo",),
    "gpt:gptj": ("gptj",),
    "gpt:codegen": ("codegen",),
    "gpt:neox": ("gpt_neox",),
    "gpt:neox_japanese": ("gpt_neox_japanese",),
    "gpt:bloom": ("bloom",),
    "gpt:mpt": ("mpt",),
    "gpt:falcon": ("falcon",),
    "layered:layered": ("phi", "stablelm", "starcoder2", "nemotron", "jais2"),
    "gpt:persimmon": ("persimmon",),
    "seq2seq:seq2seq": (
        "bart", "mvp", "plbart", "trocr", "blenderbot-small", "mbart", "blenderbot", "pegasus",
        "whisper", "marian", "xglm", "biogpt", "opt", "bigbird_pegasus",
    ),
    "bert:bert": (
        "bert", "bert-generation", "big_bird", "camembert", "data2vec-text", "electra", "ernie", "git",
        "megatron-bert",
        "roberta", "roberta-prelayernorm", "roc_bert", "roformer", "xlm-roberta", "xlm-roberta-xl",
        "xmod",
    ),
    "bert:rembert": ("rembert",),
    "bert:xlm": ("xlm",),
}  # fmt: skip
"""The file and function of each line of architectures, and the types that it reads."""


AROUND = (
    "dots3_note", "emu3", "fuyu", "gemma3", "gemma3n", "gemma4", "gemma4_unified", "got_ocr2", "llama4", "mllama",
    "moss_transcribe_diarize",
    "qwen3_5", "qwen3_5_moe", "qwen4_exp",
)  # fmt: skip
"""Types that hold another one, their `text_config`, and towers for pictures or sounds, which are left out."""


def types() -> dict[str, str]:
    """Every type that can be read, and what reads it; for one that holds another, how it does."""
    return {**{kind: target for target, kinds in FAMILIES.items() for kind in kinds}, **dict.fromkeys(AROUND, "inner")}


def inner(config: Config) -> Model:
    """The language model within one that has towers besides."""
    text = {"tie_word_embeddings": config.get("tie_word_embeddings", True), **config.text_config}
    model = read(Config(text))
    return Model(model.organism, {ours: _within(source) for ours, source in model.weights.items()})


def _within(source: Source) -> Source:
    """Where a tensor lies in the whole, as models name it and as checkpoints do."""
    names = [name for known in source.name.split("|") for name in _names_within(known)]
    return replace(source, name="|".join(names))


def _names_within(name: str) -> tuple[str, ...]:
    rest = name.removeprefix("model.")
    found = (f"model.language_model.{rest}", f"language_model.{name}")
    return (name, *(found if rest != name else found[1:]), f"model.language_model.{name}")


def read(config: Config) -> Model:
    """The model that a configuration describes.

    Raises:
        DiagnosticError: no family reads it (EVO652), or it says what the language has no words for.
    """
    known = types()
    if isinstance(config.get("text_config"), dict) and config.text_config.get("model_type") in known:
        return inner(config)
    if config.type not in known:
        raise _unknown(config)
    return _by_family(config)


def read_as(config: Config, kind: str) -> Model:
    """The same of a configuration whose own type is not asked for: it is read as one of another, which is known.

    Raises:
        DiagnosticError: no family reads that type, or the one that does would pass over a key (EVO652).
    """
    alone = _alone()
    if kind not in alone:
        help = f"{suggestion(kind, alone)}see `evo import --list`"
        raise DiagnosticError([Diagnostic("EVO652", f"no family reads '{kind}'", None, help)])
    other = config.but({"model_type": kind}, is_same=False)
    model = _by_family(other)
    if keys := unheard(other):
        message = f"read as '{kind}', this '{config.type}' has what that does not understand: {', '.join(keys)}"
        raise DiagnosticError([Diagnostic("EVO652", message, None, "remove what changes no logit from config.json")])
    return model


def _alone() -> list[str]:
    """Types that hold no other one, in the table's order."""
    return [kind for kinds in FAMILIES.values() for kind in kinds]


def _by_family(config: Config) -> Model:
    module, _, name = types()[config.type].partition(":")
    family: Callable[[Config], Model] = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    return family(config)


def _unknown(config: Config) -> DiagnosticError:
    found, help = nearest(config, _alone(), _by_family), suggestion(config.type, types())
    if found is None:
        help += "see `evo import --list`"
    elif found.unheard:
        help += f"nearest is '{found.type}', which does not understand {', '.join(found.unheard)}"
    else:
        help += f"'{found.type}' understands all that it says: `evo import --as {found.type}`"
    return DiagnosticError([Diagnostic("EVO652", f"no family reads '{config.type}'", None, help)])
