"""The language of a matrix memory that is wider than the stream: the block of xLSTM's first paper."""

from collections.abc import Iterator
from typing import Annotated, ClassVar

from pydantic import Field

from evo.dsl.genes import WIDENING, Gene
from evo.dsl.plan import ONES, ZEROS, Axis, Init, Weight, linear, taps, vector
from evo.dsl.spec import Fault, Scope, Spec


class WideSpec(Spec):
    """(u, z) = (W_u x, W_z x), c = silu(conv(u)), q and k block-diagonal maps of c and v one of u, gates maps of
    [q, k, v], and o(silu(z) * (norm(read) + skip * c)) (Beck et al. 2405.04517, figure 11)."""

    called: ClassVar[str | None] = "this wide memory"

    inner: Annotated[
        int | None, Field(ge=1, le=262144), Gene(32, 2048, "scale", multiple=8, optional=True), WIDENING
    ] = None
    """Channels of u and z, cut into heads; twice the width if left out."""
    conv: Annotated[int, Field(ge=2, le=64), Gene(2, 8, "+1")] = 4
    """Taps, with a bias, of the convolution that queries and keys read u through."""
    block: Annotated[int, Field(ge=1, le=4096), Gene(2, 16, "x2")] = 4
    """Channels of a block of the block-diagonal maps."""

    def channels(self, scope: Scope) -> int:
        """How many channels u has."""
        return self.inner or 2 * scope.width

    def faults(self, scope: Scope, heads: int) -> Iterator[Fault]:
        """What cannot be; paths are relative to this spec."""
        inner = self.channels(scope)
        if inner % heads or inner == heads:
            message = f"{inner} channels do not give each of {heads} heads several"
            yield Fault("EVO300", ("inner",), message, "change inner or heads")
        if inner % self.block:
            yield Fault("EVO300", ("block",), f"blocks of {self.block} do not divide {inner} channels", "change block")

    def weights(self, scope: Scope, heads: int) -> tuple[Weight, ...]:
        """All that there are."""
        inner, width = self.channels(scope), scope.width
        axes: tuple[Axis, ...] = ("stack", "out", "in")
        shape, draw = (inner // self.block, self.block, self.block), Init("normal", self.block**-0.5)
        return (
            linear("up", inner, width),
            linear("gate", inner, width),
            taps("taps", inner, self.conv),
            vector("taps_bias", inner, ZEROS),
            *(Weight(name, shape, draw, axes, "matrix") for name in "qkv"),
            *(linear(name, heads, 3 * inner) for name in ("input_gate", "forget_gate")),
            vector("input_gate_bias", heads, Init("constant", -10.0)),
            vector("forget_gate_bias", heads, Init("ramp", 3.0, 6.0)),
            vector("norm_gain", inner, ONES),
            vector("skip", inner, ONES),
            linear("o", scope.given, inner, scope.residual_gain, writes_residual=True),
        )
