"""The fields of attention, and what they say by themselves."""

from typing import Annotated, Literal

from pydantic import Field

from evo.blocks.attention.factored import FactorsSpec
from evo.blocks.attention.head_experts import HeadExpertsSpec
from evo.blocks.attention.head_maps import HeadMapsSpec
from evo.blocks.attention.head_shares import HeadSharesSpec
from evo.blocks.attention.layer_mix import LayerMixSpec
from evo.blocks.attention.low_rank import LowRankSpec
from evo.blocks.attention.mixing import MixScoresSpec
from evo.blocks.attention.plan import Biased, Selective, Values
from evo.blocks.attention.span import SpanSpec
from evo.blocks.attention.stencils import StencilSpec
from evo.blocks.attention.taps import TapsSpec
from evo.blocks.attention.temperature import TemperatureSpec
from evo.blocks.attention.token_values import TokenValuesSpec
from evo.blocks.attention.weighing import Weigh
from evo.blocks.norm.spec import NormSpec, RMSNormSpec
from evo.dsl.acts import Word
from evo.dsl.genes import DRAWN, FIXED, WIDENING, Gene
from evo.dsl.organism import NAME
from evo.dsl.spec import DEFAULT, AsTuple, RoleOf, Spec


class AttentionFields(Spec):
    """The fields of attention."""

    heads: Annotated[int, Field(ge=1, le=1024), Gene(1, 32, "x2"), WIDENING]
    """Query heads."""
    kv_heads: Annotated[int | None, Field(ge=1), Gene(1, 32, "x2", optional=True), WIDENING] = None
    """Key and value heads, each serving heads / kv_heads queries; as many as heads if left out."""
    head_dim: Annotated[int | None, Field(ge=1, le=4096), Gene(8, 256, "x2", optional=True)] = None
    """Width of a head; width / heads if left out."""
    qk_norm: Annotated[Literal["none", "rms"] | Spec, RoleOf("norm")] = "none"
    """A norm of q and one of k; `rms` is that of each head with eps 1e-6 (Qwen3)."""
    k_norm: Annotated[Spec | None, RoleOf("norm"), FIXED] = None
    """A norm of k in place of that one (DeepSeek-V4)."""
    soft_cap: Annotated[float | None, Field(gt=0), Gene(10, 100, "scale", optional=True)] = None
    """Bounds scores to ±cap by `cap * tanh(score / cap)` (Gemma 2)."""
    stencil: Annotated[StencilSpec, RoleOf("stencil", default="full"), DRAWN] = DEFAULT
    """Which positions a query may see."""
    select: Annotated[Spec | None, RoleOf("select")] = None
    """Which of the earlier keys a query meets, chosen by what they hold; all that the stencil shows if left out."""
    sink_logit: bool = False
    """A learned logit per head joins the softmax and takes no value (gpt-oss)."""
    bias: Annotated[bool | tuple[Biased, ...], AsTuple] = False
    """Biases on all projections, or on those in a list: `[q, k, v]`. `gate_heads`: one of the gate for each head."""
    causal: Annotated[bool, FIXED] = True
    """Whether a query sees only its past. False leaks the future in next-token tasks, which refuse it."""
    position: Annotated[Spec | None, RoleOf("position")] = None
    """Overrides the position encoding of the stage."""
    head_gain: Annotated[bool, FIXED] = False
    """Whether the output of each head is multiplied by a learned number, 1 at first (NormFormer, 2110.09456)."""
    gate: Literal["none", "head", "channel"] = "none"
    """The output of each head, or each of its channels, is multiplied by an activated projection of x (Qwen3-Next)."""
    gate_act: Annotated[Word, FIXED] = "sigmoid"
    """The activation of the gate."""
    value_dim: Annotated[int | None, Field(ge=1, le=4096), Gene(8, 256, "x2")] = None
    """Width of a head's values; head_dim if left out."""
    scale: Annotated[float | None, Field(gt=0, le=1e6), FIXED] = None
    """What scores are multiplied by; head_dim ** -0.5 if left out."""
    clip: Annotated[float | None, Field(gt=0, le=1e6), FIXED] = None
    """Bounds q, k and v to ±clip right after their projections (DBRX)."""
    qk_norm_at: Annotated[Literal["projection", "position"], FIXED] = "projection"
    """Whether q and k are normalised before or after they are rotated (Hunyuan)."""
    v_norm: Annotated[Spec | None, RoleOf("norm"), FIXED] = None
    """A norm of the values (Gemma 3n)."""
    inner_norm: Annotated[Spec | None, RoleOf("norm"), FIXED] = None
    """A norm of the heads' outputs, before gate and output projection (BitNet)."""
    values: Annotated[Values, FIXED] = "own"
    """keys: values are the keys as projected, before norm and rotation (Gemma 4). turned_keys: values are the keys as
    scores meet them, kept once, and what a head sees is turned back by the query's position (DeepSeek-V4). halves: the
    second half of all their channels is that of the token before (CCA, 2510.04476). tied: a key is its value but for
    its last channels, which all key heads share and alone turn (GTA, grouped-tied attention, 2505.21487)."""
    shared_dims: Annotated[int | None, Field(ge=1, le=4096), Gene(4, 128, "x2", optional=True)] = None
    """How many channels of tied keys are shared; half of a head if left out."""
    key_gain: bool = False
    """Whether keys are multiplied by a learned number a key head, which is the temperature of its scores (CCA)."""
    differ: Annotated[float | None, Field(gt=0, lt=1), FIXED] = None
    """Differential heads: the second half is taken from the first, times a learned number that starts here and plus the
    rest (Ye et al. 2024)."""
    differ_from: Annotated[int, Field(ge=1, le=64), Gene(1, 4, "+1")] = 1
    """How many heads each differential head is taken from: of so many parts of heads and one, the last (GDA,
    2510.06949, as in Motif 2). Keys and values have halves all the same."""
    subtract: bool = False
    """Whether every second head is taken from the one before it, times the sigmoid of a map of x for each pair
    (Differential Transformer V2, Ye et al. 2026); of more heads before it, by `subtract_from`."""
    subtract_from: Annotated[int, Field(ge=1, le=64), Gene(1, 4, "+1")] = 1
    """How many heads before it each such head is taken from, from each times a sigmoid of its own (GDA, grouped
    differential attention, 2510.06949, as in Motif 3)."""
    temperature: Annotated[TemperatureSpec | None, FIXED] = None
    """Scores that grow with the position of the query."""
    persistent: Annotated[int, Field(ge=0, le=65536), Gene(0, 32, "+1")] = 0
    """Learned keys and values of no token, which every query sees (persistent memory; Titans)."""
    kv_to: Annotated[str | None, Field(pattern=NAME, max_length=64), FIXED] = None
    """A name under which later attentions may read its keys and values."""
    kv_from: Annotated[str | None, Field(pattern=NAME, max_length=64), FIXED] = None
    """The name of an earlier attention's keys and values, read instead of own ones (Gemma 3n)."""
    values_to: Annotated[str | None, Field(pattern=NAME, max_length=64), FIXED] = None
    """A name under which later attentions may mix its projected values into theirs."""
    values_from: Annotated[str | None, Field(pattern=NAME, max_length=64), FIXED] = None
    """The name of an earlier attention's values, mixed into its own by two learned numbers (ResFormer, 2410.17897)."""
    mix_layers: LayerMixSpec | None = None
    """Keys and values of other layers that are mixed with its own; its own alone if left out."""
    token_values: TokenValuesSpec | None = None
    """What values have besides by the token alone; nothing if left out."""
    weigh: Weigh = "softmax"
    """What makes weights of scores: softmax; softmax1, e^x / (1 + sum e^x) (Miller 2023); sigmoid, of each score less
    log(context) (2409.04431); relu of a score over the context (2309.08586), or relu2, its square (GAU, 2202.10447);
    sparsemax and entmax (1.5), which leave far scores no weight (1602.02068, 1909.00015); softpick, which may give no
    key any weight (2504.20966); stick_breaking, where the nearest earlier token takes a share of 1, the next one of
    what is left, and so on, so that no position need be told (2410.17980)."""
    forget: bool = False
    """Whether a gate of each head and token lowers what all earlier ones count for (Forgetting Transformer)."""
    selective: Selective = "none"
    """Whether what a query scores an earlier key, where that is above 0, is taken from all later queries' scores of it;
    a text's first key is spared. one: as the first head scores keys, for all heads (Leviathan et al. 2410.02703); each:
    as each head does, for itself."""
    span: SpanSpec | None = None
    """How far each head sees, if that is learned; as far as the stencil shows if left out."""
    factors: FactorsSpec | None = None
    """Factors whose outer products queries, keys and values are sums of; each head has maps of its own if left out."""
    head_maps: HeadMapsSpec | None = None
    """Maps of values and outputs that each head chooses among; it has one of each if left out."""
    taps: TapsSpec | None = None
    """Short convolutions of the projections; none if left out."""
    mix_scores: MixScoresSpec | None = None
    """A mix of the scores of heads, and of neighbouring queries and keys; none if left out."""
    low_rank: LowRankSpec | None = None
    """Narrow vectors that queries and outputs pass; none if left out."""
    head_shares: HeadSharesSpec | None = None
    """How much the output of each head counts at a token, which keeps its best ones (MoH); all alike if left
    out."""
    head_experts: HeadExpertsSpec | None = None
    """Experts that heads belong to, of which each token chooses some; if left out, it has all heads."""

    @property
    def reads_kv(self) -> bool:
        return self.kv_from is None

    @property
    def reads_position(self) -> bool:
        return self.position is None

    @property
    def is_causal(self) -> bool:
        return self.causal

    @property
    def unread(self) -> frozenset[str]:
        found = [
            ("gate_act", self.gate == "none"),
            ("qk_norm_at", self.qk_norm == "none" and self.k_norm is None),
            ("differ_from", self.differ is None),
            ("subtract_from", not self.subtract),
            ("value_dim", self.values in ("keys", "turned_keys", "tied") and self.kv_from is None),
            ("shared_dims", self.values != "tied" or self.kv_from is not None),
        ]
        own = ("k_norm", "values", "v_norm", "values_to", "values_from", "key_gain", "token_values", "mix_layers")
        found += [(name, self.kv_from is not None) for name in own]
        return frozenset(name for name, is_unread in found if is_unread)

    @property
    def _are_one(self) -> bool:
        """Whether its keys are its values."""
        return self.values == "turned_keys" and self.kv_from is None

    @property
    def _are_tied(self) -> bool:
        """Whether its keys are its values but for some channels."""
        return self.values == "tied" and self.kv_from is None

    @property
    def _reads_for_values(self) -> bool:
        """Whether anything of values but its keys is a map."""
        gated = self.token_values is not None and self.token_values.gate != "none"
        return gated or self.values in ("own", "halves")

    @property
    def speaking(self) -> int:
        """Heads of which the output is made, where it is made of heads as wide as values."""
        return self.heads * self.subtract_from // (self.subtract_from + 1) if self.subtract else self.heads

    @property
    def differing(self) -> int:
        """Differential heads that give outputs."""
        return self.heads * self.differ_from // (self.differ_from + 1)

    @property
    def _differs_from_many(self) -> bool:
        """Whether its key heads serve unlike numbers of queries."""
        return self.differ is not None and self.differ_from > 1

    @property
    def _groups(self) -> int:
        return self.kv_heads or self.heads

    @property
    def _norm(self) -> NormSpec | None:
        """The norm of q and k, if there is one."""
        if self.qk_norm == "none":
            return None
        return self.qk_norm if isinstance(self.qk_norm, NormSpec) else RMSNormSpec()
