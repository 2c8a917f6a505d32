"""The language of a router: who chooses, by what score, under which limits, and how much each choice counts."""

import math
from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evo.blocks.experts.assigned import assigned
from evo.blocks.experts.narrow import NarrowSpec
from evo.blocks.norm.spec import NormSpec
from evo.dsl.genes import FIXED, Gene
from evo.dsl.organism import NAME
from evo.dsl.plan import BlockPlan
from evo.dsl.references import placed
from evo.dsl.spec import TOKENS, Fault, RoleOf, Scope, Spec

ROUTER_LOGITS = "router logits of"
"""How the names of logits begin that routers share."""
READ_NORM = "read_norm"
BALANCE = 0.01
"""The weight of the balance loss where nothing else keeps experts equally busy (Fedus et al. 2021)."""


class RouterSpec(Spec):
    """Which experts a token meets, and how much each counts: share = scale * score(logit) / (sum over its choices)."""

    called: ClassVar[str | None] = "this router"

    choose: Literal["each_token", "each_expert", "hash", "table"] = "each_token"
    """each_token: its `top` best experts. each_expert: the best of the tokens so far (Zhou et al. 2022), and a token
    meets at most `top`. hash: a fixed function of the token's id chooses (Roller et al. 2021). table: a table by the
    token's id, which no training changes, says which (DeepSeek-V4); it begins at random."""
    score: Literal["softmax", "sigmoid", "sqrt_softplus", "relu", "alike"] = "softmax"
    """What makes scores of logits; relu: a token meets only experts whose logit is above 0, at most `top` (ReMoE, Wang
    et al. 2412.14711); alike: every choice counts alike, and there are no logits."""
    choice_bias: bool = False
    """A bias that is added to scores for the choice alone, and that each step moves against an expert's load: its
    gradient is the sign of the overload (DeepSeek-V3, 2412.19437)."""
    choice_of: Annotated[Literal["score", "logit"], FIXED] = "score"
    """What tokens choose by, and the bias is added to: a score, or the logit that it is made of (Kolibri). Without bias
    and groups both choose alike, since every score grows with its logit."""
    top_p: Annotated[float | None, Field(gt=0, lt=1), Gene(0.2, 0.9, "linear", optional=True)] = None
    """A token meets its best experts until their scores sum to this, and at most `top` of them (Huang et al.
    2403.07652)."""
    groups: Annotated[int, Field(ge=1, le=1024), Gene(1, 8, "x2")] = 1
    """Equal groups that experts stand in; a token chooses among its `top_groups` best ones."""
    top_groups: Annotated[int, Field(ge=1, le=1024), Gene(1, 8, "+1")] = 1
    """How many groups a token chooses among."""
    group_score: Literal["top2", "max"] = "top2"
    """A group's score: the sum of its two best choices (DeepSeek-V3), or its best one (DeepSeek-V2)."""
    renormalise: bool = True
    """Whether the scores of the choices are divided by their sum. After softmax that is softmax over the chosen."""
    eps: Annotated[float, Field(ge=0), FIXED] = 0.0
    """What is added to that sum."""
    scale: Annotated[float, Field(gt=0), Gene(0.25, 4, "scale")] = 1.0
    """What shares are multiplied by in the end."""
    rivals: Annotated[float | None, Field(gt=0, le=1e6), FIXED] = None
    """Each choice's score is softmax among logits near its own: not chosen before it, and below it by at most this
    share of the larger of both (SparseMixer, 2409.12136: 0.02)."""
    soft_cap: Annotated[float | None, Field(gt=0), Gene(5, 50, "scale", optional=True)] = None
    """Bounds logits to ±cap by `cap * tanh(logits / cap)`."""
    bias: bool = False
    """A bias of the logits."""
    norm: Annotated[Spec | None, RoleOf("norm"), FIXED] = None
    """A norm that its input passes, where experts read it as it is (MoEUT, 2405.16039; Gemma 4)."""
    network: NarrowSpec | None = None
    """What stands between the input and the map to logits; nothing if left out."""
    logits_to: Annotated[str | None, Field(pattern=NAME, max_length=64), FIXED] = None
    """A name under which routers of later layers may read its logits."""
    logits_from: Annotated[str | None, Field(pattern=NAME, max_length=64), FIXED] = None
    """The name of an earlier router's logits, of which a learned map is added to its own (MoE++, 2410.07348)."""
    capacity: Annotated[float | None, Field(gt=0, le=1e6), Gene(0.5, 4, "scale", optional=True)] = None
    """In fair shares (top / count of the tokens). Tokens choose: the most tokens that an expert takes in a context, the
    first that come; no limit if left out. Experts choose: the share of tokens so far that each takes; 1 if left out."""
    causal: Annotated[bool, FIXED] = True
    """Experts choose: each among the tokens so far. False: among all tokens of the sequence, as published, which sees
    the future and cannot decode."""
    balance: Annotated[float | None, Field(ge=0), FIXED] = None
    """Weight of the loss count * sum_e load_e * score_e that keeps experts equally busy (Fedus et al. 2021, eq. 4); if
    left out, 0.01 where tokens choose without a choice bias, and else 0."""
    z_loss: Annotated[float, Field(ge=0), FIXED] = 0.0
    """Weight of the mean of logsumexp(logits)² (Zoph et al. 2022)."""
    entropy: Annotated[float, Field(ge=0), FIXED] = 0.0
    """Weight of the mean entropy of softmax(logits), which keeps tokens with a `top_p` at few experts."""

    @property
    def unread(self) -> frozenset[str]:
        chooses_alike = self.choose != "each_token" or not (self.choice_bias or self.groups > 1)
        return frozenset({"choice_of"}) if chooses_alike or not self.has_logits else frozenset()

    @property
    def is_causal(self) -> bool:
        return self.causal or self.choose != "each_expert"

    @property
    def balance_weight(self) -> float:
        """The weight of the balance loss."""
        if self.balance is not None:
            return self.balance
        return BALANCE if self.choose == "each_token" and not self.choice_bias else 0.0

    @property
    def has_logits(self) -> bool:
        """Whether it reads the input at all."""
        return self.score != "alike"

    @property
    def may_meet_none(self) -> bool:
        """Whether a choice whose score is 0 is none."""
        return self.score == "relu"

    @property
    def meets_fewer(self) -> bool:
        """Whether scores say how many experts a token meets."""
        return self.may_meet_none or self.top_p is not None

    @property
    def has_state(self) -> bool:
        """Whether what it does with a token depends on those before it."""
        return self.choose == "each_expert" or self.capacity is not None

    def inputs(self, scored: int) -> tuple[str, ...]:
        """The signals that it reads besides x: a hash is one of tokens. scored: how many logits it has."""
        return (*((TOKENS,) if self.is_by_token else ()), *_logits_of(self.logits_from, scored))

    def outputs(self, scored: int) -> tuple[str, ...]:
        """The signals that it publishes."""
        return _logits_of(self.logits_to, scored)

    @property
    def is_by_token(self) -> bool:
        """Whether the token's id alone chooses."""
        return self.choose in ("hash", "table")

    def children(self, scope: Scope, top: int, count: int) -> tuple[tuple[str, BlockPlan], ...]:
        """What stands before its map to logits, and a table of choices, by name."""
        found: list[tuple[str, BlockPlan]] = []
        if isinstance(self.norm, NormSpec) and self.has_logits:
            found.append((READ_NORM, self.norm.plan(scope)))
        if self.network is not None and self.has_logits:
            found.append(("network", self.network.network(scope)))
        if self.choose == "table":
            found.append(("assigned", assigned(scope.vocab, top, count)))
        return tuple(found)

    def losses(self) -> tuple[str, ...]:
        """The names of the losses that it adds."""
        found = ("balance",) if self.balance_weight or self.choice_bias else ()
        found = (*found, *(("router_z",) if self.z_loss else ()))
        return (*found, *(("router_entropy",) if self.entropy else ()))

    def limit(self, top: int, count: int, context: int) -> int | None:
        """The most tokens of a context that an expert takes where tokens choose; None for no limit."""
        if self.capacity is None or self.choose == "each_expert":
            return None
        return max(1, math.ceil(self.capacity * top / count * context - 1e-9))

    def fraction(self, top: int, count: int) -> float:
        """The share of the tokens so far that an expert takes where experts choose."""
        return min(1.0, (self.capacity or 1.0) * top / count)

    def faults(self, top: int, count: int, idle: int, scope: Scope) -> Iterator[Fault]:
        """What cannot be, or does nothing, for so many choices of so many experts and idle classes."""
        classes = count + idle
        if top > classes:
            yield Fault("EVO307", ("top",), f"a token cannot meet {top} of {classes} experts", "lower top")
            return
        yield from self._group_faults(top, classes)
        yield from self._unread(top, count, scope.context)
        yield from self._hash_faults(idle)
        if self.rivals is not None:
            yield from self._alone(
                "rivals", "rivals are near choices by the logits themselves", choice_bias=False, groups=1
            )
        if self.top_p is not None:
            yield from self._alone("top_p", "the scores that are summed are those of the best by softmax", rivals=None)
            if top == 1:
                yield Fault("EVO307", ("router", "top_p"), "a token meets one expert whatever its score", "raise top")
        for name in ("logits_to", "logits_from"):
            if getattr(self, name) is not None and not self.has_logits:
                message = "without logits a router neither gives nor adds any"
                yield Fault("EVO307", ("router", name), message, "remove it, or write another score")
        if self.network is not None:
            yield from (placed(fault, "router", "network") for fault in self.network.faults())
        if isinstance(self.norm, NormSpec):
            yield from self.norm.slot_problems(scope.width, ("router", "norm"))
        for name in ("norm", "network"):
            if getattr(self, name) is not None and not self.has_logits:
                message = "without logits a router reads nothing"
                yield Fault("EVO307", ("router", name), message, "remove it, or write another score")
        is_constant = self.renormalise and top == 1 and not self.eps
        if is_constant and self.has_logits and self.choose != "each_expert":
            message = "a single share divided by itself is always 1, so the task teaches the router nothing"
            yield Fault("EVO307", ("router", "renormalise"), message, "write renormalise: false, or raise top")

    def _alone(self, field: str, message: str, **others: object) -> Iterator[Fault]:
        """What must be as it is left out where choices are those of the softmax of logits."""
        for name, value in {"choose": "each_token", "score": "softmax", **others}.items():
            if getattr(self, name) != value:
                yield Fault("EVO307", ("router", name), message, f"remove it, or {field}")

    def _group_faults(self, top: int, classes: int) -> Iterator[Fault]:
        if classes % self.groups:
            message = f"{self.groups} groups do not divide {classes} experts"
            yield Fault("EVO307", ("router", "groups"), message, "change groups, or the number of experts")
        elif self.top_groups > self.groups:
            yield Fault("EVO307", ("router", "top_groups"), f"there are {self.groups} groups", "lower top_groups")
        elif top > self.top_groups * (classes // self.groups):
            message = f"{self.top_groups} groups hold fewer than {top} experts"
            yield Fault("EVO307", ("router", "top_groups"), message, "raise top_groups, or lower top")
        elif self.groups == classes and self.group_score == "top2":
            yield Fault("EVO307", ("router", "group_score"), "a group of one expert has no two best", "write max")
        elif self.groups == self.top_groups and {"groups", "top_groups"} & self.model_fields_set and self.groups > 1:
            yield _unread("groups", "every group is chosen, so they change nothing", "lower top_groups")
        if self.groups == 1 and "group_score" in self.model_fields_set:
            yield _unread("group_score", "there is one group")

    def _unread(self, top: int, count: int, context: int) -> Iterator[Fault]:
        if not self.causal and self.choose != "each_expert":
            yield _unread("causal", "only where experts choose does the choice look at other tokens")
        if self.eps and not self.renormalise:
            yield _unread("eps", "nothing is divided")
        limit = self.limit(top, count, context)
        if limit is not None and limit >= context:
            yield _unread("capacity", f"no expert can get more than the {context} tokens of a context")
        if self.choose == "each_expert" and self.fraction(top, count) >= 1.0:
            yield _unread("capacity", "every expert takes every token")
        elif self.choose == "each_expert" and self.capacity == 1.0:
            yield _unread("capacity", "experts that choose take their fair share anyway")

    def _hash_faults(self, idle: int) -> Iterator[Fault]:
        if self.choose == "each_expert" and self.choice_bias:
            message = "experts that choose are equally busy without a bias"
            yield Fault("EVO307", ("router", "choice_bias"), message, "remove it")
        if not self.is_by_token:
            if not self.has_logits:
                yield Fault(
                    "EVO307", ("router", "score"), "without scores there is nothing to choose by", "write softmax"
                )
            return
        if idle:
            yield Fault(
                "EVO307", ("router", "choose"), "a token's id chooses among experts, not idle classes", "remove them"
            )
        taken = {"choice_bias": self.choice_bias, "groups": self.groups > 1, "balance": bool(self.balance)}
        if not self.has_logits:
            taken |= {"soft_cap": self.soft_cap is not None, "bias": self.bias}
            taken |= {"z_loss": bool(self.z_loss), "entropy": bool(self.entropy)}
        for name in (name for name, is_set in taken.items() if is_set):
            yield Fault("EVO307", ("router", name), "the token's id chooses, whatever scores are", "remove it")


def _unread(name: str, message: str, help: str = "remove it") -> Fault:
    return Fault("EVO330", ("router", name), message, help, "warning")


def _logits_of(name: str | None, scored: int) -> tuple[str, ...]:
    """What logits of a name are called in a pass: with their number, so that only equal ones meet."""
    return () if name is None else (f"{ROUTER_LOGITS} {name} ({scored} of them)",)
