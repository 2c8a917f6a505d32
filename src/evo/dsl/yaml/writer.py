"""From plain data to the one spelling that `evo fmt` writes.

Block style for the skeleton; a value that holds only scalars, and fits on the line, is written in flow style, so that
an evolved block reads as one line and a diff shows only what changed.
"""

from __future__ import annotations

import math

from evo.dsl.yaml.nodes import Data, Scalar
from evo.dsl.yaml.scalars import needs_quotes

LINE = 120


def write(data: Data) -> str:
    """Plain data (mappings with text keys, lists, scalars) as YAML; `read(write(data)).plain() == data`."""
    return "\n".join(_block(data, 0)) + "\n"


def number(value: float) -> str:
    """The shortest spelling of a float that reads back equal and stays a float: 0.001 is `1e-3`, 3.0 is `3.0`."""
    if math.isnan(value) or math.isinf(value):
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    text = repr(value)
    if "e" not in text and (value == 0 or abs(value) >= 1e-2):
        return text
    shortest = next(text for digits in range(17) if float(text := f"{value:.{digits}e}") == value)
    mantissa, _, exponent = shortest.partition("e")
    return f"{mantissa}e{int(exponent)}"


def scalar(value: Scalar) -> str:
    """One scalar as YAML 1.2 text."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return number(value)
    if isinstance(value, int):
        return str(value)
    return _quoted(value) if needs_quotes(value) else value


def _quoted(text: str) -> str:
    return '"' + "".join(c if c.isprintable() and c not in '"\\' else _escaped(c) for c in text) + '"'


def _escaped(character: str) -> str:
    if short := {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t"}.get(character):
        return short
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def flow(data: Data) -> str:
    """Data in flow style, on one line."""
    if isinstance(data, dict):
        return "{" + ", ".join(f"{scalar(key)}: {flow(value)}" for key, value in data.items()) + "}"
    if isinstance(data, list | tuple):
        return "[" + ", ".join(flow(item) for item in data) + "]"
    return scalar(data)


def _block(data: Data, indent: int) -> list[str]:
    pad = " " * indent
    if isinstance(data, dict) and data:
        lines: list[str] = []
        for key, value in data.items():
            lines += _entry(f"{pad}{scalar(key)}:", value, indent)
        return lines
    if isinstance(data, list | tuple) and data:
        lines = []
        for item in data:
            lines += _entry(f"{pad}-", item, indent)
        return lines
    return [pad + flow(data)]


def _entry(head: str, value: Data, indent: int) -> list[str]:
    one_line = f"{head} {flow(value)}"
    if not isinstance(value, dict | list | tuple) or not value or (_is_leaf(value) and len(one_line) <= LINE):
        return [one_line]
    body = _block(value, indent + 2)
    if head.endswith("-"):
        return [f"{head} {body[0].lstrip()}", *body[1:]]
    return [head, *body]


def _is_leaf(value: dict[str, Data] | list[Data] | tuple[Data, ...]) -> bool:
    """Whether the value is one block's settings, or a list of plain values: things that read best on one line."""
    if isinstance(value, dict):
        return "kind" in value or len(value) == 1 or not any(isinstance(v, dict | list) for v in value.values())
    return not any(isinstance(item, dict | list) for item in value)
