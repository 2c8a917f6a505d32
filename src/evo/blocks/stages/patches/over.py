"""What stages over patches share: what the stage inside may be."""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import replace

from evo.blocks.stages.around import AroundSpec
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
        yield from self._alone(scope, "EVO354", "patches")
        if self.size >= scope.context:
            message = f"a context of {scope.context} tokens has no patch of {self.size} behind it"
            yield Fault("EVO354", ("size",), message, "lower size")

    def _scope(self, scope: Scope) -> Scope:
        width, patches = self.patch_width(scope.width), self.patch_count(scope.context)
        return replace(super()._scope(scope), width=width, context=patches, earlier={})
