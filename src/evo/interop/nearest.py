"""What of a configuration a family does not understand, and which family understands one of an unknown type best."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from evo.base.diagnostics import DiagnosticError
from evo.interop.config import LAYERS, Config

Read = Callable[[Config], object]

FAULTS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What a family raises for a value of a kind that it does not expect."""
PROBED_LAYERS = 4
"""Layers that are read to tell families apart: more have no other keys."""
SILENT = frozenset([
    "_name_or_path", "architectures", "auto_map", "dtype", "id2label", "is_decoder", "label2id", "model_type",
    "return_dict", "tokenizer_class", "torch_dtype", "transformers_version", "use_cache",
    "bos_token_id", "decoder_start_token_id", "eos_token_id", "forced_eos_token_id", "pad_token_id", "sep_token_id",
    "attention_dropout", "attention_probs_dropout_prob", "attn_pdrop", "classifier_dropout", "dropout", "embd_pdrop",
    "hidden_dropout_prob", "init_std", "initializer_range", "resid_pdrop", "router_aux_loss_coef",
    "pretraining_tp", "summary_first_dropout", "summary_proj_to_labels", "summary_type", "summary_use_proj",
])  # fmt: skip
"""Keys that no logit depends on: of files, tokens and outputs, of training, and of heads that are no language model."""


@dataclass(frozen=True)
class Nearest:
    """A type, and the keys of a configuration that its family passes over, sorted."""

    type: str
    unheard: tuple[str, ...]


def unheard(config: Config) -> tuple[str, ...]:
    """Keys that say something, and that nothing has asked for; null, false, zero and empty turn nothing on."""
    return tuple(sorted(key for key, value in config.data.items() if value and key not in config.heard | SILENT))


def nearest(config: Config, types: Iterable[str], read: Read) -> Nearest | None:
    """The type, of those whose family finds all it needs, that passes over the fewest keys; the first of equals."""
    counts = {key: value for key in LAYERS if isinstance(value := config.get(key), int)}
    few = {key: min(value, PROBED_LAYERS) for key, value in counts.items()}
    found = [_heard_as(config.but(few | {"model_type": kind}, is_same=False), read) for kind in types]
    return min((each for each in found if each), key=lambda each: len(each.unheard), default=None)


def _heard_as(config: Config, read: Read) -> Nearest | None:
    try:
        read(config)
    except (DiagnosticError, *FAULTS):
        return None
    return Nearest(config.type, unheard(config))
