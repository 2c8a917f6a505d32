"""The options that say how decoding keeps keys and values."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from evo.base.diagnostics import Diagnostic
from evo.cli import view

if TYPE_CHECKING:
    from evo.blocks.cache.policy import CachePolicy
    from evo.compiler.plan import Plan


class Kept(StrEnum):
    """In how many bits: the names of `evo.blocks.cache.policy.STORES`."""

    full = "full"
    int8 = "int8"
    fp8 = "fp8"
    nf4 = "nf4"
    none = "none"


Cache = Annotated[
    Kept, typer.Option("--cache", help="How decoding keeps keys and values; none: it computes them again every time.")
]
Window = Annotated[
    int | None,
    typer.Option(
        "--window",
        min=1,
        max=10_000_000,
        help="Of full attention, keep the first 4 positions and this many of the latest.",
    ),
]
Heavy = Annotated[
    int | None,
    typer.Option(
        "--heavy",
        min=1,
        max=10_000_000,
        help="With --window, keep this many positions, those that got most attention, in place of the first 4 (H2O).",
    ),
]


def cache_policy(cache: Kept, window: int | None, heavy: int | None) -> CachePolicy:
    """The policy of these options. Raises BadParameter where they do not go together."""
    from evo.blocks.cache.policy import STORES, CachePolicy

    if cache == Kept.none and window is not None:
        raise typer.BadParameter("--cache none keeps nothing of it", param_hint="--window")
    if heavy is not None and window is None:
        raise typer.BadParameter("say with --window how many of the latest are kept beside them", param_hint="--heavy")
    return CachePolicy(STORES[cache.value], window, heavy)


def warn_tipped(plan: Plan, policy: CachePolicy) -> None:
    """Say so where a cache rounds what blocks choose by (EVO526)."""
    if kinds := plan.tipped(policy):
        message = f"a cache of {policy.store.name} may change what {', '.join(kinds)} choose{'s' * (len(kinds) == 1)}"
        help = "compare the text with that of --cache full, or take int8"
        view.show([Diagnostic("EVO526", message, None, help, "warning")])
