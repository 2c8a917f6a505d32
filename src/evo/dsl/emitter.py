"""What makes the candidates of a search: the base of every emitter's spec."""

from typing import ClassVar

from evo.dsl.spec import Spec


class EmitterSpec(Spec):
    """A source of new candidates. The emitter itself is made by `evo.evolution.emitters.base.make_emitter`."""

    builder: ClassVar[str]
    """`module:class` that makes the emitter of its spec."""
    is_guided: ClassVar[bool] = False
    """Whether the search's surrogate chooses among its children; each child of the others is trained."""
