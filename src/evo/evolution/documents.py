"""Canonical documents as a search reads them again and again: parsed and planned once each while they are in use."""

from __future__ import annotations

from functools import lru_cache

from evo.compiler.plan import Plan
from evo.compiler.resolve import resolve
from evo.dsl.document import Document, parse

KEPT = 1024
"""How many of the latest documents are remembered: about 30 kB each."""


@lru_cache(maxsize=KEPT)
def document_of(text: str) -> Document:
    """The document of a canonical text. Frozen, so that it can be handed out again."""
    return parse(text).document


@lru_cache(maxsize=KEPT)
def plan_of(text: str) -> Plan:
    """The plan of a canonical text."""
    return resolve(document_of(text).organism)
