"""Which file reads which architecture: `model_type` of a configuration -> the function of a family, by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from evo.base.diagnostics import Diagnostic, DiagnosticError, suggestion
from evo.interop.assemble import Model
from evo.interop.config import Config

FAMILIES: dict[str, tuple[str, ...]] = {
    "llama:llama": ("llama", "mistral", "qwen2", "qwen3", "arcee", "internlm3", "iquestcoder"),
    "gpt:gpt2": ("gpt2", "gpt-sw3"),
}
"""The file and function of each line of architectures, and the types that it reads."""


def types() -> dict[str, str]:
    """Every type that can be read, and what reads it."""
    return {kind: target for target, kinds in FAMILIES.items() for kind in kinds}


def read(config: Config) -> Model:
    """The model that a configuration describes.

    Raises:
        DiagnosticError: no family reads it (EVO652), or it says what the language has no words for.
    """
    known = types()
    if config.type not in known:
        help = f"{suggestion(config.type, known)}see `evo import --list`"
        raise DiagnosticError([Diagnostic("EVO652", f"no family reads '{config.type}'", None, help)])
    module, _, name = known[config.type].partition(":")
    family: Callable[[Config], Model] = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    return family(config)
