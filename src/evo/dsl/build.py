"""From nodes to specs: every fault of a document at once, each with its place.

Children are built first and handed to their parent as instances, so pydantic sees one flat class at a time and its
error locations are plain field names.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from evo.base.diagnostics import Diagnostic, suggestion
from evo.dsl.foreign import EXAMPLES, KEYS, VALUES, spelling
from evo.dsl.index import DEFAULT_KIND, is_kind, keyed, kind_class, tagged
from evo.dsl.spec import Spec, SpecField, spec_fields, written
from evo.dsl.yaml import Data, Node

Path = tuple[str | int, ...]


_OUT_OF_RANGE = ("greater_than", "less_than", "finite_number", "string_too", "multiple_of", "value_error")


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
        known = spec_fields(cls)
        values: dict[str, Any] = {}
        failed: set[str] = set()
        for key in node.value:
            if key == "kind" and cls.kind is not None:
                continue
            if key not in known:
                meant = self._unknown_key(cls, (*path, key))
                if meant in known and known[meant].info.is_required():
                    failed.add(known[meant].name)  # told already, as a slip of the pen
                continue
            name = known[key].name
            value = self._field(known[key], (*path, key))
            if value is FAILED:
                failed.add(name)
            else:
                values[name] = value
        return self._validate(cls, values, failed, path)

    def kind(self, role: str, path: Path) -> Spec | _Failed:
        """The node at `path` as a spec of a role."""
        return self._kind(role, path)

    def _field(self, shape: SpecField, path: Path) -> Any:
        node = self._node(path)
        if node.value is None and not shape.info.is_required() and (shape.kind or shape.nested or shape.many):
            if shape.takes_null:
                return None
            return self._fail("EVO202", path, "expected a value here, found null", "leave the key out for the default")
        if shape.table:
            return self._table(shape, path)
        if shape.many:
            return self._list(shape, path)
        return self._one(shape, path)

    def _one(self, shape: SpecField, path: Path) -> Any:
        node = self._node(path)
        if shape.kind:
            if shape.names and isinstance(node.value, str):
                return node.value
            if shape.numbers and isinstance(node.value, int | float):
                return node.value
            if shape.words and isinstance(node.value, str):
                return node.value if node.value in shape.words else self._no_word(shape, path)
            return self._kind(shape.kind.role, path)
        if shape.nested:
            return self.spec(shape.nested, path)
        return node.plain()

    def _table(self, shape: SpecField, path: Path) -> Any:
        node = self._node(path)
        if not isinstance(node.value, dict):
            foreign = KEYS.get(str(path[-1]))
            help = f"what other tools call {path[-1]} is {foreign}" if foreign else None
            return self._fail("EVO202", path, f"expected a mapping of names here, found {_found(node)}", help)
        values = {key: self._one(shape, (*path, key)) for key in node.value}
        return FAILED if any(value is FAILED for value in values.values()) else values

    def _list(self, shape: SpecField, path: Path) -> Any:
        node = self._node(path)
        assert shape.many is not None
        if not isinstance(node.value, tuple):
            if not shape.many.bare:
                first = next(iter(node.value), "") if isinstance(node.value, dict) else ""
                help = f"an entry of a list begins with a dash: `- {first}: ...`" if first else None
                return self._fail("EVO202", path, f"expected a list here, found {_found(node)}", help)
            value = self._one(shape, path)
            return value if value is FAILED else (value,)
        values = tuple(self._one(shape, (*path, index)) for index in range(len(node.value)))
        return FAILED if any(value is FAILED for value in values) else values

    def _kind(self, role: str, path: Path) -> Spec | _Failed:
        node = self._node(path)
        if not isinstance(node.value, dict) and not tagged(role):
            options = " or ".join(f"{{{key}: ...}}" for key in keyed(role))
            return self._fail("EVO202", path, f"expected {options} here, found {_found(node)}")
        if not isinstance(node.value, dict):
            is_known = isinstance(node.value, str) and is_kind(role, node.value)
            hint = f"write {written(kind_class(role, str(node.value)))}" if is_known else self._kinds(role, node.value)
            return self._fail("EVO202", path, f"expected a mapping with a `kind` here, found {_found(node)}", hint)
        if "kind" not in node.value:
            return self._untagged(role, node.value, path)
        kind = node.value["kind"].node
        if isinstance(kind.value, str) and is_kind(role, kind.value):
            cls = kind_class(role, kind.value)
            if not cls.is_keyed:
                return self.spec(cls, path)
            message = f"{kind.value} is written without `kind`"
            return self._fail("EVO210", (*path, "kind"), message, f"write {{{kind.value}: ...}}")
        message = f"unknown {role} kind {_found(kind)}"
        return self._fail("EVO210", (*path, "kind"), message, self._kinds(role, kind.value))

    def _kinds(self, role: str, word: object) -> str:
        """What to write for a word that is no kind of a role, and which kinds that has."""
        hint = _inside(role, word) or self._advice(word, tagged(role))
        return f"{hint}known {role} kinds: {', '.join(tagged(role))}"

    def _no_word(self, shape: SpecField, path: Path) -> _Failed:
        """Tells of text that is none of the words of a field that takes a spec of a role too."""
        word = self._node(path).value
        assert shape.kind is not None
        assert isinstance(word, str)
        role = shape.kind.role
        is_known = is_kind(role, word)
        hint = f"write {written(kind_class(role, word))}; " if is_known else self._advice(word, shape.words)
        help = f"{hint}one of: {', '.join(shape.words)}; or a mapping with a `kind`"
        return self._fail("EVO204", path, f"'{path[-1]}' cannot be '{_clip(word)}'", help)

    def _untagged(self, role: str, keys: Iterable[str], path: Path) -> Spec | _Failed:
        """A mapping without `kind`: a kind that is told by one of its keys, or the role's default."""
        default = kind_class(role, DEFAULT_KIND[role]) if role in DEFAULT_KIND else None
        others = [key for key in keys if default is None or key not in spec_fields(default)]
        named = ((key, kind_class(role, key)) for key in others if is_kind(role, key))
        cls = next((cls for key, cls in named if cls.is_keyed and self._may_tell(cls, key, path)), default)
        if cls is not None:
            return self.spec(cls, path)
        options = [*tagged(role), *(f"{{{key}: ...}}" for key in keyed(role))]
        wanted = "`kind`" if tagged(role) else "key that tells its kind"
        help = f"{''.join(_apart(key, ('kind',)) for key in keys)}known {role} kinds: {', '.join(options)}"
        return self._fail("EVO211", path, f"this {role} has no {wanted}", help)

    def _may_tell(self, cls: type[Spec], key: str, path: Path) -> bool:
        """Whether what stands under the key that tells a kind is more than a count where specs are expected."""
        shape = spec_fields(cls)[key]
        return not (shape.kind and isinstance(self._node((*path, key)).value, int))

    def _validate(self, cls: type[Spec], values: dict[str, Any], failed: set[str], path: Path) -> Spec | _Failed:
        try:
            spec = cls.model_validate(values)
        except ValidationError as error:
            seen: set[Path] = set()
            for detail in error.errors(include_url=False):
                where = self._existing(path, detail["loc"])
                if not (detail["loc"] and detail["loc"][0] in failed) and (where not in seen or where == path):
                    self._invalid(cls, detail, path, where)
                seen.add(where)  # a union complains once for each of its members
            return FAILED
        return FAILED if failed else spec

    def _existing(self, path: Path, loc: Path) -> Path:
        """The place in the document that pydantic's location within one spec speaks of."""
        node = self._node(path)
        for step in loc:
            child = node.child(step.removesuffix("_") if isinstance(step, str) else step)
            if child is None:
                break
            path, node = (*path, step.removesuffix("_") if isinstance(step, str) else step), child
        return path

    def _invalid(self, cls: type[Spec], detail: ErrorDetails, path: Path, where: Path) -> None:
        key = str(detail["loc"][0]).removesuffix("_") if detail["loc"] else ""
        fault, found, context = detail["type"], _value(detail["input"]), detail.get("ctx", {})
        if fault == "missing":
            self._add("EVO201", path, f"'{key}' is missing{_of(cls)}", EXAMPLES.get(key))
        elif fault == "literal_error":
            words = [word.strip("' ") for word in context["expected"].replace(" or ", ", ").split(",")]
            hint = self._advice(detail["input"], words)
            self._add("EVO204", where, f"'{key}' cannot be {found}", f"{hint}one of: {', '.join(words)}")
        elif fault == "string_pattern_mismatch":
            self._add_name(where, detail)
        elif fault in ("too_short", "too_long"):
            bound = f"at least {context['min_length']}" if fault == "too_short" else f"at most {context['max_length']}"
            self._add("EVO203", where, f"'{key}' takes {bound} of them, found {context['actual_length']}")
        else:
            text = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
            code = "EVO203" if fault.startswith(_OUT_OF_RANGE) else "EVO202"
            help = spelling(detail["input"], fault, key in spec_fields(cls) and _is_optional(spec_fields(cls)[key]))
            self._add(code, where, f"'{key}' {text[:1].lower()}{text[1:]}, found {found}", help)

    def _add_name(self, where: Path, detail: ErrorDetails) -> None:
        is_key = detail["loc"][-1] == "[key]"
        span = self.root.key_at(where) if is_key else self.root.at(where)
        help = "letters, digits, _ and -; the first is a letter or _"
        self.diagnostics.append(Diagnostic("EVO203", f"{_value(detail['input'])} is not a name", span, help))

    def _unknown_key(self, cls: type[Spec], path: Path) -> str:
        """Tells of a key that the class does not have; the key that was meant, if that is clear."""
        known, word = list(spec_fields(cls)), str(path[-1])
        foreign, apart = KEYS.get(word.lower()), _apart(word, known)
        hint = apart or _sections(cls, word) or self._suggestion(word, known)
        listed = f"known keys: {', '.join(known)}" if known else "it has no settings"
        help = f"in evo: {foreign}" if foreign else f"{hint}{listed}"
        message = f"unknown key '{_clip(str(path[-1]))}'{_of(cls)}"
        self.diagnostics.append(Diagnostic("EVO200", message, self.root.key_at(path), help))
        if foreign:
            return foreign.split("`")[1] if "`" in foreign else ""
        return word.partition(":")[0] if apart else hint.split("'")[1] if hint.startswith("did you mean") else ""

    def _advice(self, value: object, known: Iterable[str]) -> str:
        """What to write for a value that is none of some words; never a near word that means another thing."""
        if not isinstance(value, str):
            return ""
        foreign = VALUES.get(value.lower())
        if foreign:
            return f"{foreign}; "
        parts = value.lower().replace("-", "_").split("_")
        return self._suggestion(value, [word for word in known if not _is_another(word.split("_"), parts)])

    def _suggestion(self, word: str, known: Iterable[str]) -> str:
        """Finding close words is slow: a file with hundreds of faults is no typing error."""
        return suggestion(word, known) if len(self.diagnostics) < 100 else ""

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


def _is_another(word: list[str], value: list[str]) -> bool:
    """Whether two words have a part in common, as two functions of one family do, and no slip of the pen explains the
    rest."""
    rest, other = ([part for part in one if part not in two] for one, two in ((value, word), (word, value)))
    return len(rest) < len(value) and not suggestion("_".join(rest), ["_".join(other)])


def _is_optional(shape: SpecField) -> bool:
    return type(None) in get_args(shape.info.annotation)


def _sections(cls: type[Spec], key: str) -> str:
    """Where a key stands that the class does not have, and a section of it does."""
    found = [
        f"{name}.{key}" for name, field in spec_fields(cls).items() if field.nested and key in spec_fields(field.nested)
    ]
    return f"write {' or '.join(found)}; " if found else ""


def _apart(word: str, known: Iterable[str]) -> str:
    """What to write for a key and its value that no space stands between: to YAML they are one word."""
    key, colon, value = word.partition(":")
    return f"put a space behind the colon: `{key}: {_clip(value) or '...'}`; " if colon and key in known else ""


def _inside(role: str, word: object) -> str:
    """Where a word belongs that is no kind of a role, but of one of the fields of the role's usual kind."""
    if role not in DEFAULT_KIND or not isinstance(word, str):
        return ""
    usual = kind_class(role, DEFAULT_KIND[role])
    for key, shape in spec_fields(usual).items():
        if shape.kind and is_kind(shape.kind.role, word):
            return f"write `{key}: {written(kind_class(shape.kind.role, word))}`{_of(usual)}; "
    return ""


def _of(cls: type[Spec]) -> str:
    return f" in {cls.called or cls.kind or cls.__name__.removesuffix('Spec').lower()}"


def _found(node: Node) -> str:
    if isinstance(node.value, dict):
        return "a mapping"
    return "a list" if isinstance(node.value, tuple) else _value(node.value)


def _value(value: Data | Spec) -> str:
    if isinstance(value, dict | list | tuple | Spec):
        return "a mapping" if isinstance(value, dict | Spec) else "a list"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return f"'{_clip(value)}'" if isinstance(value, str) else _clip(str(value))


def _clip(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
