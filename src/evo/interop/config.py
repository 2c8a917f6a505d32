"""Configurations of other tools, as they lie beside checkpoints."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evo.base.diagnostics import Diagnostic, DiagnosticError


class Config:
    """A `config.json`: what it holds by attribute. A key that is not there is an error; `get` has a default."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._data = dict(data)

    def __getattr__(self, key: str) -> Any:
        """The value of a key.

        Raises:
            DiagnosticError: it is not there (EVO651).
        """
        if key.startswith("_"):
            raise AttributeError(key)
        if key not in self._data:
            message = f"the configuration of a '{self.type}' has no '{key}'"
            raise DiagnosticError([Diagnostic("EVO651", message, None, "add it to config.json")])
        return self._data[key]

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key, or the default where it is left out or null."""
        found = self._data.get(key)
        return default if found is None else found

    @property
    def type(self) -> str:
        """Which architecture it configures."""
        return str(self._data.get("model_type", ""))

    @property
    def types(self) -> tuple[str, ...]:
        """Which architecture it configures, and the language model within that, if it holds one."""
        text = self._data.get("text_config")
        return (self.type, str(text["model_type"])) if isinstance(text, dict) and "model_type" in text else (self.type,)

    def called(self, **names: str) -> Config:
        """The same, with keys of other names under those that families know: `hidden_size="n_embd"`."""
        found = {ours: self._data[theirs] for ours, theirs in names.items() if theirs in self._data}
        return Config({**self._data, **found})

    @property
    def data(self) -> dict[str, Any]:
        """All of it."""
        return dict(self._data)


def read_config(path: Path) -> Config:
    """A configuration: of a folder that holds one, or of the file itself.

    Raises:
        DiagnosticError: there is none, or it is not one (EVO650).
    """
    file = path / "config.json" if path.is_dir() else path
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DiagnosticError([Diagnostic("EVO650", f"{file} is no configuration: {error}")]) from error
    if not isinstance(data, dict) or not isinstance(data.get("model_type"), str):
        message = f"{file} does not say `model_type`"
        raise DiagnosticError([Diagnostic("EVO650", message, None, "a config.json as transformers writes it")])
    return Config(data)


def refuse(config: Config, what: str) -> DiagnosticError:
    """What is raised for a configuration that says something the language has no words for (EVO652)."""
    message = f"this '{config.type}' has {what}, which evo cannot write"
    return DiagnosticError([Diagnostic("EVO652", message, None, "see `evo import --list` for what is covered")])
