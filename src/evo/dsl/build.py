"""From nodes to specs: every fault of a document at once, each with its place.

Children are built first and handed to their parent as instances, so pydantic sees one flat class at a time and its
error locations are plain field names.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from evo.base.diagnostics import Diagnostic, suggestion
from evo.dsl.index import DEFAULT_KIND, FORMS, form_class, kind_class, kinds
from evo.dsl.spec import FieldShape, Spec, shapes
from evo.dsl.yaml import Node

Path = tuple[str | int, ...]


class _Failed:
    """Stands for a value whose own diagnostics are already collected."""


FAILED = _Failed()


@dataclass
class Builder:
    """Collects diagnostics while it turns the node tree under `root` into specs."""

    root: Node
    diagnostics: list[Diagnostic] = field(default_factory=list[Diagnostic])

    def spec(self, cls: type[Spec], path: Path) -> Spec | _Failed:
        """The node at `path` as an instance of `cls`."""
        node = self._node(path)
        if not isinstance(node.value, dict):
            return self._fail("EVO202", path, f"expected a mapping here, found {_found(node)}")
        known = shapes(cls)
        values: dict[str, Any] = {}
        failed: set[str] = set()
        for key in node.value:
            if key == "kind" and cls.kind is not None:
                continue
            if key not in known:
                self._unknown_key(cls, (*path, key))
                continue
            name = known[key].name
            value = self._field(known[key], (*path, key))
            if value is FAILED:
                failed.add(name)
            else:
                values[name] = value
        return self._validate(cls, values, failed, path)

    def _field(self, shape: FieldShape, path: Path) -> Any:
        node = self._node(path)
        if node.value is None and not shape.info.is_required() and (shape.kind or shape.nested or shape.many):
            if shape.default is None:
                return None
            return self._fail("EVO202", path, "expected a value here, found null", "leave the key out for the default")
        if shape.table:
            return self._table(shape, path)
        if shape.many:
            return self._list(shape, path)
        return self._one(shape, path)

    def _one(self, shape: FieldShape, path: Path) -> Any:
        node = self._node(path)
        if shape.kind:
            if shape.names and isinstance(node.value, str):
                return node.value
            return self._kind(shape.kind.role, path)
        if shape.nested:
            return self.spec(shape.nested, path)
        return node.plain()

    def _table(self, shape: FieldShape, path: Path) -> Any:
        node = self._node(path)
        if not isinstance(node.value, dict):
            return self._fail("EVO202", path, f"expected a mapping of names here, found {_found(node)}")
        values = {key: self._one(shape, (*path, key)) for key in node.value}
        return FAILED if any(value is FAILED for value in values.values()) else values

    def _list(self, shape: FieldShape, path: Path) -> Any:
        node = self._node(path)
        assert shape.many is not None
        if not isinstance(node.value, tuple):
            if not shape.many.bare:
                return self._fail("EVO202", path, f"expected a list here, found {_found(node)}")
            value = self._one(shape, path)
            return value if value is FAILED else (value,)
        values = tuple(self._one(shape, (*path, index)) for index in range(len(node.value)))
        return FAILED if any(value is FAILED for value in values) else values

    def _kind(self, role: str, path: Path) -> Spec | _Failed:
        node = self._node(path)
        known = kinds(role)
        if not isinstance(node.value, dict):
            hint = f"write {{kind: {node.value}}}" if node.value in known else f"known {role} kinds: {', '.join(known)}"
            return self._fail("EVO202", path, f"expected a mapping with a `kind` here, found {_found(node)}", hint)
        if "kind" not in node.value:
            return self._form(role, node, path)
        kind = node.value["kind"].node.value
        if not isinstance(kind, str) or kind not in known:
            shown = kind if isinstance(kind, str) else _found(node.value["kind"].node)
            help = f"{suggestion(str(kind), known)}known {role} kinds: {', '.join(known)}"
            return self._fail("EVO210", (*path, "kind"), f"unknown {role} kind '{shown}'", help)
        return self.spec(kind_class(role, kind), path)

    def _form(self, role: str, node: Node, path: Path) -> Spec | _Failed:
        assert isinstance(node.value, dict)
        for key in FORMS.get(role, {}):
            if key in node.value:
                return self.spec(form_class(role, key), path)
        if role in DEFAULT_KIND:
            return self.spec(kind_class(role, DEFAULT_KIND[role]), path)
        options = [*kinds(role), *(f"{{{key}: ...}}" for key in FORMS.get(role, {}))]
        return self._fail("EVO211", path, f"this {role} has no `kind`", f"known {role} kinds: {', '.join(options)}")

    def _validate(self, cls: type[Spec], values: dict[str, Any], failed: set[str], path: Path) -> Spec | _Failed:
        try:
            spec = cls.model_validate(values)
        except ValidationError as error:
            for detail in error.errors(include_url=False, include_context=True):
                if not (detail["loc"] and detail["loc"][0] in failed):
                    self._invalid(cls, detail, path)
            return FAILED
        return FAILED if failed else spec

    def _invalid(self, cls: type[Spec], detail: ErrorDetails, path: Path) -> None:
        key = str(detail["loc"][0]).rstrip("_") if detail["loc"] else ""
        where = (*path, key) if key else path
        if detail["type"] == "missing":
            self._add("EVO201", path, f"'{key}' is missing{_of(cls)}")
            return
        found, label = _value(detail["input"]), f"'{key}' " if key else ""
        if detail["type"] in ("literal_error", "enum"):
            expected = detail.get("ctx", {}).get("expected", "")
            words = [word.strip("' ") for word in expected.replace(" or ", ", ").split(",")]
            hint = suggestion(str(detail["input"]), words) if isinstance(detail["input"], str) else ""
            self._add("EVO204", where, f"{label}cannot be {found}", f"{hint}one of: {', '.join(words)}")
            return
        bounds = ("greater_than", "less_than", "too_short", "too_long", "finite_number", "string_pattern_mismatch")
        code = "EVO203" if detail["type"].startswith(bounds) else "EVO202"
        if detail["type"] in ("value_error", "assertion_error"):
            code = "EVO203"
        text = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
        self._add(code, where, f"{label}{text[:1].lower()}{text[1:]}, found {found}")

    def _unknown_key(self, cls: type[Spec], path: Path) -> None:
        known = list(shapes(cls))
        span = self.root.key_at(path)
        help = f"{suggestion(str(path[-1]), known)}known keys: {', '.join(known)}" if known else "it has no settings"
        self.diagnostics.append(Diagnostic("EVO200", f"unknown key '{_clip(str(path[-1]))}'{_of(cls)}", span, help))

    def _node(self, path: Path) -> Node:
        node = self.root
        for step in path:
            child = node.child(step)
            assert child is not None, path
            node = child
        return node

    def _fail(self, code: str, path: Path, message: str, help: str | None = None) -> _Failed:
        self._add(code, path, message, help)
        return FAILED

    def _add(self, code: str, path: Path, message: str, help: str | None = None) -> None:
        self.diagnostics.append(Diagnostic(code, message, self.root.at(path), help))


def _of(cls: type[Spec]) -> str:
    return f" in {cls.kind or cls.__name__.removesuffix('Spec').lower()}"


def _found(node: Node) -> str:
    if isinstance(node.value, dict):
        return "a mapping"
    return "a list" if isinstance(node.value, tuple) else _value(node.value)


def _value(value: Any) -> str:
    if isinstance(value, dict | list | tuple | Spec):
        return "a mapping" if isinstance(value, dict | Spec) else "a list"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return f"'{_clip(value)}'" if isinstance(value, str) else _clip(str(value))


def _clip(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
