"""What stages around one other stage share: they pass on what it says of itself."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated

from evo.blocks.experts.router import ROUTER_LOGITS
from evo.dsl.organism import StageSpec
from evo.dsl.plan import BlockPlan
from evo.dsl.references import placed, reached
from evo.dsl.spec import TOKENS, Fault, RoleOf, Scope, Spec


class AroundSpec(StageSpec):
    """A stage that hands its input to another, `of`, in some form."""

    of: Annotated[Spec, RoleOf("stage")]
    """The stage inside."""

    @property
    def depth(self) -> int:
        return self._inner.depth

    @property
    def own_norm(self) -> Spec | None:
        return self._inner.own_norm

    @property
    def reads_norm(self) -> bool:
        return self._inner.reads_norm

    @property
    def layer_names(self) -> tuple[str, ...]:
        return tuple(f"{self._child}.{name}" for name in self._inner.layer_names)

    @property
    def _child(self) -> str:
        """What the stage is called in paths: names of its own cannot meet those of weights out here."""
        return f"of_{self._inner.name}"

    @property
    def _inner(self) -> StageSpec:
        assert isinstance(self.of, StageSpec)
        return self.of

    def single(self, name: str, mixer: str | Spec) -> StageSpec | None:
        return self._inner.single(name, mixer)

    def entries(self) -> Iterator[tuple[str | Spec, int]]:
        return self._inner.entries()

    def _scope(self, scope: Scope) -> Scope:
        """What stands around the stage inside."""
        return replace(scope, before=self.name)

    def borrowed(self, scope: Scope) -> tuple[StageSpec, ...]:
        return self._inner.borrowed(self._scope(scope))

    def stands(self, scope: Scope) -> bool:
        return super().stands(scope) and self._inner.stands(self._scope(scope))

    def _inside(self, scope: Scope) -> Iterator[Spec]:
        """The stage inside and all that stands in it, and the same of stages above that it runs."""
        parts = {**scope.pseudopods, **scope.layers}
        for stage in (self._inner, *self._inner.borrowed(self._scope(scope))):
            yield from reached(stage, parts)

    def _passed_on(self, scope: Scope) -> list[Fault]:
        """The faults of the stage inside, by their paths from here."""
        return [placed(fault, "of") for fault in self._inner.problems(self._scope(scope))]

    def _read_through(self, scope: Scope) -> list[Fault]:
        """The same of a stage inside that reads what this one does: it names no sources of its own."""
        found = self._passed_on(scope)
        for slot, names in self._inner.written_sources().items():
            if names is not None:
                where = ("of", self._inner.source_fields()[slot].key)
                message = "the stage inside reads what the one around it does"
                return [*found, Fault("EVO359", where, message, "write it there")]
        return found

    def _alone(self, scope: Scope, code: str, units: str) -> Iterator[Fault]:
        """Faults of a stage inside that cannot run over a sequence of its own, which `units` make another one."""
        found = self._passed_on(scope)
        yield from found
        for slot, names in self._inner.written_sources().items():
            if names is not None:
                where = ("of", self._inner.source_fields()[slot].key)
                help = "write it on the stage around it, or take the stage out"
                yield Fault(code, where, f"a stage that reads {units} reads nothing else", help)
                return
        if self._inner.stands(self._scope(scope)):
            yield from self._inner_faults(scope, code, units)

    def _inner_faults(self, scope: Scope, code: str, units: str) -> Iterator[Fault]:
        """What a stage inside that stands may not be."""
        if not all(spec.is_causal for spec in self._inside(scope)):
            yield Fault(code, ("of",), f"a mixer here sees later {units}", "write a causal one")
        for block in self._inner.plan(self._scope(scope)).blocks():
            if not block.outputs and set(block.inputs) == {TOKENS}:
                message = f"'{block.kind}' reads token ids, which {units} do not hand on"
                yield Fault(code, ("of",), message, "take it out, or write it in a stage of its own")
                return
            if block.outputs or block.inputs:
                message = f"'{block.kind}' shares what it computes with other blocks, which see no {units}"
                yield Fault(code, ("of",), message, unshared(block))
                return


def unshared(block: BlockPlan) -> str:
    """A line of help: how a block is written that shares nothing with others."""
    if any(name.startswith(ROUTER_LOGITS) for name in (*block.inputs, *block.outputs)):
        return "remove logits_to and logits_from"
    return "give it keys and values of its own"
