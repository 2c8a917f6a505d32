"""Who is told what a training measures: the base of every tracker's spec."""

from typing import ClassVar

from evo.dsl.spec import Spec


class TrackerSpec(Spec):
    """A place where a training's metrics go beside metrics.jsonl. It changes no result, and stands in no document.

    The tracker itself is made by `evo.training.trackers.base.make_trackers`.
    """

    builder: ClassVar[str]
    """`module:function` that makes the tracker of (spec, tracked)."""
    package: ClassVar[str] = ""
    """The package that it needs."""
