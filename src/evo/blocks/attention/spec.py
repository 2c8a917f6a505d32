"""The language of attention."""

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

from evo.blocks.attention.conflicts import conflicts
from evo.blocks.attention.fields import AttentionFields
from evo.blocks.attention.plan import AttentionPlan, kv_inputs, kv_signals
from evo.blocks.attention.stencils import FullStencil
from evo.blocks.attention.taps import wrong_names
from evo.blocks.attention.weighing import offset, share
from evo.blocks.attention.weights import attention_weights
from evo.blocks.norm.spec import NormSpec
from evo.blocks.position.spec import PositionSpec, acts_on_heads
from evo.blocks.select.spec import Asker, SelectSpec, hides_nothing, under
from evo.dsl.plan import BlockPlan, Cost, matmul_flops
from evo.dsl.spec import Fault, Scope, Spec, dividing
from evo.dsl.tree import replaced


class AttentionSpec(AttentionFields):
    """softmax(q k^T / sqrt(head_dim)) v over grouped heads (Vaswani et al. 2017; Ainslie et al. 2023)."""

    kind: ClassVar[str | None] = "attention"
    widths_apart: ClassVar[bool] = True

    def problems(self, scope: Scope) -> Iterator[Fault]:
        if self.head_dim is None and scope.width % self.heads:
            message = f"{self.heads} heads do not divide the width {scope.width}"
            yield Fault("EVO300", ("heads",), message, "change heads or width, or set head_dim")
            return
        if self.heads % self._groups:
            message = f"{self._groups} kv_heads do not divide {self.heads} heads"
            yield Fault("EVO301", ("kv_heads",), message, dividing(self.heads))
        if isinstance(self.position, PositionSpec) and self.position.acts_on == "embedding":
            message = "learned positions are added to the embedding: they belong to the organism"
            yield Fault("EVO304", ("position",), message, "write them under organism.position")
        if self.position is not None and not acts_on_heads(self.position) and not acts_on_heads(scope.position):
            message = "no position encoding acts on these heads anyway"
            yield Fault("EVO330", ("position",), message, "remove it", "warning")
        full = FullStencil().visible(scope.context, self.causal)
        if self.stencil.masks and self.stencil.visible(scope.context, self.causal) >= full:
            message = f"this stencil hides nothing within the context of {scope.context}"
            yield Fault("EVO331", ("stencil",), message, "write {kind: full}, or make it smaller", "warning")
        position = self._position(scope)
        yield from self._bias_problems(position)
        for problem in position.attention_problems(self._head_dim(scope)):
            if self.position:
                yield replace(problem, path=("position", *problem.path))
            else:
                yield replace(problem, path=("heads",), inherited=(position, str(problem.path[0])))
        yield from self._option_problems(scope)

    def _option_problems(self, scope: Scope) -> Iterator[Fault]:
        dim, values = self._head_dim(scope), self._value_dim(scope)
        if isinstance(self.qk_norm, NormSpec):
            yield from self.qk_norm.head_problems(self.heads, dim, ("qk_norm",))
            if self.k_norm is None:
                yield from self.qk_norm.head_problems(self._groups, dim, ("qk_norm",))
        for name, sizes in (
            ("k_norm", (self._groups, dim)),
            ("v_norm", (self._groups, values)),
            ("inner_norm", self._outputs(scope)),
        ):
            norm = getattr(self, name)
            if isinstance(norm, NormSpec):
                yield from norm.head_problems(*sizes, (name,))
        if self.differ is not None and self._groups % 2:
            message = f"differential heads come in pairs: {self._groups} key heads are odd"
            yield Fault("EVO308", ("differ",), message, "change heads or kv_heads")
        if self.subtract and self.heads % 2:
            message = f"heads that are taken from others come in pairs: {self.heads} heads are odd"
            yield Fault("EVO308", ("subtract",), message, "change heads")
        if self.values == "halves" and self._groups * values % 2:
            message = f"{self._groups * values} channels have no halves"
            yield Fault("EVO308", ("values",), message, "change kv_heads or value_dim")
        if isinstance(self.bias, tuple):
            known = (*self._projections(scope), *(("gate_heads",) if self.gate == "channel" else ()))
            yield from wrong_names(self.bias, known, "bias")
        if isinstance(self.select, SelectSpec):
            yield from self._select_problems(self.select, scope)
        for to, name, read in (("kv_to", self.kv_to, self.kv_from), ("values_to", self.values_to, self.values_from)):
            if name is not None and name == read:
                yield Fault("EVO308", (to,), "it would publish what it reads under the same name", "remove it")
        yield from conflicts(self._parts(self._position(scope)))
        if self.weigh == "stick_breaking" and not self.causal:
            message = "the nearest earlier key takes its share first, and later keys have no place in that order"
            yield Fault("EVO308", ("weigh",), message, "write causal: true, or weigh otherwise")
        if self.head_experts is not None:
            yield from under(self.head_experts.faults(self.heads, self._groups, scope.context), "head_experts")
        if self.head_maps is not None:
            yield from under(self.head_maps.faults(), "head_maps")
        if self.mix_scores is not None:
            yield from under(self.mix_scores.faults(self.heads), "mix_scores")
        if self.token_values is not None and self.kv_from is None:
            yield from under(self.token_values.faults(scope.width), "token_values")
        if self.mix_layers is not None and self.kv_from is None:
            yield from under(self.mix_layers.faults(), "mix_layers")
        if self.low_rank is not None:
            yield from under(self.low_rank.faults(self._outputs(scope)[0]), "low_rank")
        if self.taps is not None and self.kv_from is None:
            yield from under(self.taps.faults(self._projections(scope)), "taps")

    def _parts(self, position: PositionSpec) -> dict[str, bool]:
        """What it has that does not go together with everything."""
        return {
            "persistent": self.persistent > 0,
            "select": self.select is not None,
            "taps": self.taps is not None,
            "q taps": self.taps is not None and "q" in self.taps.on,
            "kv_from": self.kv_from is not None,
            "weigh": self.weigh != "softmax",
            "sink_logit": self.sink_logit,
            "forget": self.forget,
            "stencil": self.stencil.masks or not self.stencil.is_causal,
            "mix_scores": self.mix_scores is not None,
            "mix_scores.queries": self.mix_scores is not None and self.mix_scores.meets_neighbours,
            "bias by distance": position.adds_bias,
            "bias by keys": position.counts_keys,
            "not causal": not self.causal,
            "head_experts": self.head_experts is not None,
            "gate": self.gate != "none",
            "differ": self.differ is not None,
            "subtract": self.subtract,
            "token_values": self.token_values is not None,
            "mix_layers": self.mix_layers is not None,
            "head_gain": self.head_gain,
            "head gains": any(
                isinstance(norm, NormSpec) and norm.tells_heads_apart for norm in (self._norm, self.inner_norm)
            ),
            "scores": position.acts_on == "scores",
            "values": self._are_one,
            "low_rank": self.low_rank is not None,
            "selective": self.selective != "none",
            "span": self.span is not None,
            "factors": self.factors is not None,
            "head_maps": self.head_maps is not None,
            "qk_norm": self._norm is not None or self.k_norm is not None,
            "values_of": self.values != "own",
            "key_gain": self.key_gain,
            "v_norm": self.v_norm is not None,
            "kv_to": self.kv_to is not None,
            "values_to": self.values_to is not None,
            "values_from": self.values_from is not None,
        }

    def beside(self, count: int, width: int) -> Spec | None:
        """So many times the heads; not where heads are told apart, chosen for, or read by others."""
        told = (self.kv_to, self.kv_from, self.values_to, self.values_from, self.differ, self.taps, self.select)
        gains = self.key_gain or self.head_gain
        is_apart = self.forget or gains or self.subtract or self.values == "halves" or self.selective == "one"
        apart = (
            *told,
            self.token_values,
            self.mix_layers,
            self.mix_scores,
            self.head_experts,
            self.low_rank,
            self.factors,
            self.head_maps,
            self.span,
        )
        if is_apart or any(part is not None for part in apart):
            return None
        heads: dict[tuple[str | int, ...], int] = {
            ("heads",): count * self.heads,
            ("kv_heads",): count * self._groups,
            ("head_dim",): self.head_dim or width // self.heads,
        }
        return replaced(self, heads)

    def _bias_problems(self, position: PositionSpec) -> Iterator[Fault]:
        """What keeps a bias by distance from being added here."""
        if not position.adds_bias:
            return
        where = ("position",) if self.position else ("heads",)
        if not self.causal and position.is_one_sided:
            message = f"position {position.kind} says nothing of later keys, which this attention sees"
            yield Fault("EVO361", where, message, "write another position, or causal: true")
        if position.counts_keys and self.stencil.masks:
            message = f"position {position.kind} counts all keys before a query, and this stencil hides some"
            yield Fault("EVO361", where, message, "write {kind: full}, or another position")
        if self.select is not None:
            message = f"a selection and position {position.kind} both add to scores"
            yield Fault("EVO361", ("select",), message, "leave one of them out")

    def _select_problems(self, select: SelectSpec, scope: Scope) -> Iterator[Fault]:
        if (self.stencil.masks and not select.fits_stencils) or not (self.causal and self.stencil.is_causal):
            message = "a selection chooses among all earlier tokens"
            yield Fault("EVO360", ("select",), message, "leave out stencil and causal, or the selection")
        elif hides_nothing(select.pairs(scope.context), scope.context):
            message = f"this selection hides nothing within the context of {scope.context}"
            yield Fault("EVO331", ("select",), message, "make it smaller, or leave it out", "warning")
        yield from under(select.faults(scope, self._asker(scope)), "select")

    def _asker(self, scope: Scope) -> Asker:
        """What a selection must know of this attention."""
        dim, (_, values) = self._head_dim(scope), self._outputs(scope)
        made_of = (self.low_rank and self.low_rank.q) or 0
        position = self._position(scope)
        return Asker(self.heads, self._groups, dim, values, position, made_of, values_are_keys=self._are_one)

    def _pairs(self, scope: Scope) -> float:
        """How many keys a query meets on average."""
        chosen = self.select.pairs(scope.context) if isinstance(self.select, SelectSpec) else None
        shown = self.stencil.visible(scope.context, self.causal)
        return min(shown, shown if chosen is None else chosen) / scope.context + self.persistent

    def _position(self, scope: Scope) -> PositionSpec:
        position = self.position or scope.position
        assert isinstance(position, PositionSpec)
        return position

    def _head_dim(self, scope: Scope) -> int:
        return self.head_dim or scope.width // self.heads

    def _value_dim(self, scope: Scope) -> int:
        return ("value_dim" not in self.unread and self.value_dim) or self._head_dim(scope)

    def _outputs(self, scope: Scope) -> tuple[int, int]:
        """How many heads give outputs, and how wide these are."""
        values = self._value_dim(scope)
        return (self.speaking, values) if self.differ is None else (self.heads // 2, 2 * values)

    def _projections(self, scope: Scope) -> dict[str, tuple[int, int]]:
        """The output and input width of each projection that there is, in order; of experts, those of one."""
        dim, values, width = self._head_dim(scope), self._value_dim(scope), scope.width
        asking = self.heads if self.head_experts is None else self.heads // self.head_experts.top
        low, (keys, of_values) = self.low_rank, (self._groups, self._groups)
        queries = asking
        if self.factors is not None:
            queries, keys, of_values = self.factors.q or asking, self.factors.k, self.factors.v
        found = {"q": (queries * dim, (low and low.q) or width)}
        if self.kv_from is None:
            found["k"] = (keys * dim, width)
            if self.values in ("own", "halves"):
                parts = ("v", "v_late") if self.values == "halves" else ("v",)
                found |= dict.fromkeys(parts, (of_values * values // len(parts), width))
        found["o"] = (
            scope.given,
            (self.speaking if self.subtract else asking) * values
            if low is None or low.o is None
            else low.groups * low.o,
        )
        if self.gate != "none":
            found["gate"] = ((self.speaking if self.gate == "head" else self.speaking * values), width)
        return found

    def plan(self, scope: Scope) -> AttentionPlan:
        dim, values, groups = self._head_dim(scope), self._value_dim(scope), self._groups
        weights = attention_weights(self, scope, self._projections(scope), (groups, dim, values))
        is_own = self.kv_from is None
        kept = (dim,) * groups + (() if self._are_one else (values,) * groups) if is_own else ()
        if self.factors is not None:
            kept = tuple(size for count, size in self.factors.kept(groups, dim, values) for _ in range(count))
        speaking = {"none": 0, "one": 1, "each": self.heads}[self.selective]
        score_flops = 2.0 * self.heads * (dim + (values if self.differ is None else 2 * values))
        mix = self.mix_scores
        if mix is not None:
            score_flops += 2.0 * sum(weight.shape[0] * weight.shape[1] for weight in mix.weights(self.heads))
        score_flops += (2.0 * dim + 2.0) * speaking
        cost = Cost(
            flops=matmul_flops(weights) + score_flops * self._pairs(scope) + self._product_flops(scope),
            cache_per_token=sum(kept) + self.heads * self.forget + speaking,
            cache_vectors=kept,
            cache_limit=self.stencil.kept(),
            state=self._kept(scope) + (0 if mix is None else (mix.queries - 1) * self.heads * dim),
            evicting_heads=groups if self._may_evict(scope) else 0,
            activations=scope.width + self.heads * (dim + values) + groups * (dim + values) + self.heads,
        )
        given, mixed = (self._value_signal(name, scope) for name in (self.values_to, self.values_from))
        read, rows = self._beside_signals(groups, dim, values) if is_own else ((), ())
        return AttentionPlan(
            kind=self.label,
            weights=weights,
            cost=cost,
            children=self._children(scope),
            inputs=(
                *(kv_inputs(scope.kv, self._reads_for_values) if is_own else self._signals(self.kv_from, scope)),
                *mixed,
                *read,
            ),
            outputs=(*self._signals(self.kv_to, scope), *given, *rows),
            has_state=is_own,
            heads=self.heads,
            kv_heads=groups,
            head_dim=dim,
            qk_norm=self.qk_norm if isinstance(self.qk_norm, str) else self.qk_norm.label,
            soft_cap=self.soft_cap,
            stencil=self.stencil.kernel(),
            sink_logit=self.sink_logit,
            bias=self.bias,
            causal=self.causal,
            value_dim=None if values == dim else values,
            scale=self.scale,
            clip=self.clip,
            gate=self.gate,
            gate_act="" if self.gate == "none" else self.gate_act,
            norm_after_position=self.qk_norm_at == "position",
            are_one=self._are_one,
            differ=self.differ,
            persistent=self.persistent,
            temperature=self.temperature and self.temperature.numbers,
            kv_to=self._signals(self.kv_to, scope),
            kv_from=self._signals(self.kv_from, scope),
            values_to=given,
            values_from=mixed,
            taps=self.taps,
            mix_scores=mix,
            weigh=self.weigh,
            offset=offset(self.weigh, scope.context),
            share=share(self.weigh, scope.context),
            kv=scope.kv if is_own else "",
            selective=self.selective,
            factors=self.factors,
            head_maps=self.head_maps,
        )

    def _product_flops(self, scope: Scope) -> float:
        """Of the sums of outer products that heads are."""
        if self.factors is None:
            return 0.0
        of_keys = self._groups * (self.factors.k * self._head_dim(scope) + self.factors.v * self._value_dim(scope))
        return 2.0 * (of_keys + self.heads * (self.factors.q or 0) * self._head_dim(scope))

    def _kept(self, scope: Scope) -> int:
        """Values of fixed size that decoding keeps: what taps and late values read."""
        late, _ = self._projections(scope).get("v_late", (0, 0))
        keys = (self._groups, self._head_dim(scope))
        tapped = {"q": (self.heads, keys[1]), "k": keys, "v": (self._groups, self._value_dim(scope))}
        return late + (0 if self.taps is None else self.taps.kept(tapped))

    def _may_evict(self, scope: Scope) -> bool:
        """Whether key heads may forget positions apart: nothing but a query and a key decides what one sees."""
        position = self._position(scope)
        has = self._parts(position)
        told_apart = (
            "scores",
            "forget",
            "kv_from",
            "select",
            "persistent",
            "differ",
            "mix_scores",
            "values",
            "kv_to",
            "selective",
            "factors",
            "span",
        )
        return not (any(has[name] for name in told_apart) or self.stencil.masks or position.adds_bias)

    def _signals(self, name: str | None, scope: Scope) -> tuple[str, ...]:
        """What keys and values are called in a pass."""
        sizes = (self._groups, self._head_dim(scope), self._value_dim(scope))
        return () if name is None else kv_signals(name, *sizes, self.stencil.kernel())

    def _value_signal(self, name: str | None, scope: Scope) -> tuple[str, ...]:
        """What projected values are called in a pass."""
        if name is None or self.kv_from is not None:
            return ()
        return (f"projected values of {name} ({self._groups} heads of {self._value_dim(scope)})",)

    def _beside_signals(self, groups: int, dim: int, values: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What its values of tokens and its mix of layers read of a pass, and what they give."""
        read, given = tuple[str, ...](), tuple[str, ...]()
        if self.token_values is not None:
            own = self.token_values
            read, given = own.inputs(groups, values), own.rows(own.to, groups, values)
        if self.mix_layers is not None:
            plan = self.mix_layers.child(groups, dim, values)
            read, given = (*read, *(name for pair in plan.reads for name in pair)), (*given, *plan.gives)
        return read, given

    def _children(self, scope: Scope) -> tuple[tuple[str, BlockPlan], ...]:
        dim, values = self._head_dim(scope), self._value_dim(scope)
        found = [("position", self._position(scope).for_heads(scope, self.heads, dim))]
        if self._norm is not None:
            found.append(("q_norm", self._norm.over_heads(self.heads, dim)))
        k_norm = self.k_norm or self._norm
        if isinstance(k_norm, NormSpec) and self.kv_from is None:
            found.append(("k_norm", k_norm.over_heads(self._groups, dim)))
        if isinstance(self.v_norm, NormSpec) and self.kv_from is None:
            found.append(("v_norm", self.v_norm.over_heads(self._groups, values)))
        if isinstance(self.inner_norm, NormSpec):
            found.append(("inner_norm", self.inner_norm.over_heads(*self._outputs(scope))))
        if self.token_values is not None and self.kv_from is None:
            found.append(("token_values", self.token_values.child(scope, self._groups, values)))
        if self.mix_layers is not None and self.kv_from is None:
            found.append(("mix_layers", self.mix_layers.child(self._groups, dim, values)))
        found += [] if self.span is None else [("span", self.span.child(scope, self.heads))]
        found += [] if self.low_rank is None else self.low_rank.children(scope)
        if self.head_experts is not None:
            found.append(("head_experts", self.head_experts.chooser(scope)))
        if isinstance(self.select, SelectSpec):
            found.append(("select", self.select.chooser(scope, self._asker(scope))))
        return tuple(found)
