"""The prose of spec classes: the docstrings that stand under their fields, read from the source when somebody asks.

Pydantic can collect them while it builds a class, but that reads and parses every file at start-up.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from functools import cache
from itertools import pairwise

from evo.dsl.spec import Spec


def summary(cls: type[Spec]) -> str:
    """The docstring of a spec class, on one line a paragraph."""
    return inspect.cleandoc(cls.__doc__ or "")


def first_sentence(text: str) -> str:
    """The first paragraph up to its first full stop, without it; "et al." and an ellipsis end no sentence."""
    paragraph = " ".join(text.split("\n\n")[0].split())
    return re.split(r"(?<!\bal)(?<!\.)\. (?=[A-Z`])", paragraph, maxsplit=1)[0].rstrip(".")


@cache
def field_docs(cls: type[Spec]) -> dict[str, str]:
    """The docstring of each field of a spec class by field name, inherited ones included."""
    docs: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if issubclass(base, Spec):
            docs.update(_own_docs(base))
    return {name: docs[name] for name in cls.model_fields if name in docs}


@cache
def _own_docs(cls: type[Spec]) -> dict[str, str]:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    except (OSError, SyntaxError):
        return {}  # a class without source, from another package: it has no prose to show
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    return {
        field.target.id: inspect.cleandoc(text.value.value)
        for field, text in pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and isinstance(text.value.value, str)
    }
