"""What the fields of attention come to at one place: its parts, and how wide they are."""

import math

from evo.blocks.attention.fields import AttentionFields
from evo.blocks.norm.spec import NormSpec
from evo.blocks.position.spec import PositionSpec
from evo.blocks.select.spec import Asker, SelectSpec
from evo.dsl.spec import Scope


class AttentionShapes(AttentionFields):
    """The fields of attention, and what they come to where it stands."""

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

    def _key_dim(self, scope: Scope) -> int:
        """How wide keys are as scores meet them."""
        return self._head_dim(scope) * self._position(scope).widens

    def _shared_dims(self, scope: Scope) -> int:
        """How many channels tied keys share."""
        return self.shared_dims or max(1, self._head_dim(scope) // 2)

    def _value_dim(self, scope: Scope) -> int:
        return ("value_dim" not in self.unread and self.value_dim) or self._head_dim(scope)

    def _outputs(self, scope: Scope) -> tuple[int, int]:
        """How many heads give outputs, and how wide these are."""
        values = self._value_dim(scope)
        return (self.speaking, values) if self.differ is None else (self.differing, 2 * values)

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
            if self._are_tied:
                found["k_shared"] = (self._shared_dims(scope), width)
            if self.values in ("own", "halves"):
                parts = ("v", "v_late") if self.values == "halves" else ("v",)
                found |= dict.fromkeys(parts, (of_values * values // len(parts), width))
        found["o"] = (
            scope.given,
            (asking * values if self.head_experts is not None else math.prod(self._outputs(scope)))
            if low is None or low.o is None
            else low.groups * low.o,
        )
        if self.gate != "none":
            found["gate"] = ((self.speaking if self.gate == "head" else self.speaking * values), width)
        return found

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
            "mix_scores.compose": self.mix_scores is not None and self.mix_scores.compose is not None,
            "mix_scores.network": self.mix_scores is not None and self.mix_scores.network is not None,
            "bias by distance": position.adds_bias,
            "bias by keys": position.counts_keys,
            "not causal": not self.causal,
            "head_experts": self.head_experts is not None,
            "gate": self.gate != "none",
            "differ": self.differ is not None,
            "differ_from": self._differs_from_many,
            "subtract": self.subtract,
            "token_values": self.token_values is not None,
            "mix_layers": self.mix_layers is not None,
            "head_gain": self.head_gain,
            "head_shares": self.head_shares is not None,
            "head gains": any(
                isinstance(norm, NormSpec) and norm.tells_heads_apart for norm in (self._norm, self.inner_norm)
            ),
            "scores": position.acts_on == "scores",
            "values": self._are_one,
            "tied": self._are_tied,
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
            "tied",
            "span",
        )
        return not (any(has[name] for name in told_apart) or self.stencil.masks or position.adds_bias)
