"""Documents, their plans and the patches between them."""

from __future__ import annotations

import warnings
from os import PathLike
from pathlib import Path
from typing import TypeAlias

from evo.base.diagnostics import DiagnosticError, render, source_of
from evo.base.rundirs import exact_or
from evo.compiler.check import require_valid
from evo.compiler.examine import examine_file
from evo.compiler.plan import Plan
from evo.compiler.resolve import resolve
from evo.dsl import patch as patches
from evo.dsl.document import Document
from evo.dsl.patch import Patch, patch_from_node
from evo.dsl.yaml import read_file

File: TypeAlias = str | PathLike[str]
"""The path of a file."""
Source: TypeAlias = Document | File
"""A document, or the path of a file that holds one: YAML, or a checkpoint."""


def load(path: File) -> Document:
    """The document in a file: YAML that a person or a search wrote, or what a checkpoint was trained from.

    Warnings about the document become Python warnings.

    Raises:
        DiagnosticError: everything that is wrong with it, of syntax, schema and meaning, each with its place; or a
            file that is neither (EVO001, EVO602).

    >>> document = load("examples/first.yaml")
    >>> document.name, document.organism.width, document.train.steps
    ('first', 128, 80)
    """
    if holds_tensors(path):
        from evo.training.checkpoint import load_checkpoint

        return load_checkpoint(exact_or(Path(path))).document
    examined = examine_file(Path(path))
    for warning in examined.warnings:
        warnings.warn(render(warning, source_of(warning, examined.sources)), stacklevel=2)
    if examined.loaded is None:
        raise DiagnosticError(examined.errors, examined.sources)
    return examined.loaded.document


def plan(source: Source) -> Plan:
    """The plan of an organism: each dimension a number, each weight with its shape, and what a token costs.

    Loads no torch.

    Raises:
        DiagnosticError: as `load`.

    >>> found = plan("examples/first.yaml")
    >>> found.parameters, list(found.layers)[0]
    (824448, 'stages.body.0')
    >>> found.weights["stages.body.0.mixer.q"].shape
    (128, 128)
    """
    return resolve(document_of(source).organism)


def diff(before: Source, after: Source) -> Patch:
    """The patch that turns one document into another, by their canonical forms; false where they are equal.

    Raises:
        DiagnosticError: as `load`.

    >>> print(diff("examples/minimal.yaml", "examples/minimal.yaml") or "no difference")
    no difference
    """
    return patches.diff(document_of(before), document_of(after))


def apply(patch: Patch | File, document: Source) -> Document:
    """The changed document. patch: what `diff` gives, or the path of a file that `evo diff --patch` wrote.

    Raises:
        DiagnosticError: as `load`; no patch (EVO401); an edit that does not fit (EVO400); everything that is wrong with
            the result.

    >>> first, minimal = load("examples/first.yaml"), load("examples/minimal.yaml")
    >>> apply(diff(first, minimal), first) == minimal
    True
    """
    if not isinstance(patch, Patch):
        node, text = read_file(Path(patch))
        patch = patch_from_node(node, text)
    return require_valid(patches.apply(patch, document_of(document)))


def document_of(source: Source) -> Document:
    """The document that a source stands for. Raises DiagnosticError, as `load`."""
    return source if isinstance(source, Document) else load(source)


def holds_tensors(path: File) -> bool:
    """Whether a file is made as safetensors are: it begins with a length of 8 bytes, most of them zero, and a brace."""
    try:
        with Path(path).open("rb") as file:
            head = file.read(9)
    except OSError:
        return False
    return head[8:] == b"{" and head[4:8] == bytes(4)
