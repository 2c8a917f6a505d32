"""The language of attention."""

from typing import ClassVar

from evo.blocks.attention.faults import AttentionFaults
from evo.blocks.attention.plan import AttentionPlan, kv_inputs, kv_signals
from evo.blocks.attention.weighing import offset, share
from evo.blocks.attention.weights import attention_weights
from evo.blocks.norm.spec import NormSpec
from evo.blocks.select.spec import SelectSpec
from evo.dsl.plan import BlockPlan, Cost, matmul_flops
from evo.dsl.spec import Scope, Spec
from evo.dsl.tree import replaced


class AttentionSpec(AttentionFaults):
    """softmax(q k^T / sqrt(head_dim)) v over grouped heads (Vaswani et al. 2017; Ainslie et al. 2023)."""

    kind: ClassVar[str | None] = "attention"
    widths_apart: ClassVar[bool] = True

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
            self.head_shares,
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

    def plan(self, scope: Scope) -> AttentionPlan:
        dim, values, groups = self._head_dim(scope), self._value_dim(scope), self._groups
        met = self._key_dim(scope)
        weights = attention_weights(self, scope, self._projections(scope), (groups, dim, values))
        is_own = self.kv_from is None
        kept = (met,) * groups + (() if self._are_one else (values,) * groups) if is_own else ()
        kept = (self._shared_dims(scope), *(values,) * groups) if self._are_tied else kept
        if self.factors is not None:
            kept = tuple(size for count, size in self.factors.kept(groups, dim, values) for _ in range(count))
        speaking = {"none": 0, "one": 1, "each": self.heads}[self.selective]
        score_flops = 2.0 * self.heads * (met + (values if self.differ is None else 2 * values))
        mix = self.mix_scores
        if mix is not None:
            score_flops += mix.pair_flops(self.heads)
        said = 0 if mix is None or mix.compose is None else mix.compose.kept(self.heads)
        score_flops += (2.0 * met + 2.0) * speaking
        cost = Cost(
            flops=matmul_flops(weights) + score_flops * self._pairs(scope) + self._product_flops(scope),
            cache_per_token=sum(kept) + self.heads * self.forget + speaking + said,
            cache_vectors=kept,
            cache_limit=self.stencil.kept(),
            state=self._kept(scope) + (0 if mix is None else (mix.queries - 1) * self.heads * met),
            evicting_heads=groups if self._may_evict(scope) else 0,
            activations=scope.width + self.heads * (met + values) + groups * (met + values) + self.heads,
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
            key_dim=None if met == dim else met,
            scale=self.scale,
            clip=self.clip,
            gate=self.gate,
            gate_act="" if self.gate == "none" else self.gate_act,
            norm_after_position=self.qk_norm_at == "position",
            are_one=self._are_one,
            shared_dims=self._shared_dims(scope) if self._are_tied else None,
            differ=self.differ,
            differ_from=self.differ_from if self._differs_from_many else None,
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
            head_shares=self.head_shares,
        )

    def _signals(self, name: str | None, scope: Scope) -> tuple[str, ...]:
        """What keys and values are called in a pass."""
        sizes = (self._groups, self._key_dim(scope), self._value_dim(scope))
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
        if self.head_shares is not None:
            found.append(("head_shares", self.head_shares.chooser(scope, self._outputs(scope)[0])))
        if isinstance(self.select, SelectSpec):
            found.append(("select", self.select.chooser(scope, self._asker(scope))))
        return tuple(found)
