"""The fields of a recurrence, and what follows from them alone."""

from typing import Annotated, Literal

from pydantic import Field

from evo.blocks.gated_memory.spec import MemoryName
from evo.blocks.recurrence.decays import DecaySpec
from evo.dsl.genes import FIXED, WIDENING, Gene
from evo.dsl.index import kind_class
from evo.dsl.spec import RoleOf, Scope, Spec

Feature = Literal[
    "identity", "l2", "elu", "relu", "taylor", "squares", "signs", "neighbours", "drawn", "fourier", "cosines"
]
POSITIVE = ("elu", "relu", "taylor", "squares", "signs", "neighbours", "drawn", "cosines")
"""Features whose products are never negative."""
SCALED = ("taylor", "squares", "drawn", "fourier")
"""Those that have a scale of their own."""
RANDOM = ("drawn", "fourier")
"""Those by random projections."""


class RecurrenceFields(Spec):
    """What is said of a recurrence."""

    heads: Annotated[int, Field(ge=1, le=1024), Gene(1, 32, "x2"), WIDENING]
    """Heads, each with its own state."""
    key_dim: Annotated[int | None, Field(ge=1, le=4096), Gene(8, 128, "x2", optional=True)] = None
    """Width of a head's queries and keys; width / heads if left out."""
    value_dim: Annotated[int | None, Field(ge=1, le=4096), Gene(8, 256, "x2", optional=True)] = None
    """Width of a head's values; width / heads if left out."""
    decay: Annotated[Literal["none", "head", "token", "channel"] | Spec, RoleOf("decay")] = "token"
    """none; head: the constant 1 - 2^(-5-h); token: one learned gate a head and token; channel: one a key channel. A
    mapping has further forms."""
    update: Literal["outer", "delta"] = "delta"
    """outer adds k v^T; delta first takes out what k already holds, by a learned share."""
    feature: Feature = "l2"
    """What is done to q and k. identity: nothing. l2: unit length. elu: elu + 1. relu: relu. taylor: [1, x, x x], whose
    products are the first three terms of the exponential (Based, 2402.18668). squares: all x_i x_j, whose products are
    squares of those of q and k (ReBased, 2402.10644; power attention, 2507.04239). signs: softmax of x beside that of
    -x (Hedgehog, 2402.04347). neighbours: [relu(x), relu(-x)] times the same moved by one (DPFP, 2102.11174). drawn:
    exponentials of fixed random projections, whose products are on average the exponential of q k / sqrt(key_dim)
    (FAVOR+; Performer, 2009.14794). fourier: sines and cosines of fixed random projections of q and k of unit length,
    times a learned number for each channel, whose products are on average exp(-|q - k|² / 2), which is e^(q k) over e
    (random feature attention, 2103.02143). cosines: relu, and its products times the cosine of a quarter turn's share
    that their distance has of the context (cosFormer, 2202.08791)."""
    draws: Annotated[int, Field(ge=1, le=65536), Gene(16, 256, "x2")] = 64
    """How many random projections there are; nothing learns them."""
    feature_map: bool = False
    """Whether q and k each pass a learned map of their head before, which is the identity at first (Hedgehog; with
    relu, Kasai et al. 2103.13076)."""
    conv: Annotated[int, Field(ge=0, le=64), Gene(0, 8, "+1")] = 4
    """Taps of a causal short convolution on q, k and v; 0 for none."""
    gate: Literal["none", "silu", "sigmoid"] = "silu"
    """Output gate, a projection of the input."""
    normalizer: Annotated[Literal["none", "rms", "sum"] | Spec, RoleOf("norm")] = "rms"
    """rms: RMS norm of each head's output with one set of gains. sum: division by the sum of decayed q.k, as in
    softmax. Or any norm, over heads, groups or all channels."""
    bonus: bool = False
    """A learned extra weight of the current token, which then enters the state only afterwards (RWKV-6)."""
    position: Annotated[Spec | None, RoleOf("position")] = None
    """Turns q and k by position, as RetNet does; nothing if left out (the stage's encoding is not inherited)."""
    key_heads: Annotated[int | None, Field(ge=1, le=1024), Gene(1, 16, "x2", optional=True), WIDENING] = None
    """Heads of queries and keys, each serving heads / key_heads states; as many as heads if left out."""
    write: Literal["plain", "step", "share", "channel", "trapezoid", "rest"] = "plain"
    """What values are multiplied by: nothing, or the share of the delta rule; step: the step that sets the decay
    (Mamba-2); share: a learned share of each head and token (MesaNet); channel: one of each value channel; trapezoid:
    a learned share of the step, the rest of which writes the token before once more, decayed (Mamba-3); rest: 1 - the
    decay, so that states are means (random feature attention with its gate, 2103.02143)."""
    erase: Literal["written", "head", "channel"] = "written"
    """The share that the delta rule takes out of what a key holds: as much as it writes; head: that times a learned
    number of each head (Comba, 2506.02475); channel: one of its own for each key channel (Gated DeltaNet-2)."""
    integrator: Annotated[Literal["explicit", "exact", "implicit"], FIXED] = "explicit"
    """How the delta rule's step of size beta along dS/dt = k^T (v - k S) is taken: explicit: beta is the share itself.
    exact: (1 - exp(-beta |k|²)) / |k|² (EFLA, 2512.12602). implicit: beta / (1 + beta |k|²) (Longhorn, 2407.14207,
    before its diagonal approximation). With these keys of any length are stable."""
    correct: bool = False
    """Whether queries are less a learned multiple of the token's key, one for each key head (Comba)."""
    qk_norm: Annotated[Spec | None, RoleOf("norm")] = None
    """A norm of q and one of k by head, before they turn (Mamba-3)."""
    qk_bias: bool = False
    """Whether a learned vector of each head is added to q, and one to k, behind norm and feature (Mamba-3)."""
    skip: bool = False
    """Whether each head's values are added to its output, by a learned weight (Mamba-2's D)."""
    conv_bias: bool = False
    """Whether the convolution has a bias."""
    act: Literal["none", "silu"] | None = None
    """What q, k and v pass before they are features; silu behind a convolution, and nothing without, if left out."""
    scale: Annotated[float | None, Field(gt=0, le=1e6), FIXED] = None
    """What queries are multiplied by; if left out, key_dim ** -0.5, or 1 where features have a scale of
    their own."""
    beta_range: Annotated[float, Field(gt=0, le=2), FIXED] = 1.0
    """The largest share that the delta rule takes out; above 1, states may change sign (Grazzi et al. 2411.12537)."""
    gate_at: Literal["after", "before"] = "after"
    """Whether the output is gated after it is normalised, or before (Mamba-2)."""
    gate_rank: Annotated[int | None, Field(ge=1, le=65536), Gene(8, 128, "x2", optional=True)] = None
    """Width that the gate's projection passes; it is one matrix if left out."""

    writes: Annotated[int, Field(ge=1, le=8), Gene(1, 4, "+1")] = 1
    """How often the delta rule writes a token, with a key and a value each time (DeltaProduct, 2502.10297)."""
    ranks: Annotated[int, Field(ge=1, le=16), Gene(1, 4, "x2")] = 1
    """Keys, values and queries of a head at each token, all written at once, and then all read (MIMO; Mamba-3). Values
    and gates are those of one times learned vectors; what is read is gated, times others, and summed."""
    keys: Literal["own", "decay"] = "own"
    """decay: there is no projection; keys are 1 - exp(log decay), of a decay by channel (HGRN2, 2404.07904)."""

    solve: Annotated[int, Field(ge=0, le=256), Gene(0, 16, "+1")] = 0
    """Steps of conjugate gradients by which queries pass the inverse of the decayed sum of k k^T and a learned diagonal
    (MesaNet, 2506.05233); 0 for none."""
    levels: bool = False
    """Whether past tokens lie in buckets that double with distance, each read with a weight that the token makes
    (log-linear attention, 2506.04761)."""

    turns: bool = False
    """Whether pairs of channels of q and k turn by angles that tokens make, times the step that sets the decay if there
    is one, and that add up: complex decays (GateLoop, 2311.01927; Mamba-3)."""

    reading_to: MemoryName = None
    """A name under which gated memories may read what it reads from its states."""

    @property
    def unread(self) -> frozenset[str]:
        found = [
            ("writes", self.update != "delta"),
            ("key_heads", self.keys == "decay"),
            ("feature_map", self.keys == "decay"),
            ("conv_bias", not self.conv),
            ("draws", self.feature not in RANDOM),
            ("beta_range", self.update != "delta"),
            ("erase", self.update != "delta"),
            ("integrator", self.update != "delta"),
            ("gate_rank", self.gate == "none"),
            ("gate_at", self.gate == "none" or self.normalizer == "none"),
        ]
        return frozenset(name for name, is_unread in found if is_unread)

    @property
    def rule(self) -> DecaySpec | None:
        """Its decay in full; None for none."""
        if isinstance(self.decay, DecaySpec):
            return self.decay
        if self.decay == "none":
            return None
        found = kind_class("decay", str(self.decay))()
        assert isinstance(found, DecaySpec)
        return found

    @property
    def groups(self) -> int:
        """Heads of queries and keys."""
        return self.heads if self.keys == "decay" else self.key_heads or self.heads

    @property
    def written(self) -> int:
        """How often a token writes."""
        return self.writes if self.update == "delta" else 1

    @property
    def erased(self) -> str:
        """What the share that it takes out follows; nothing without the delta rule."""
        return self.erase if self.update == "delta" else ""

    @property
    def has_share(self) -> bool:
        """Whether there is a learned share of each head and token."""
        return self.write == "share" if self.update == "outer" else self.write != "channel"

    def _features(self, key_dim: int) -> int:
        """How many channels a key has behind its features."""
        wide = {"taylor": 1 + key_dim + key_dim**2, "squares": key_dim * (key_dim + 1) // 2}
        wide |= dict.fromkeys(("signs", "neighbours", "cosines"), 2 * key_dim) | {
            "drawn": self.draws,
            "fourier": 2 * self.draws,
        }
        return wide.get(self.feature, key_dim)

    @property
    def keeps_channels(self) -> bool:
        """Whether channels of keys are those of their features."""
        return self._features(1) == 1 and self._features(2) == 2

    def dims(self, scope: Scope) -> tuple[int, int]:
        """Widths of a head's keys and of its values."""
        share = scope.width // self.heads
        return self.key_dim or share, self.value_dim or share
