"""The plan of attention."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from evo.blocks.attention.factored import FactorsSpec
from evo.blocks.attention.head_maps import HeadMapsSpec
from evo.blocks.attention.head_shares import HeadSharesSpec
from evo.blocks.attention.mixing import MixScoresSpec
from evo.blocks.attention.stencils import KernelStencil
from evo.blocks.attention.taps import TapsSpec
from evo.blocks.attention.weighing import Weigh
from evo.dsl.plan import BlockPlan
from evo.dsl.spec import KV, VALUES

Values = Literal["own", "keys", "turned_keys", "halves", "tied"]
Selective = Literal["none", "one", "each"]
Biased = Literal["q", "k", "v", "o", "gate", "gate_heads"]


def kv_signals(name: str, groups: int, dim: int, values: int, stencil: KernelStencil) -> tuple[str, str]:
    """What keys and values of a name are called in a pass: with shapes and stencil, so that only equal ones meet."""
    tail = f"{name} ({groups} heads of {dim} and {values}, {' '.join(str(item) for item in stencil.values())})"
    return f"keys of {tail}", f"values of {tail}"


def kv_inputs(kv: str, maps_values: bool) -> tuple[str, ...]:
    """The signals that keys and values are maps of; none where these are the input of the queries."""
    return ((KV, VALUES) if kv == "apart" and maps_values else (KV,)) if kv else ()


@dataclass(frozen=True, kw_only=True)
class AttentionPlan(BlockPlan):
    """Attention of `heads` query heads over `kv_heads` key and value heads of width `head_dim`.

    value_dim: the width of a value head where it is another. key_dim: that of keys as scores meet them.
    are_one: whether the keys are the values. shared_dims: how many of a key's channels, the last, are those of one map
    that all key heads share, where the others are those of values.
    kv_to, kv_from: the signals, keys and values, that it publishes for later blocks, or reads instead of its own.
    values_to, values_from: the signal that its projected values are for later blocks, or that is mixed into them.
    weigh, offset, share: what makes weights of scores, a number that is added to these, and one that weights are
    multiplied by.
    kv: what the stage's `kv` is to the input of keys and values.
    selective: who passes keys over, so that later queries score them less. factors: of what heads are sums.
    head_maps: among how many maps of values and outputs heads choose. head_shares: how tokens weigh heads.
    temperature: slope, period, form and the number of the first position.
    """

    builder: ClassVar[str] = "evo.blocks.attention.module:Attention"
    heads: int
    kv_heads: int
    head_dim: int
    qk_norm: str
    soft_cap: float | None
    stencil: KernelStencil
    sink_logit: bool
    bias: bool | tuple[Biased, ...]
    causal: bool
    value_dim: int | None = None
    key_dim: int | None = None
    scale: float | None = None
    clip: float | None = None
    gate: str = "none"
    gate_act: str = ""
    norm_after_position: bool = False
    are_one: bool = False
    shared_dims: int | None = None
    differ: float | None = None
    differ_from: int | None = None
    temperature: tuple[float, int, str, int] | None = None
    persistent: int = 0
    kv_to: tuple[str, ...] = ()
    kv_from: tuple[str, ...] = ()
    values_to: tuple[str, ...] = ()
    values_from: tuple[str, ...] = ()
    taps: TapsSpec | None = None
    mix_scores: MixScoresSpec | None = None
    weigh: Weigh = "softmax"
    offset: float | None = None
    share: float | None = None
    kv: str = ""
    selective: Selective = "none"
    factors: FactorsSpec | None = None
    head_maps: HeadMapsSpec | None = None
    head_shares: HeadSharesSpec | None = None

    @property
    def kept(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """How many vectors, and how wide, are kept of a token's keys and of its values."""
        values = self.value_dim or self.head_dim
        if self.factors is not None:
            return self.factors.kept(self.kv_heads, self.head_dim, values)
        if self.shared_dims is not None:
            return (1, self.shared_dims), (self.kv_heads, values)
        return (self.kv_heads, self.key_dim or self.head_dim), (self.kv_heads, values)

    @property
    def channels(self) -> dict[str, int]:
        """How wide queries, keys and values are, those of all heads side by side."""
        values = self.value_dim or self.head_dim
        return {"q": self.heads * self.head_dim, "k": self.kv_heads * self.head_dim, "v": self.kv_heads * values}
