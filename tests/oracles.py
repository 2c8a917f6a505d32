"""Reference implementations of others, without all that their packages bring along."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def naive(path: str) -> Callable[..., Any]:
    """A function of fla by 'module:name', or a skip with the reason."""
    module, _, name = path.partition(":")
    return getattr(alone(module), name)


@cache
def alone(module: str) -> ModuleType:
    """A module whose one file needs nothing of its own package, which is not imported: fla itself takes ten seconds."""
    package, *parts = module.split(".")
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        pytest.skip(f"the oracle {package} is not installed")
    file = Path(found.submodule_search_locations[0]).joinpath(*parts).with_suffix(".py")
    spec = importlib.util.spec_from_file_location("_".join(("alone", *parts)), file)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made
