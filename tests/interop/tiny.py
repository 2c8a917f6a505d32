"""Tiny random models of transformers' types, with every weight and buffer large, and their organisms."""

from __future__ import annotations

import inspect
import json
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from tiny_settings import (
    AROUND,
    BARE,
    COMMON,
    DISTINCT,
    FORMULAS,
    INNER,
    OWN,
    SHORT,
    SINGLE,
    SPARSE,
    TABLES,
    TOWERS,
    UNMASKED,
)
from torch import nn

from evo.compiler.build import build
from evo.compiler.check import problems
from evo.compiler.organism import Organism
from evo.compiler.resolve import resolve
from evo.dsl.document import Document, from_data
from evo.interop.assemble import Model
from evo.interop.config import Config
from evo.interop.families import read
from evo.interop.parts import whole
from evo.interop.weights import take


def tiny_config(kind: str) -> Any:
    """A tiny configuration of transformers.

    The class is taken by name: importing fla puts classes of its own, under the same types, into transformers' table.
    """
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    cls: Any = getattr(transformers, CONFIG_MAPPING_NAMES.get(kind) or INNER[kind])
    if kind in AROUND:
        return _around(cls, tiny_config(AROUND[kind]))
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
    settings |= {"attn_implementation": "eager", **_towers(default), **OWN.get(kind, {})}
    return cls(**settings)


def _around(cls: Any, text: Any) -> Any:
    """A configuration that holds that of a language model, and small towers."""
    more = {"pad_token_id": 0, "tie_word_embeddings": text.tie_word_embeddings}
    return cls(text_config=text, **_towers(cls()), **more)


def _towers(default: Any) -> dict[str, Any]:
    """Small configurations of whatever stands beside the language model in one."""
    towers: dict[str, Any] = {}
    for name in default.sub_configs:
        tower = getattr(default, name, None)
        if name != "text_config" and tower is not None:
            known = tower.to_dict()
            own = {key: value for key, value in TOWERS.items() if known.get(key) is not None}
            towers[name] = type(tower)(**own)
    return towers


def tiny_model(kind: str) -> Any:
    """A model of that type in float64 with every weight and buffer large."""
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    cls = getattr(transformers, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[kind])
    module = sys.modules[cls.__module__]
    _without_kernels(module)
    torch.manual_seed(0)
    config = tiny_config(kind)
    if kind in AROUND and issubclass(type(config.text_config), cls.config_class):
        config = config.text_config
    config._experts_implementation = "eager"
    with _without_towers(module, config) if kind in BARE else nullcontext():
        model = cls(config).eval()
    model = model if kind in SINGLE else model.double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *_buffers(model)]:
            if any(part in name for part in FORMULAS.get(kind, ())):
                continue
            tensor.copy_(_large(name, tensor, generator))
        for name, table in model.named_buffers():
            if name.endswith(TABLES):
                scores = torch.rand(table.shape[0], config.num_local_experts, generator=generator)
                table.copy_(scores.argsort(-1)[:, : table.shape[1]])
    return model


def _without_towers(module: Any, config: Any) -> AbstractContextManager[Any]:
    """Nothing is built of what sees pictures or hears."""
    whole_of = module.AutoModel.from_config

    def of_text(part: Any) -> nn.Module:
        return whole_of(part) if part is config.text_config else nn.Module()

    return mock.patch.object(module.AutoModel, "from_config", of_text)


def _without_kernels(module: Any) -> None:
    """Take the plain forms of what would run on an installed package's kernels."""
    for name, function in list(vars(module).items()):
        is_own = inspect.isfunction(function) and getattr(function, "__module__", "") == module.__name__
        if is_own and hasattr(function, "__wrapped__"):
            setattr(module, name, inspect.unwrap(function))


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
    said = tiny_config(kind) if kind in AROUND else theirs.config
    config = Config(json.loads(said.to_json_string(use_diff=False)))
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
    "vision",
    "visual_projection",
    "image_encoder",
    "audio_",
    "embed_audio",
    "embed_vision",
    "multi_modal_projector",
    "embed_tokens_extend",
    "mllama.layers.1.",
    "adapter_modules.en_XX",
    "xlnet.transformer.mask_emb",
    "rel_attn.r_s_bias",
    "rel_attn.seg_embed",
)
"""Parts of names, behind that of the type, that a decoder alone, with tied weights, has no use for."""


def unused_tensors(theirs: Any, model: Model) -> list[str]:
    """Tensors of a model that no weight of the organism is taken from."""
    used = {name for source in model.weights.values() for name in source.name.split("|")}
    used |= {name for source in model.weights.values() for name, _ in source.plus}
    shared = {tensor.data_ptr() for name, tensor in theirs.state_dict().items() if name in used}
    rest = ((name, tensor) for name, tensor in theirs.state_dict().items() if name not in used and tensor.ndim)
    rest = ((name, tensor) for name, tensor in rest if tensor.data_ptr() not in shared)
    root = theirs.config.model_type.removesuffix("_text_model")
    idle = (*IDLE, *FORMULAS.get(root, ()))
    return [name for name, _ in rest if not any(part in f"{root}.{name.removeprefix('model.')}" for part in idle)]


def tokens(length: int = 25, distinct: bool = False) -> torch.Tensor:
    """Two rows of tokens without the padding token."""
    if distinct:
        return 3 + torch.randperm(297, generator=torch.Generator().manual_seed(3))[: 2 * length].view(2, length)
    return torch.randint(3, 300, (2, length), generator=torch.Generator().manual_seed(3))


def logits_of(model: Any, x: torch.Tensor) -> torch.Tensor:
    """Their logits."""
    mask = {} if model.config.model_type in UNMASKED else {"attention_mask": torch.ones_like(x)}
    return model(input_ids=x, use_cache=False, **mask).logits


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
    x = tokens(SHORT.get(pair.kind, 25), pair.kind in DISTINCT)
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
    sums: dict[str, torch.Tensor] = {}  # of weights that are one of theirs
    for path, parameter in pair.ours.named_parameters():
        source = pair.model.weights[path]
        if source.view is whole and parameter.grad is not None:
            sums[source.name] = sums.get(source.name, torch.zeros_like(parameter)) + parameter.grad * source.scale
    worst = 0.0
    for path, parameter in pair.ours.named_parameters():
        source = pair.model.weights[path]
        holder = next((named[name] for name in source.name.split("|") if name in named), None)
        if holder is None or holder.grad is None or parameter.grad is None or source.plus:
            continue
        ours = sums[source.name] / source.scale if source.view is whole else parameter.grad
        theirs = source.view(holder.grad).reshape(parameter.shape) / source.scale
        size = theirs.abs().max().clamp_min(least)
        worst = max(worst, float((ours - theirs).abs().max() / size))
    return worst
