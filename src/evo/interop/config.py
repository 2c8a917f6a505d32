"""Configurations of other tools, as they lie beside checkpoints."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evo.base.diagnostics import Diagnostic, DiagnosticError

MAX_BYTES = 10_000_000
"""Of a configuration: those with a name for every token have some."""
MAX_LAYERS = 10_000
LAYERS = frozenset(["num_hidden_layers", "num_layers", "n_layer", "n_layers"])
"""Keys that say how many layers are written out."""


class Config:
    """A `config.json`: what it holds by attribute. A key that is not there is an error; `get` has a default.

    heard: the keys that were asked for, of it and of those made from it.
    """

    def __init__(self, data: Mapping[str, Any], heard: set[str] | None = None) -> None:
        self._data = dict(data)
        self.heard: set[str] = set() if heard is None else heard

    def __getattr__(self, key: str) -> Any:
        """The value of a key.

        Raises:
            DiagnosticError: it is not there, or no number of layers (EVO651).
        """
        if key.startswith("_"):
            raise AttributeError(key)
        self.heard.add(key)
        if key not in self._data:
            message = f"the configuration of a '{self.type}' has no '{key}'"
            raise DiagnosticError([Diagnostic("EVO651", message, None, "add it to config.json")])
        found = self._data[key]
        if key in LAYERS and not (isinstance(found, int) and 1 <= found <= MAX_LAYERS):
            raise unlike(self, f"'{key}' is to be a whole number from 1 to {MAX_LAYERS:,}, found {found!r:.40}")
        return found

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key, or the default where it is left out or null."""
        self.heard.add(key)
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
        self.heard.update(names.values())
        return self.but(found)

    def but(self, values: Mapping[str, Any], *, is_same: bool = True) -> Config:
        """The same with other values; what that is asked for, this has heard, unless it is not to count as the same."""
        return Config({**self._data, **values}, self.heard if is_same else None)

    def part(self, key: str) -> Config:
        """The configuration that stands under a key, such as `encoder_config`, which is its type where it names none.

        Raises:
            DiagnosticError: there is none (EVO651).
        """
        found = self._data.get(key)
        if not isinstance(found, dict):
            raise unlike(self, f"'{key}' is to be a configuration of its own, found {found!r:.40}")
        return Config({"model_type": key, **found})

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
        with file.open("rb") as opened:
            text = opened.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise ValueError(f"it is larger than {MAX_BYTES:,} bytes")
        data = json.loads(text.decode())
    except FileNotFoundError as error:
        help = "a folder with config.json as transformers writes it, a config.json, or a .gguf file"
        raise DiagnosticError([Diagnostic("EVO650", f"there is no {file}", None, help)]) from error
    except (OSError, ValueError, RecursionError) as error:
        raise DiagnosticError([Diagnostic("EVO650", f"{file} is no configuration: {error}")]) from error
    if not isinstance(data, dict) or not isinstance(data.get("model_type"), str):
        message = f"{file} does not say `model_type`"
        raise DiagnosticError([Diagnostic("EVO650", message, None, "a config.json as transformers writes it")])
    return Config(data)


def unlike(config: Config, why: str) -> DiagnosticError:
    """What is raised for a configuration whose values are none that its type can have (EVO651)."""
    message = f"the configuration of a '{config.type}' makes no sense: {why}"
    return DiagnosticError([Diagnostic("EVO651", message, None, "a config.json as transformers writes it")])


def refuse(config: Config, what: str) -> DiagnosticError:
    """What is raised for a configuration that says something the language has no words for (EVO652)."""
    message = f"this '{config.type}' has {what}, which evo cannot write"
    return DiagnosticError([Diagnostic("EVO652", message, None, "see `evo import --list` for what is covered")])
