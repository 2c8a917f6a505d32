"""The language and the plan of a block whose linear maps have a form."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from pydantic import Field

from evo.base.diagnostics import suggestion
from evo.blocks.structured.forms import FormFields
from evo.dsl.genes import FIXED
from evo.dsl.organism import Name
from evo.dsl.plan import ZEROS, BlockPlan, Cost, Weight, matmul_flops
from evo.dsl.references import mixer_problems, plan_mixer, resolve_mixer
from evo.dsl.spec import AsTuple, Fault, ListOf, Ref, RoleOf, Scope, Spec


@dataclass(frozen=True, kw_only=True)
class FormedPlan(BlockPlan):
    """A block, its child `main`, with some of its maps made of weights that stand here under their names."""

    builder: ClassVar[str] = "evo.blocks.formed.module:Formed"
    form: str
    factor_act: str
    maps: tuple[str, ...]

    @property
    def outlets(self) -> tuple[BlockPlan, ...]:
        return () if any(weight.writes_residual for weight in self.weights) else (dict(self.children)["main"],)


class FormedFields(Spec):
    """What is given a form."""

    formed: Annotated[Name | Spec, RoleOf("block"), Ref()]
    """The block m. Text names an entry of `pseudopods`."""
    on: Annotated[
        Annotated[tuple[str, ...], Field(min_length=1, max_length=32)] | None, AsTuple, ListOf(bare=True), FIXED
    ] = None
    """The names of the maps, as `evo explain` prints them (q, k, v, o); all of its own that get smaller if left out.
    Those that it makes others of have none."""


class FormedSpec(FormFields, FormedFields):
    """m(x), where linear maps of m are blocks on a diagonal, or products of smaller maps (Monarch, Dao et al.
    2204.00595): queries, keys, values and outputs of an attention, or the projections of any other block."""

    kind: ClassVar[str | None] = "formed"
    is_keyed: ClassVar[bool] = True

    def problems(self, scope: Scope) -> Iterator[Fault]:
        faults = list(mixer_problems(self.formed, scope, ("formed",)))
        yield from faults
        if any(fault.severity == "error" for fault in faults):
            return
        if resolve_mixer(self.formed, scope).plan(scope) is None:
            yield Fault("EVO306", ("formed",), "this builds nothing that could have maps", "remove it")
            return
        known = _maps(_bearer(plan_mixer(self.formed, scope)))
        listed = f"the maps here: {', '.join(known) or 'none'}"
        if self.on is None and not any(self._is_smaller(weight) for weight in known.values()):
            yield Fault("EVO337", ("formed",), "no map of its own would be smaller in this form", listed)
        for index, name in enumerate(self.on or ()):
            if name not in known:
                yield Fault("EVO337", ("on", index), f"no map is named '{name}'", f"{suggestion(name, known)}{listed}")
            elif name in (self.on or ())[:index]:
                yield Fault("EVO337", ("on", index), f"'{name}' is listed twice", "remove it")
            elif odd := list(self.undivided(*known[name].shape)):
                message = f"{self.blocks} blocks do not divide the {odd[0]} channels of '{name}'"
                yield Fault("EVO300", ("blocks",), message, "change blocks, or leave it out of `on`")

    def plan(self, scope: Scope) -> FormedPlan:
        main = plan_mixer(self.formed, scope)
        maps = {name: weight for name, weight in _maps(_bearer(main)).items() if self._is_formed(weight)}
        weights = tuple(factor for weight in maps.values() for factor in self._factors(weight))
        spared = sum(matmul_flops((weight,)) for weight in maps.values())
        shapes = [weight.shape for weight in maps.values()]
        return FormedPlan(
            kind=self.label,
            weights=weights,
            cost=Cost(
                flops=sum(self.form_flops(*shape) for shape in shapes),
                activations=sum(self.between(*shape) + self.activated(*shape) for shape in shapes),
            ),
            children=(("main", _lending(main, maps, spared)),),
            form=self.form,
            factor_act="" if self.factor_act == "identity" else self.factor_act,
            maps=tuple(maps),
        )

    def _is_formed(self, weight: Weight) -> bool:
        return self._is_smaller(weight) if self.on is None else weight.name in self.on

    def _is_smaller(self, weight: Weight) -> bool:
        """Whether a map can have the form, and has fewer numbers so."""
        return not any(self.undivided(*weight.shape)) and sum(w.count for w in self._factors(weight)) < weight.count

    def _factors(self, weight: Weight) -> list[Weight]:
        """What a map is made of; it begins as large as it was, or as zero."""
        out, into = weight.shape
        gain = weight.init.a * into**0.5
        *inner, outer = self.factors(weight.name, out, into, gain, weight.writes_residual)
        return [*inner, outer if gain else replace(outer, init=ZEROS)]


def _bearer(plan: BlockPlan) -> BlockPlan:
    """The block whose maps are formed: inside another formed block, the one that this forms."""
    return _bearer(dict(plan.children)["main"]) if isinstance(plan, FormedPlan) else plan


def _lending(main: BlockPlan, maps: dict[str, Weight], spared: float) -> BlockPlan:
    """The block without these maps and their work."""
    if isinstance(main, FormedPlan):
        return replace(main, children=(("main", _lending(dict(main.children)["main"], maps, spared)),))
    return replace(
        main,
        weights=tuple(weight for weight in main.weights if weight.name not in maps),
        cost=replace(main.cost, flops=main.cost.flops - spared),
        lent=(*main.lent, *((name, weight.shape) for name, weight in maps.items())),
    )


def _maps(plan: BlockPlan) -> dict[str, Weight]:
    """The linear maps of a block that may have a form, by name: those that every token meets as they are."""
    names = {weight.name for weight in plan.weights}
    own = (weight for weight in plan.weights if weight.is_linear and weight.group == "matrix" and _is_plain(weight))
    return {w.name: w for w in own if w.name not in plan.absorbed and not _is_factor(w.name, names)}


def _is_plain(weight: Weight) -> bool:
    """Whether it is one matrix, drawn from a normal law or zero at first."""
    return len(weight.shape) == 2 and (weight.init.law == "normal" or weight.init == ZEROS)


def _is_factor(name: str, names: set[str]) -> bool:
    """Whether a map is one of two that are a map of a form already."""
    return f"{name}_inner" in names or name.removesuffix("_inner") in names - {name}
