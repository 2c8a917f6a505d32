"""Gains on the residual stream and on what is added to it."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evo.dsl.plan import Init, Weight, vector
from evo.dsl.spec import Scope, Spec


class GainSpec(Spec):
    """What a branch, or the stream, is multiplied by. is_rest: by what the gain of the branch leaves of 1."""

    is_rest: ClassVar[bool] = False

    def gain(self, name: str, scope: Scope) -> float | Weight:
        """A number, or a weight of that name that is learned: (1,) or (width,)."""
        raise NotImplementedError


class LearnedGain(GainSpec):
    """A learned gain, one for all channels or one for each (LayerScale, Touvron et al. 2021; ReZero starts at 0)."""

    kind: ClassVar[str | None] = "learned"

    per: Literal["scalar", "channel"] = "scalar"
    """One number, or one a channel."""
    init: Annotated[float, Field(ge=-1e6, le=1e6)] = 1.0
    """Where it starts."""

    def gain(self, name: str, scope: Scope) -> Weight:
        return vector(name, 1 if self.per == "scalar" else scope.width, Init("constant", self.init))


class DepthGain(GainSpec):
    """scale * depth^power with the number of layers of the organism (DeepNet, Wang et al. 2022; MiniCPM)."""

    kind: ClassVar[str | None] = "depth"

    power: Annotated[float, Field(ge=-4, le=4)] = -0.5
    """The exponent of the number of layers."""
    scale: Annotated[float, Field(ge=-1e6, le=1e6)] = 1.0
    """What the power is multiplied by."""

    def gain(self, name: str, scope: Scope) -> float:
        del name
        return self.scale * float(scope.depth) ** self.power


class RestGain(GainSpec):
    """1 - the gain of the block: x moves towards what the block gives (nGPT, Loshchilov et al. 2410.01131)."""

    kind: ClassVar[str | None] = "rest"
    is_rest: ClassVar[bool] = True
