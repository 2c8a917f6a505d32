"""The language of decay: what a state forgets from one token to the next. A word is a kind with its defaults."""

import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evo.dsl.genes import FIXED, Gene
from evo.dsl.plan import ZEROS, Axis, Init, Weight, linear, vector
from evo.dsl.spec import Spec

RANK = 16
"""Inner width of the per-channel decay's projection (Yang et al. 2023)."""


class DecaySpec(Spec):
    """The log of the decay, at most 0, of each head, token or channel.

    rule: the function of (recurrence, x, flow) that computes it. has_step: whether it passes a step, which writes may
    be multiplied by.
    """

    rule: ClassVar[str]

    @property
    def is_by_channel(self) -> bool:
        """Whether key channels have decays of their own."""
        return False

    @property
    def has_step(self) -> bool:
        """Whether a step sets it."""
        return False

    def weights(self, width: int, heads: int, key_dim: int) -> tuple[Weight, ...]:
        """What it learns."""
        raise NotImplementedError

    def log_decays(self, heads: int) -> tuple[float, ...]:
        """Of each head, where they are the same at every token; else nothing."""
        del heads
        return ()


class HeadDecay(DecaySpec):
    """The same at every token, and not learned."""

    kind: ClassVar[str | None] = "head"
    rule: ClassVar[str] = "evo.blocks.recurrence.rates:constant"

    rates: Literal["retnet", "alibi"] = "retnet"
    """retnet: 1 - 2^(-5-h) for head h (Sun et al. 2023). alibi: exp(-2^(-8 (h+1) / heads)) (lightning attention)."""
    scale: Annotated[float, Field(gt=0, le=1e3), Gene(0.1, 4, "scale")] = 1.0
    """What log decays are multiplied by; lightning attention falls from 1 in the first layer to 0 in the last."""

    def weights(self, width: int, heads: int, key_dim: int) -> tuple[Weight, ...]:
        return ()

    def log_decays(self, heads: int) -> tuple[float, ...]:
        if self.rates == "retnet":
            return tuple(self.scale * math.log1p(-(2.0 ** (-5 - head))) for head in range(heads))
        return tuple(-self.scale * 2.0 ** (-8 * (head + 1) / heads) for head in range(heads))


class LearnedDecay(DecaySpec):
    """exp(-exp(rate)), the same at every token: the decay of RWKV-5 (Peng et al. 2404.05892), whose whole time mixing
    is `{kind: wkv6, dynamic: false}`."""

    kind: ClassVar[str | None] = "learned"
    rule: ClassVar[str] = "evo.blocks.recurrence.rates:learned"

    per: Literal["channel", "head"] = "channel"
    """What has a rate of its own: each key channel, or each head."""

    @property
    def is_by_channel(self) -> bool:
        return self.per == "channel"

    def weights(self, width: int, heads: int, key_dim: int) -> tuple[Weight, ...]:
        shape = (heads, key_dim) if self.is_by_channel else (heads,)
        axes: tuple[Axis, ...] = ("channel",) * len(shape)
        return (Weight("decay_rate", shape, Init("uniform", -6.0, -0.5), axes),)


class TokenDecay(DecaySpec):
    """One learned gate a head and token."""

    kind: ClassVar[str | None] = "token"
    rule: ClassVar[str] = "evo.blocks.recurrence.rates:by_token"

    form: Literal["softplus", "logsigmoid", "product"] = "softplus"
    """softplus: -exp(rate) step, step = softplus(x W + bias) (Mamba-2). logsigmoid: logsigmoid(x W + bias). product:
    -max(softplus(x W'), 0.0001) step, a rate that the token makes (Mamba-3)."""
    least: Annotated[float, Field(ge=0, le=1e3), FIXED] = 0.0
    """The smallest step."""
    most: Annotated[float | None, Field(gt=0, le=1e6), FIXED] = None
    """The largest step; no limit if left out."""

    @property
    def has_step(self) -> bool:
        return self.form != "logsigmoid"

    @property
    def unread(self) -> frozenset[str]:
        return frozenset() if self.has_step else frozenset({"least", "most"})

    def weights(self, width: int, heads: int, key_dim: int) -> tuple[Weight, ...]:
        if not self.has_step:
            return linear("decay", heads, width), vector("decay_bias", heads, Init("constant", 4.0))
        rate = vector("decay_rate", heads, Init("uniform", 0.0, math.log(16.0)))
        return (
            linear("decay", heads, width),
            vector("decay_bias", heads, Init("timestep", 1e-3, 1e-1)),
            rate if self.form == "softplus" else linear("decay_rates", heads, width),
        )


class ChannelDecay(DecaySpec):
    """One learned gate a key channel and token, through a narrow projection or a whole one."""

    kind: ClassVar[str | None] = "channel"
    rule: ClassVar[str] = "evo.blocks.recurrence.rates:by_channel"

    form: Literal["logsigmoid", "softplus", "bounded"] = "logsigmoid"
    """With z = up(down(x)) + bias; logsigmoid: logsigmoid(z) / temperature (GLA). softplus: -exp(rate) softplus(z), a
    rate for each head (KDA). bounded: -bound sigmoid(exp(rate) z)."""
    rank: Annotated[int, Field(ge=1, le=65536), Gene(4, 64, "x2")] = RANK
    """Width of the narrow projection."""
    narrow: Annotated[bool, FIXED] = True
    """Whether z is made through a narrow projection, and not by one map of x (Ling 3.0)."""
    temperature: Annotated[float, Field(gt=0, le=1e4), Gene(1, 32, "scale")] = 16.0
    """What logsigmoid is divided by."""
    bound: Annotated[float, Field(gt=0, le=100), Gene(1, 10, "scale")] = 5.0
    """The largest -log of the decay in the bounded form."""

    @property
    def is_by_channel(self) -> bool:
        return True

    @property
    def unread(self) -> frozenset[str]:
        read = {"logsigmoid": "temperature", "bounded": "bound"}.get(self.form)
        return frozenset({"temperature", "bound", *(() if self.narrow else ("rank",))} - {read})

    def weights(self, width: int, heads: int, key_dim: int) -> tuple[Weight, ...]:
        keys, is_log = heads * key_dim, self.form == "logsigmoid"
        axes: tuple[Axis, ...] = ("channel",)
        rate = Weight("decay_rate", (heads,), Init("uniform", 0.0, math.log(16.0)), axes)
        narrow = (linear("decay_down", self.rank, width), linear("decay_up", keys, self.rank))
        return (
            *(narrow if self.narrow else (linear("decay", keys, width),)),
            vector("decay_bias", keys, ZEROS if is_log else Init("timestep", 1e-3, 1e-1)),
            *(() if is_log else (rate,)),
        )
