"""From plain data to the one spelling that `evo fmt` writes.

Block style for the skeleton; a value that holds only scalars, and fits on the line, is written in flow style, so that
an evolved block reads as one line and a diff shows only what changed.
"""

from __future__ import annotations

import json
import math
from typing import Any

from evo.dsl.yaml.scalars import needs_quotes

LINE = 120


def write(data: Any) -> str:
    """Plain data (mappings with text keys, lists, scalars) as YAML; `read(write(data)).plain() == data`."""
    return "\n".join(_block(data, 0)) + "\n"


def number(value: float) -> str:
    """The shortest spelling of a float that reads back equal and stays a float: 0.001 is `1e-3`, 3.0 is `3.0`."""
    if math.isnan(value) or math.isinf(value):
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    text = repr(value)
    if "e" not in text and (value == 0 or abs(value) >= 1e-2):
        return text
    mantissa, _, exponent = f"{value:e}".partition("e")
    for digits in range(17):
        mantissa, _, exponent = f"{value:.{digits}e}".partition("e")
        if float(f"{mantissa}e{exponent}") == value:
            break
    return f"{mantissa}e{int(exponent)}"


def scalar(value: Any) -> str:
    """One scalar as YAML 1.2 text."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return number(value)
    if isinstance(value, int):
        return str(value)
    return json.dumps(value, ensure_ascii=False) if needs_quotes(value) else value


def flow(data: Any) -> str:
    """Data in flow style, on one line."""
    if isinstance(data, dict):
        return "{" + ", ".join(f"{scalar(str(key))}: {flow(value)}" for key, value in data.items()) + "}"
    if isinstance(data, list | tuple):
        return "[" + ", ".join(flow(item) for item in data) + "]"
    return scalar(data)


def _block(data: Any, indent: int) -> list[str]:
    pad = " " * indent
    if isinstance(data, dict) and data:
        lines: list[str] = []
        for key, value in data.items():
            lines += _entry(f"{pad}{scalar(str(key))}:", value, indent)
        return lines
    if isinstance(data, list | tuple) and data:
        lines = []
        for item in data:
            lines += _entry(f"{pad}-", item, indent)
        return lines
    return [pad + flow(data)]


def _entry(head: str, value: Any, indent: int) -> list[str]:
    one_line = f"{head} {flow(value)}"
    if not isinstance(value, dict | list | tuple) or not value or (_is_leaf(value) and len(one_line) <= LINE):
        return [one_line]
    body = _block(value, indent + 2)
    if head.endswith("-"):
        return [f"{head} {body[0].lstrip()}", *body[1:]]
    return [head, *body]


def _is_leaf(value: Any) -> bool:
    """Whether the value is one block's settings, or a list of plain values: things that read best on one line."""
    if isinstance(value, dict):
        return "kind" in value or len(value) == 1 or not any(isinstance(v, dict | list) for v in value.values())
    return not any(isinstance(item, dict | list) for item in value)
