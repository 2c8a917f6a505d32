"""What keeps an attention from being built."""

from collections.abc import Iterator
from dataclasses import replace

from evo.blocks.attention.conflicts import conflicts
from evo.blocks.attention.shapes import AttentionShapes
from evo.blocks.attention.stencils import FullStencil
from evo.blocks.attention.taps import wrong_names
from evo.blocks.norm.spec import NormSpec
from evo.blocks.position.spec import PositionSpec, acts_on_heads
from evo.blocks.select.spec import SelectSpec, hides_nothing, under
from evo.dsl.spec import Fault, Scope, dividing


class AttentionFaults(AttentionShapes):
    """The fields of attention, checked against each other and against what it stands in."""

    def problems(self, scope: Scope) -> Iterator[Fault]:
        if self.head_dim is None and scope.width % self.heads:
            message = f"{self.heads} heads do not divide the width {scope.width}"
            yield Fault("EVO300", ("heads",), message, "change heads or width, or set head_dim")
            return
        if self._differs_from_many:
            yield from self._unlike_groups()
        elif self.heads % self._groups:
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
        yield from self._width_problems(position)
        if self._are_tied:
            yield from self._tied_problems(position, scope)
        for problem in position.attention_problems(self._head_dim(scope)):
            if self.position:
                yield replace(problem, path=("position", *problem.path))
            else:
                yield replace(problem, path=("heads",), inherited=(position, str(problem.path[0])))
        yield from self._option_problems(scope)

    def _unlike_groups(self) -> Iterator[Fault]:
        """What keeps differential heads from being so many parts and one, which read halves of the key heads."""
        size = 1 + self.differ_from
        if self.heads % size:
            message = f"{self.heads} heads are no {size} equal parts, of which the last is taken from the others"
            yield Fault("EVO308", ("differ_from",), message, f"make heads a multiple of {size}")
        elif self._groups % 2 == 0 and self.heads // size % (self._groups // 2):
            message = f"half of {self._groups} kv_heads do not divide {self.heads // size} heads that are taken away"
            yield Fault("EVO301", ("kv_heads",), message, dividing(self.heads // size))

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
        if self.subtract:
            yield from whole_groups(self.heads, self.subtract_from)
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
            yield from under(self.head_experts.faults(self.heads, self._groups, scope), "head_experts")
        if self.head_shares is not None:
            yield from under(self.head_shares.faults(self._outputs(scope)[0], scope), "head_shares")
        if self.head_maps is not None:
            yield from under(self.head_maps.faults(), "head_maps")
        if self.mix_scores is not None:
            yield from under(self.mix_scores.faults(self.heads), "mix_scores")
            if self.mix_scores.network is not None and self._position(scope).acts_on != "scores":
                message = f"position {self._position(scope).kind} adds nothing to scores that a network could read"
                yield Fault("EVO308", ("mix_scores", "network"), message, "write position: {kind: alibi}, or kerple")
        if self.token_values is not None and self.kv_from is None:
            yield from under(self.token_values.faults(scope.width), "token_values")
        if self.mix_layers is not None and self.kv_from is None:
            yield from under(self.mix_layers.faults(), "mix_layers")
        if self.low_rank is not None:
            yield from under(self.low_rank.faults(self._outputs(scope)[0]), "low_rank")
        if self.taps is not None and self.kv_from is None:
            yield from under(self.taps.faults(self._projections(scope)), "taps")

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

    def _width_problems(self, position: PositionSpec) -> Iterator[Fault]:
        """What needs keys as wide as they are projected."""
        if position.widens == 1:
            return
        has = {
            "select": self.select is not None,
            "persistent": self.persistent > 0,
            "values": self._are_one,
            "factors": self.factors is not None,
            "head_experts": self.head_experts is not None,
            "qk_norm_at": self.qk_norm_at == "position" and "qk_norm_at" not in self.unread,
        }
        for name in (name for name, is_there in has.items() if is_there):
            message = f"position {position.kind} makes queries and keys wider than '{name}' knows them"
            yield Fault("EVO361", (name,), message, "remove it, or write another position")

    def _tied_problems(self, position: PositionSpec, scope: Scope) -> Iterator[Fault]:
        """What keeps keys from being values but for their last channels."""
        dim, shared = self._head_dim(scope), self._shared_dims(scope)
        if shared >= dim:
            message = f"of heads of width {dim}, {shared} shared channels leave none that are values as well"
            yield Fault("EVO308", ("shared_dims",), message, f"{dim - 1} at most")
        elif position.first_turned(dim) < dim - shared:
            message = f"position {position.kind} turns channels of keys that are values as well"
            help = f"write position: {{kind: rope, dims: {shared}, at: last}}, or one that turns no keys"
            yield Fault("EVO308", ("values",), message, help)

    def _select_problems(self, select: SelectSpec, scope: Scope) -> Iterator[Fault]:
        if (self.stencil.masks and not select.fits_stencils) or not (self.causal and self.stencil.is_causal):
            message = "a selection chooses among all earlier tokens"
            yield Fault("EVO360", ("select",), message, "leave out stencil and causal, or the selection")
        elif hides_nothing(select.pairs(scope.context), scope.context):
            message = f"this selection hides nothing within the context of {scope.context}"
            yield Fault("EVO331", ("select",), message, "make it smaller, or leave it out", "warning")
        yield from under(select.faults(scope, self._asker(scope)), "select")


def whole_groups(heads: int, subtract_from: int) -> Iterator[Fault]:
    """What keeps each head that is taken from so many others from standing behind them."""
    size = 1 + subtract_from
    if heads % size:
        message = f"each head that is taken from {subtract_from} others stands behind them: {heads} heads are no whole"
        yield Fault("EVO308", ("subtract",), f"{message} groups of {size}", f"make heads a multiple of {size}")
