"""What a plain scalar means under YAML 1.2's core schema: `1e-3` is a number, `on` is text, `012` is twelve."""

from __future__ import annotations

import re

from evo.dsl.yaml.nodes import Scalar

_INT = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
    ".nan": float("nan"), ".NaN": float("nan"), ".NAN": float("nan"),
}  # fmt: skip
_INF = re.compile(r"([-+]?)\.(inf|Inf|INF)")
_MAX_DIGITS = 400  # longer numbers are text: converting them is quadratic and no field could hold them


def resolve_scalar(text: str) -> Scalar:
    """The value that an unquoted scalar stands for."""
    if text in _SPECIAL:
        return _SPECIAL[text]
    if len(text) > _MAX_DIGITS:
        return text
    if _INT.fullmatch(text):
        return int(text)
    if _BASED.fullmatch(text):
        return int(text[2:], 8 if text[1] == "o" else 16)
    if _FLOAT.fullmatch(text):
        return float(text)
    if match := _INF.fullmatch(text):
        return float(f"{match[1]}inf")
    return text


def needs_quotes(text: str) -> bool:
    """Whether this text, written plain, would be read as something else or not at all."""
    if resolve_scalar(text) != text or text != text.strip():
        return True
    if not text.isprintable() or text[0] in "-?:,[]{}#&*!|>'\"%@`":
        return True
    return ": " in text or " #" in text or text.endswith(":") or any(c in text for c in ",?[]{}")
