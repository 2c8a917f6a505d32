"""Which spec class belongs to a node that is not built yet."""

from __future__ import annotations

from dataclasses import dataclass

from evo.dsl.index import DEFAULT_KIND, is_kind, kind_class
from evo.dsl.spec import Spec, SpecField, spec_fields
from evo.dsl.yaml import Node


@dataclass(frozen=True)
class Place:
    """A place in a document: the class of the mapping there (None: unknown), and the field that holds it."""

    cls: type[Spec] | None = None
    field: SpecField | None = None
    is_entry: bool = False

    def into(self, key: str, node: Node | None) -> Place:
        """The place of what stands under a key of the mapping here; `node` is that value, None if it is not written."""
        field = self.field if self._is_table else spec_fields(self.cls).get(key) if self.cls else None
        return Place(_class(field, node), field, self._is_table)

    def item(self, node: Node) -> Place:
        """The place of an item of the list here."""
        return Place(_class(self.field, node), self.field, True)

    def is_told_by(self, key: str) -> bool:
        """Whether a mapping here with that key is of the kind of its name, as in `{parallel: [...]}`."""
        role = self.field and self.field.kind and self.field.kind.role
        return role is not None and is_kind(role, key) and kind_class(role, key).is_keyed

    @property
    def _is_table(self) -> bool:
        return self.field is not None and self.field.table and not self.is_entry


def _class(field: SpecField | None, node: Node | None) -> type[Spec] | None:
    if field is None or field.nested is not None:
        return field and field.nested
    if field.kind is None or node is None or not isinstance(node.value, dict):
        return None
    role, told = field.kind.role, node.child("kind")
    if told is not None:
        return kind_class(role, told.value) if isinstance(told.value, str) and is_kind(role, told.value) else None
    keyed = next((key for key in node.value if Place(field=field).is_told_by(key)), DEFAULT_KIND.get(role))
    return None if keyed is None else kind_class(role, keyed)
