"""From a traced graph to readable Python: a function for each different block, and one that calls them."""

from __future__ import annotations

import builtins
import keyword
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.fx import Node

INFIX = {
    "add.Tensor": "+", "mul.Tensor": "*", "sub.Tensor": "-", "div.Tensor": "/", "matmul.default": "@",
}  # fmt: skip
PYTHON = {
    operator.add: "+", operator.mul: "*", operator.sub: "-", operator.floordiv: "//", operator.eq: "==",
    operator.ge: ">=", operator.le: "<=", operator.lt: "<", operator.gt: ">",
}  # fmt: skip
SILENT = ("_assert_tensor_metadata", "_assert_scalar", "sym_constrain_range_for_size")
"""Operations that check the trace and compute nothing."""
HERE = ("pin_memory", "layout")
"""Settings of where a tensor lies that are left to torch."""
FAR = 2**63 - 1
"""How an open end of a slice is traced."""
DEEP = 4
"""How many names lead to a block of a layer: `stages.body.0.mixer`."""
FOUR_SPACES = "    "


@dataclass
class Segment:
    """Consecutive operations of one block. path: where it stands; title: what it is."""

    path: str
    title: str
    nodes: list[Node] = field(default_factory=list[Node])


@dataclass
class Program:
    """The text of all functions and of `forward`, and the constants that it reads, by name."""

    functions: list[str] = field(default_factory=list[str])
    forward: str = ""
    constants: dict[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])


def write(nodes: Sequence[Node], weights: dict[str, str], constants: dict[str, torch.Tensor]) -> Program:
    """The program of a flat graph.

    Args:
        nodes: in order, placeholders and the output included.
        weights: the path of the weight that a placeholder stands for. constants: the value of one that stands for that.
    """
    return _Writer(weights, constants).program(nodes)


class _Writer:
    """Writes one graph. Names of values are made anew in each function, so that equal blocks have equal text."""

    def __init__(self, weights: dict[str, str], constants: dict[str, torch.Tensor]) -> None:
        self.weights, self.values = weights, constants
        self.out = Program()
        self.known: dict[str, str] = {}  # from the text of a function to its name
        self.names: dict[str, int] = {}

    def program(self, nodes: Sequence[Node]) -> Program:
        scope = _Scope(self, "", "tokens")
        lines: list[str] = []
        for segment in segments(nodes):
            if segment.path:
                lines += self._call(segment, scope)
            else:
                lines += [line for node in segment.nodes for line in scope.lines(node)]
        self.out.forward = "\n".join(FOUR_SPACES + line for line in lines)
        return self.out

    def _call(self, segment: Segment, outer: _Scope) -> Iterator[str]:
        """A call of the function of a segment, which is written if there is no equal one yet."""
        own = set(segment.nodes)
        inner = _Scope(self, segment.path, None)
        lines = [line for node in segment.nodes for line in inner.lines(node)]
        results = [node for node in segment.nodes if any(user not in own for user in node.users)]
        if not results:
            return
        values = ", ".join(inner.name(node) for node in results)
        head = ", ".join(["w", *(inner.arguments[node] for node in inner.arguments)])
        body = "\n".join(FOUR_SPACES + line for line in [*lines, f"return {values}"])
        text = f"({head}):\n{body}"
        name = self.known.get(f"{segment.title}{text}")
        if name is None:
            name = self.known[f"{segment.title}{text}"] = self._fresh(segment.title)
            self.out.functions.append(f"def {name}{text}")
        given = ", ".join([f'w.at("{segment.path}")', *(outer.name(node) for node in inner.arguments)])
        yield f"{', '.join(outer.assigned(node, f'{segment.title.lower()}_out') for node in results)} = {name}({given})"

    def _fresh(self, title: str) -> str:
        count = self.names[title] = self.names.get(title, 0) + 1
        return title if count == 1 else f"{title}_{count}"


class _Scope:
    """The names of values within one function. path: weights below it are read; other values come as arguments."""

    def __init__(self, writer: _Writer, path: str, tokens: str | None) -> None:
        self.writer, self.path, self.tokens = writer, path, tokens
        self.taken: dict[str, int] = {"w": 1, "tokens": 1}
        self.given: dict[Node, str] = {}
        self.arguments: dict[Node, str] = {}

    def assigned(self, node: Node, title: str) -> str:
        """A fresh name for a value."""
        count = self.taken[title] = self.taken.get(title, 0) + 1
        is_taken = keyword.iskeyword(title) or hasattr(builtins, title)
        self.given[node] = f"{title}_{count}" if count > 1 or is_taken else title
        return self.given[node]

    def name(self, node: Node) -> str:
        """How a value is said here."""
        weight = self.writer.weights.get(node.name)
        if weight is not None and weight.startswith(f"{self.path}." if self.path else ""):
            return f'w["{weight[len(self.path) + 1 :] if self.path else weight}"]'
        if node in self.given:
            return self.given[node]
        if self.tokens is not None:
            return self._outermost(node)
        self.arguments[node] = self.given[node] = f"x{len(self.arguments) or ''}"
        return self.given[node]

    def _outermost(self, node: Node) -> str:
        value = self.writer.values.get(node.name)
        if value is None:
            return "tokens"
        known = self.writer.out.constants
        for name, other in known.items():
            if other.dtype == value.dtype and other.shape == value.shape and torch.equal(other, value):
                return f'w["{name}"]'
        known[name := f"constants.{len(known)}"] = value
        return f'w["{name}"]'

    def lines(self, node: Node) -> Iterator[str]:
        """The statements of a node: one or none."""
        if node.op == "output":
            results: Any = node.args[0]
            yield f"return {self.name(results[0])}"
        if node.op != "call_function":
            return
        target: Any = node.target
        title = _title(target)
        if title in SILENT or (not node.users and not title.endswith("_")):
            return
        if _changes_nothing(node, title):
            given: Any = node.args[0]
            self.given[node] = self.name(given)
            return
        text = self._expression(node, target, title)
        if not node.users:
            yield text
        else:
            yield f"{self.assigned(node, title.strip('_'))} = {text}"

    def _expression(self, node: Node, target: Any, title: str) -> str:
        if target is operator.getitem:
            return f"{self.literal(node.args[0])}[{node.args[1]}]"
        sign = PYTHON.get(target) or INFIX.get(str(target).removeprefix("aten."))
        if sign is not None and not node.kwargs:
            return f"{self.literal(node.args[0])} {sign} {self.literal(node.args[1])}"
        if title in ("slice", "select"):
            return self._indexed(node, title)
        if title == "sym_size":
            return f"{self.literal(node.args[0])}.shape[{node.args[1]}]"
        named = {key: value for key, value in node.kwargs.items() if key not in HERE and value is not None}
        given = [self.literal(item) for item in node.args]
        given += [f"{key}={self.literal(value)}" for key, value in named.items()]
        return f"aten.{title}({', '.join(given)})"

    def _indexed(self, node: Node, title: str) -> str:
        """`x[:, a:b]`, or `x[:, i]`."""
        x: Any = node.args[0]
        dim: Any
        dim, *ends = [*node.args[1:], *((0,) if title == "slice" and len(node.args) < 3 else ())]
        axis = int(dim) % x.meta["val"].ndim
        words = [
            "" if end in (None, FAR) or (end == 0 and at == 0) else self.literal(end) for at, end in enumerate(ends)
        ]
        last = ":".join(words if len(words) > 1 else [*words, ""]) if title == "slice" else self.literal(ends[0])
        return f"{self.literal(x)}[{', '.join([*[':'] * axis, last])}]"

    def literal(self, item: Any) -> str:
        """An argument as Python."""
        if isinstance(item, Node):
            return self.name(item)
        if isinstance(item, (list, tuple)):
            return f"[{', '.join(self.literal(part) for part in item)}]"
        if isinstance(item, torch.device):
            return "w.device"
        if isinstance(item, float) and item in (float("inf"), -float("inf")):
            return f'float("{item}")'
        return str(item) if isinstance(item, (torch.dtype, torch.memory_format, torch.layout)) else repr(item)


def _changes_nothing(node: Node, title: str) -> bool:
    """Whether a value is what it is made of: a change to its own dtype, a product with 1."""
    x = node.args[0] if node.args else None
    before, after = (x.meta.get("val"), node.meta.get("val")) if isinstance(x, Node) else (None, None)
    if not isinstance(before, torch.Tensor) or not isinstance(after, torch.Tensor) or before.dtype != after.dtype:
        return False
    is_one = title == "mul" and len(node.args) == 2 and isinstance(node.args[1], float) and node.args[1] == 1.0
    return is_one or (title == "to" and before.device == after.device and not node.kwargs.get("copy"))


def _title(target: Any) -> str:
    """What an operation is called: `aten.add.Tensor` is `add`."""
    return str(target).split(".")[1] if isinstance(target, torch._ops.OpOverload) else target.__name__


def segments(nodes: Sequence[Node]) -> Iterator[Segment]:
    """Runs of operations of one block; those of no block, and what has no place in one, have no path."""
    last: Segment | None = None
    for node in nodes:
        path, title = place(node)
        if last is None or last.path != path:
            if last is not None and last.nodes:
                yield last
            last = Segment(path, title)
        last.nodes.append(node)
    if last is not None:
        yield last


def place(node: Node) -> tuple[str, str]:
    """The path of the block of a layer that an operation belongs to, and the block's class."""
    stack: dict[str, tuple[str, Any]] = node.meta.get("nn_module_stack") or {}
    for path, kind in stack.values():
        if path.count(".") == DEEP - 1:
            name = kind if isinstance(kind, str) else kind.__qualname__
            return path, name.rpartition(".")[2]
    return "", ""
