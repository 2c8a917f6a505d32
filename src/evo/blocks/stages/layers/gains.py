"""Gains on the residual stream and on what is added to it."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evo.dsl.plan import ZEROS, Init, Weight, vector
from evo.dsl.spec import Scope, Spec


class GainSpec(Spec):
    """What a branch, or the stream, is multiplied by. is_rest: by what the gain of the branch leaves of 1."""

    is_rest: ClassVar[bool] = False

    def gain(self, name: str, scope: Scope) -> float | Weight:
        """A number, or a weight of that name that is learned: (1,) or (width,)."""
        raise NotImplementedError

    def shifted_by(self, name: str, scope: Scope) -> Weight | None:
        """A weight of that name that is added before the gain, as wide as it, if there is one."""
        del name, scope
        return None


class LearnedGain(GainSpec):
    """A learned gain, one for all channels or one for each (LayerScale, Touvron et al. 2021; ReZero starts at 0); with
    a bias, gain * (x + bias) (ZAYA1, 2511.17127)."""

    kind: ClassVar[str | None] = "learned"

    per: Literal["scalar", "channel"] = "scalar"
    """One number, or one a channel."""
    init: Annotated[float, Field(ge=-1e6, le=1e6)] = 1.0
    """Where it starts."""
    shift: bool = False
    """Whether a learned bias, as wide as the gain, is added before it."""

    def gain(self, name: str, scope: Scope) -> Weight:
        return vector(name, self._width(scope), Init("constant", self.init))

    def shifted_by(self, name: str, scope: Scope) -> Weight | None:
        return vector(name, self._width(scope), ZEROS) if self.shift else None

    def _width(self, scope: Scope) -> int:
        return 1 if self.per == "scalar" else scope.width


class DepthGain(GainSpec):
    """scale * n^power, n the number of layers of the organism (DeepNet, Wang et al. 2022; MiniCPM), or of this one."""

    kind: ClassVar[str | None] = "depth"

    power: Annotated[float, Field(ge=-4, le=4)] = -0.5
    """The exponent of n."""
    scale: Annotated[float, Field(ge=-1e6, le=1e6)] = 1.0
    """What the power is multiplied by."""
    of: Literal["organism", "layer"] = "organism"
    """Whether n is how many layers there are, or the number of this layer, from 1 on."""

    @property
    def reads_layer(self) -> bool:
        return self.of == "layer" and self.power != 0

    def gain(self, name: str, scope: Scope) -> float:
        del name
        return self.scale * float(scope.depth if self.of == "organism" else scope.layer) ** self.power


class RestGain(GainSpec):
    """1 - the gain of the block: x moves towards what the block gives (nGPT, Loshchilov et al. 2410.01131)."""

    kind: ClassVar[str | None] = "rest"
    is_rest: ClassVar[bool] = True


def has_shift(gain: float | Spec, scope: Scope) -> bool:
    """Whether something is added before it multiplies."""
    return isinstance(gain, GainSpec) and gain.shifted_by("shift", scope) is not None
