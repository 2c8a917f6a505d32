"""What stages over patches share: what the stage inside may be."""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import replace

from evo.blocks.stages.around import AroundSpec
from evo.dsl.references import reached
from evo.dsl.spec import Fault, Scope


class OverPatchesSpec(AroundSpec):
    """A stage that runs another one over patches of tokens. A kind has a field `size`."""

    size: int

    @abstractmethod
    def patch_width(self, width: int) -> int:
        """The width of the stage inside, in a stream of that width."""

    @abstractmethod
    def patch_count(self, context: int) -> int:
        """How many patches the stage inside sees of a whole context, at most."""

    def problems(self, scope: Scope) -> Iterator[Fault]:
        found = self._passed_on(scope)
        yield from found
        if self.size >= scope.context:
            message = f"a context of {scope.context} tokens has no patch of {self.size} behind it"
            yield Fault("EVO354", ("size",), message, "lower size")
        for slot, names in self._inner.written_sources().items():
            if names is not None:
                field = self._inner.source_fields()[slot].key
                message = "a stage over patches reads these, and nothing else"
                yield Fault("EVO354", ("of", field), message, "write it on the stage around it, or take the stage out")
                return
        if all(fault.severity == "warning" for fault in found):
            yield from self._inner_faults(scope)

    def _scope(self, scope: Scope) -> Scope:
        width, patches = self.patch_width(scope.width), self.patch_count(scope.context)
        return replace(super()._scope(scope), width=width, context=patches)

    def _inner_faults(self, scope: Scope) -> Iterator[Fault]:
        """What the stage inside may not be."""
        if not all(spec.is_causal for spec in reached(self._inner, {**scope.pseudopods, **scope.layers})):
            yield Fault("EVO354", ("of",), "a mixer here sees later patches", "write a causal one")
        for _, block in self._inner.plan(self._scope(scope)).named_blocks(""):
            if block.outputs or block.inputs:
                message = f"'{block.kind}' shares what it computes with other blocks, which see tokens"
                yield Fault("EVO354", ("of",), message, "give it keys and values of its own")
                return
