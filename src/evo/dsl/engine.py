"""Where the trials of a search run: the base of every engine's spec."""

from typing import ClassVar

from evo.dsl.spec import Spec


class EngineSpec(Spec):
    """A place where jobs run. The engine itself is made by `evo.engines.jobs.make_engine`. It changes no result."""

    builder: ClassVar[str]
    """`module:function` that makes the engine of (spec, limits)."""
    has_workers: ClassVar[bool] = True
    """Whether jobs run in processes of their own, which can be limited, as many at once as are asked for."""
