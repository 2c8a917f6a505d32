"""Softmax attention over grouped heads, in parallel and with caches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from evo.blocks.attention.apart import made_apart
from evo.blocks.attention.differing import halves_differed, halves_paired, halves_repeated, neighbours_differed
from evo.blocks.attention.dropping import dropping
from evo.blocks.attention.factors import beside, product, tied
from evo.blocks.attention.heating import heat
from evo.blocks.attention.keeping import Keeping
from evo.blocks.attention.kept import append_tokens, latest, require_past
from evo.blocks.attention.met_heads import Meeting, MetHeads, NotedHeads
from evo.blocks.attention.mixed_layers import mixed_layers
from evo.blocks.attention.persistent import remembering
from evo.blocks.attention.plan import AttentionPlan
from evo.blocks.attention.scored import NOTHING_FALLS, Falls
from evo.blocks.attention.shared_heads import head_shares
from evo.blocks.attention.state import AttentionState
from evo.blocks.attention.switched import switched
from evo.blocks.attention.tapped import Taps
from evo.blocks.attention.valued import token_values
from evo.blocks.base import Block, Distances, Norm
from evo.blocks.cache.packers import unpack
from evo.blocks.experts.chooser import Chooser
from evo.blocks.flow import Flow
from evo.blocks.select.module import Asked, Select
from evo.dsl.spec import KV, VALUES
from evo.kernels.attention import plan as plan_attention
from evo.kernels.dispatch import KernelCall
from evo.kernels.fused import ACTS, PERMUTE, UNPERMUTE

Attend = Callable[..., Any]


class Attention(Keeping):
    """softmax(cap(q k^T / sqrt(K))) v by head, query head h reading key head h // (H / G) (Ainslie et al. 2023)."""

    q_down: nn.Parameter | None
    q: nn.Parameter
    k: nn.Parameter | None
    k_shared: nn.Parameter | None
    k_shared_bias: nn.Parameter | None
    v: nn.Parameter | None
    o_down: nn.Parameter | None
    o: nn.Parameter
    gate: nn.Parameter | None
    q_bias: nn.Parameter | None
    k_bias: nn.Parameter | None
    v_bias: nn.Parameter | None
    o_bias: nn.Parameter | None
    gate_bias: nn.Parameter | None
    gate_heads_bias: nn.Parameter | None
    v_router: nn.Parameter | None
    o_router: nn.Parameter | None
    q_heads: nn.Parameter | None
    k_heads: nn.Parameter | None
    v_heads: nn.Parameter | None
    key_gain: nn.Parameter | None
    head_gain: nn.Parameter | None
    shared_shares: nn.Parameter | None
    kind_shares: nn.Parameter | None
    value_mix: nn.Parameter | None
    persistent_k: nn.Parameter | None
    persistent_v: nn.Parameter | None
    lambda_q1: nn.Parameter | None
    lambda_k1: nn.Parameter | None
    lambda_q2: nn.Parameter | None
    lambda_k2: nn.Parameter | None
    less: nn.Parameter | None

    def __init__(self, plan: AttentionPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.kv_heads, self.head_dim, self.value_dim = plan.kv_heads, plan.head_dim, plan.value_dim or plan.head_dim
        self.key_dim = plan.key_dim or plan.head_dim
        self.differ_from = plan.differ_from or 1
        self.gate_act = ACTS[plan.gate_act] if plan.gate_act else None
        self.read_at_once = self.stencil.together if plan.causal else None
        if plan.head_maps is not None or "head_experts" in children:
            self.fused = (PERMUTE, UNPERMUTE)
        self.asks_again = self.mix.queries - 1 if self.mix is not None else 0
        """How many earlier queries' scores are mixed with a query's."""

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        met, made_of = self._met(x_BTD, flow), self._made_of(x_BTD, flow)
        q_BTHK, k_BTGK, v_BTGV = self._project(x_BTD, made_of, flow, met)
        if self.plan.kv_from and flow.states is not None:  # it has no state of its own: the publisher keeps the cache
            return self._out(self._continued(q_BTHK, k_BTGK, v_BTGV, x_BTD, made_of, flow), x_BTD, flow, met)
        self._publish(flow, k_BTGK, v_BTGV)
        at = Distances(flow.position, q_BTHK.shape[1], k_BTGK.shape[1], q_BTHK.device)
        falls = self._falls(x_BTD, q_BTHK, k_BTGK, at, flow)
        parts = {**self._parts(q_BTHK), **self._bias(x_BTD, q_BTHK, k_BTGK, at, flow, falls)}
        run = partial(self._remembering(dropping(flow)), segments_BT=flow.segments_BT, backend=self.backend, **parts)
        return self._out(self._attended(q_BTHK, k_BTGK, v_BTGV, x_BTD, made_of, flow, run), x_BTD, flow, met)

    def problems(self, x_BTD: Tensor, flow: Flow) -> list[KernelCall]:
        """The attention problem of a parallel pass, or those of the branches of a selection."""
        if self.plan.kv_from:
            shape = (*x_BTD.shape[:2], self.kv_heads)
            for name, dim in zip(self.plan.kv_from, (self.key_dim, self.value_dim), strict=True):
                flow.signals[name] = x_BTD.new_empty(*shape, dim)
        for part in filter(None, (token_values(self), mixed_layers(self))):
            part.note(x_BTD, flow)
        for name in self.plan.values_from:
            flow.signals[name] = x_BTD.new_empty(*x_BTD.shape[:2], self.kv_heads, self.value_dim)
        flow.signals.update(dict.fromkeys((KV, VALUES), x_BTD))
        taps, met, made_of = Taps(self.plan.taps, calls=[]), self._noted(), self._made_of(x_BTD, flow)
        q_BTHK, k_BTGK, v_BTGV = self._project(x_BTD, made_of, flow, met, taps)
        parts = self._parts(q_BTHK)
        parts.pop("scale", None)
        at = Distances(0, q_BTHK.shape[1], k_BTGK.shape[1], q_BTHK.device)
        parts |= self._bias(x_BTD, q_BTHK, k_BTGK, at, flow, self._falls(x_BTD, q_BTHK, k_BTGK, at, flow))
        run = partial(self._remembering(plan_attention), **parts)
        found = self._attended(q_BTHK, k_BTGK, v_BTGV, x_BTD, made_of, flow, run)
        if met is not None:
            met.outputs(x_BTD.new_empty(*x_BTD.shape[:2], self.plan.heads * self.value_dim), self.o, flow)
        if self.o_router is not None:
            self._switched("o", x_BTD, x_BTD.new_empty(*q_BTHK.shape[:3], self.value_dim), flow, taps.calls)
        own = [*(taps.calls or ()), *(() if met is None else met.calls)]
        return [*own, *(found if isinstance(found, list) else [found])]

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> AttentionState:
        """No keys, no values."""
        of_keys, of_values = self.plan.kept
        keys = torch.empty(batch, 0, *of_keys, device=device, dtype=dtype)
        values = None if self.plan.are_one else torch.empty(batch, 0, *of_values, device=device, dtype=dtype)
        asked = keys.new_zeros(batch, self.asks_again, self.plan.heads, self.key_dim) if self.asks_again else None
        return AttentionState(keys, values, past=self.untapped(keys), fallen=self._nothing_fell(keys), asked_BPHK=asked)

    def extend(self, x_BTD: Tensor, state: AttentionState, flow: Flow) -> tuple[Tensor, AttentionState]:
        """The next T positions; raises ValueError if queries see their future, which is not there yet."""
        require_past(self.stencil, flow.position + x_BTD.shape[1])
        taps, met = Taps(self.plan.taps, state.past, backend=self.backend), self._met(x_BTD, flow)
        made_of = self._made_of(x_BTD, flow)
        q_BTHK, k_BTGK, v_BTGV = self._project(x_BTD, made_of, flow, met, taps)
        keys = values = append_tokens(unpack(state.keys_BSGK), k_BTGK)
        if state.values_BSGV is not None:
            values = append_tokens(unpack(state.values_BSGV), v_BTGV)
        self._publish(flow, keys, values)
        at = Distances(flow.position, x_BTD.shape[1], keys.shape[1], q_BTHK.device, self._slots(keys, flow))
        falls = self._falls(x_BTD, q_BTHK, keys, at, flow, state.fallen)
        asked = q_BTHK if state.asked_BPHK is None else torch.cat((state.asked_BPHK.to(q_BTHK.dtype), q_BTHK), dim=1)
        o_BTHV = self._continued(asked, keys, values, x_BTD, made_of, flow, falls)[:, self.asks_again :]
        y_BTD = self._out(o_BTHV, x_BTD, flow, met)
        if flow.hands_states:
            _, k_BTGK, v_BTGV = made_apart(self._made_of, self._project, x_BTD, met, taps, flow)
        kept = state.appended(k_BTGK, v_BTGV, flow.cache.store)
        if self.plan.cost.evicting_heads and flow.cache.evicting_limit is not None:
            return y_BTD, replace(self._evicted(q_BTHK, keys, kept, state.got_BSG, flow), past=taps.after)
        limit, sinks = self._limits(flow)
        keep = partial(latest, seen=flow.position + x_BTD.shape[1], limit=limit, sinks=sinks)
        return y_BTD, AttentionState(
            *kept.kept(keep),
            past=taps.after,
            fallen=falls.kept(keep),
            asked_BPHK=asked[:, -self.asks_again :] if self.asks_again else None,
            is_apart=flow.hands_states,
        )

    def _continued(
        self,
        q_BTHK: Tensor,
        keys: Tensor,
        values: Tensor,
        x_BTD: Tensor,
        made_of: Tensor,
        flow: Flow,
        falls: Falls = NOTHING_FALLS,
    ) -> Tensor:
        """The heads' outputs for queries of which the last stands at the last of the keys that a cache has kept."""
        slots_S, parts = self._slots(keys, flow), self._parts(q_BTHK)
        at = Distances(flow.position, q_BTHK.shape[1], keys.shape[1], q_BTHK.device, slots_S)
        where = self._bias(x_BTD, q_BTHK, keys, at, flow, falls)
        if slots_S is not None:
            where["key_positions_S"] = slots_S
        run = partial(
            self._remembering(dropping(flow)),
            query_offset=flow.position - self.asks_again,
            backend=self.backend,
            **{**parts, **where},
        )
        return self._attended(q_BTHK, keys, values, x_BTD, made_of, flow, run)

    def _remembering(self, run: Attend) -> Attend:
        """`attend` or its `plan` with the keys and values of no token, if there are any."""
        if self.persistent_k is None or self.persistent_v is None:
            return run
        own_NGK, own_NGV = (w.unflatten(-1, (self.kv_heads, -1)) for w in (self.persistent_k, self.persistent_v))
        return remembering(run, own_NGK, self._paired(own_NGV[None])[0])

    def _attended(
        self, q_BTHK: Tensor, keys: Tensor, values: Tensor, x_BTD: Tensor, made_of: Tensor, flow: Flow, run: Attend
    ) -> Any:
        """What `run` makes of all keys that the stencil shows, or of those that a selection leaves."""
        keys, values = self._whole(keys, values)
        keys = halves_repeated(keys, self.differ_from)
        select = self._modules.get("select")
        if not isinstance(select, Select):
            return run(q_BTHK, keys, self._paired(values), stencil=self.stencil)
        at = self._slots(keys, flow)
        asked = Asked(x_BTD, made_of, q_BTHK, keys, self._paired(values), run, self.scale, at)
        return select.attended(asked, self.stencil, flow)

    def _product(self, name: str, y_BTRK: Tensor, x_BTD: Tensor, flow: Flow) -> Tensor:
        """Heads of factors, if it is made of any."""
        shares = getattr(self, f"{name}_heads")
        return y_BTRK if shares is None else product(beside(y_BTRK, flow.project(x_BTD, shares)), y_BTRK.shape[-1])

    def _beside(self, name: str, y_BTRK: Tensor, x_BTD: Tensor, flow: Flow) -> Tensor:
        """Factors as they are kept, if keys or values are made of any."""
        shares = getattr(self, f"{name}_heads")
        return y_BTRK if shares is None else beside(y_BTRK, flow.project(x_BTD, shares))

    def _whole(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values by head, of what is kept of them."""
        if self.plan.shared_dims is not None:
            return tied(values, keys), values
        keys = keys if self.k_heads is None else product(keys, self.head_dim)
        return keys, values if self.v_heads is None else product(values, self.value_dim)

    def _publish(self, flow: Flow, keys: Tensor, values: Tensor) -> None:
        """Keys and values, those of a cache included, for whoever reads them in this pass."""
        flow.signals.update(zip(self.plan.kv_to, (keys, values), strict=False))

    def _met(self, x_BTD: Tensor, flow: Flow) -> MetHeads | None:
        """The experts that tokens meet, if heads are experts."""
        chooser = self._modules.get("head_experts")
        return MetHeads.of(x_BTD, chooser, self.kv_heads, flow) if isinstance(chooser, Chooser) else None

    def _noted(self) -> NotedHeads | None:
        """The same for a pass that only asks what it would run."""
        if "head_experts" not in self._modules:
            return None
        return NotedHeads(self.plan.heads * self.head_dim // self.q.shape[-2])

    def _made_of(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """What queries are maps of."""
        return x_BTD if self.q_down is None else self._inner("narrow_norm", flow.project(x_BTD, self.q_down), flow)

    def _project(
        self, x_BTD: Tensor, made_of: Tensor, flow: Flow, met: Meeting | None, taps: Taps | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        taps = taps or Taps(self.plan.taps, backend=self.backend)
        raw_BTC = self._mapped(made_of, "q", flow, met)
        q_BTHK = self._product("q", self._heads(raw_BTC, "q", made_of, flow, taps), x_BTD, flow)
        if self.k is None:
            keys, values = (flow.signals[name] for name in self.plan.kv_from)
            q_BTHK = self._normed("q_norm", q_BTHK, flow)
            q_BTHK, _ = self.position.rotate(q_BTHK, q_BTHK[:, :, :1], flow.position)
            return self._heated(self._normed_late("q_norm", q_BTHK, flow), flow), keys, values
        x_BTD, from_BTD = self._kv_input(x_BTD, flow)
        mapped_BTC = self._mapped(x_BTD, "k", flow)
        raw_BTGK = self._heads(mapped_BTC, "k", x_BTD, flow, taps)
        q_BTHK, raw_BTGK = taps.paired(q_BTHK, raw_BTGK, raw_BTC, mapped_BTC)
        v_BTGV = raw_BTGK if self.v is None else self._own_values(from_BTD, flow, taps)
        if (layers := mixed_layers(self)) is not None:
            raw_BTGK, v_BTGV = layers.mixed(raw_BTGK, v_BTGV, flow)
        q_BTHK, k_BTGK = self._normed("q_norm", q_BTHK, flow), self._normed("k_norm", raw_BTGK, flow)
        v_BTGV = self._inner("v_norm", self._values(v_BTGV, from_BTD, flow), flow)
        if self.k_shared is not None:
            k_BTGK = tied(k_BTGK, self._bounded(flow.project(x_BTD, self.k_shared, self.k_shared_bias))[:, :, None])
        q_BTHK, k_BTGK, v_BTGV = self.position.rotate_beside(q_BTHK, k_BTGK, v_BTGV, flow.position)
        q_BTHK, k_BTGK = self._normed_late("q_norm", q_BTHK, flow), self._normed_late("k_norm", k_BTGK, flow)
        if self.key_gain is not None:
            k_BTGK = k_BTGK * self.key_gain.to(k_BTGK.dtype)[:, None]
        if self.plan.shared_dims is not None:
            k_BTGK = k_BTGK[:, :, :1, -self.plan.shared_dims :]
        k_BTGK, v_BTGV = self._beside("k", k_BTGK, x_BTD, flow), self._beside("v", v_BTGV, from_BTD, flow)
        return self._heated(q_BTHK, flow), k_BTGK, k_BTGK if self.plan.are_one else v_BTGV

    def _kv_input(self, x_BTD: Tensor, flow: Flow) -> tuple[Tensor, Tensor]:
        """What keys are maps of, and what values are."""
        if self.plan.kv == "apart":
            return flow.signals[KV], flow.signals.get(VALUES, x_BTD)  # values that are keys read none
        if self.plan.kv:
            x_BTD = flow.signals[KV] if self.plan.kv == "alone" else x_BTD + flow.signals[KV]
        return x_BTD, x_BTD

    def _values(self, v_BTGV: Tensor, x_BTD: Tensor, flow: Flow) -> Tensor:
        """Values with those of an earlier attention, and of tokens, mixed in; as projected, for later ones."""
        flow.signals.update(dict.fromkeys(self.plan.values_to, v_BTGV))
        if self.value_mix is not None:
            earlier, own = self.value_mix.to(v_BTGV.dtype)
            v_BTGV = earlier * flow.signals[self.plan.values_from[0]] + own * v_BTGV
        return v_BTGV if (rows := token_values(self)) is None else rows.beside(v_BTGV, x_BTD, flow)

    def _mapped(self, x_BTD: Tensor, name: str, flow: Flow, met: Meeting | None = None) -> Tensor:
        """A projection of x. met: the experts that it is one of."""
        project = flow.project if met is None else partial(met.queries, flow=flow)
        return project(x_BTD, getattr(self, name), getattr(self, f"{name}_bias"))

    def _heads(self, y_BTC: Tensor, name: str, read_BTD: Tensor, flow: Flow, taps: Taps) -> Tensor:
        """A projection of what it read behind its taps, within its bounds, cut into heads."""
        y_BTC = self._bounded(taps(name, y_BTC, self.tap_weights(name), read_BTD, flow))
        return y_BTC.unflatten(-1, (-1, self.value_dim if name == "v" else self.head_dim))

    def _bounded(self, y_BTC: Tensor) -> Tensor:
        """Within its bounds, if it has any."""
        return y_BTC if self.plan.clip is None else y_BTC.clamp(-self.plan.clip, self.plan.clip)

    def _own_values(self, x_BTD: Tensor, flow: Flow, taps: Taps) -> Tensor:
        """Values, of which half may be the token before's."""
        if self.v_router is not None:
            rows_BTGD = x_BTD[:, :, None].expand(-1, -1, self.kv_heads, -1)
            y_BTC = self._switched("v", x_BTD, rows_BTGD, flow, taps.calls).flatten(-2)
            y_BTC = y_BTC if self.v_bias is None else y_BTC + self.v_bias
            return self._heads(y_BTC, "v", x_BTD, flow, taps)
        y_BTC = self._mapped(x_BTD, "v", flow)
        if self.v_late is not None:
            late_BTC = taps.late("v_late", flow.project(x_BTD, self.v_late), self.v_late_bias, flow)
            y_BTC = torch.cat((y_BTC, late_BTC), dim=-1)
        return self._heads(y_BTC, "v", x_BTD, flow, taps)

    def _switched(
        self, name: str, x_BTD: Tensor, rows_BTHX: Tensor, flow: Flow, calls: list[KernelCall] | None = None
    ) -> Tensor:
        """What each head makes of its rows by the maps that a token chooses."""
        assert self.plan.head_maps is not None
        router, stack = getattr(self, f"{name}_router"), getattr(self, name)
        return switched(x_BTD, rows_BTHX, router, stack, self.plan.head_maps.top, flow, self.backend, calls)

    def _normed(self, name: str, x: Tensor, flow: Flow) -> Tensor:
        return x if self.plan.norm_after_position else self._inner(name, x, flow)

    def _normed_late(self, name: str, x: Tensor, flow: Flow) -> Tensor:
        return self._inner(name, x, flow) if self.plan.norm_after_position else x

    def _inner(self, name: str, x: Tensor, flow: Flow) -> Tensor:
        """What a norm of its own makes of x, if it has one."""
        norm = self._modules.get(name)
        return norm(x, flow) if isinstance(norm, Norm) else x

    def _heated(self, q_BTHK: Tensor, flow: Flow) -> Tensor:
        heat_T = heat(self.plan.temperature, flow.position, q_BTHK)
        return q_BTHK if heat_T is None else q_BTHK * heat_T[:, None, None]

    def _paired(self, v_BTGV: Tensor) -> Tensor:
        """Values as the scores meet them."""
        return v_BTGV if self.plan.differ is None else halves_paired(v_BTGV, self.differ_from)

    def _differed(self, o_BTHV: Tensor, x_BTD: Tensor, flow: Flow) -> Tensor:
        """What heads give once some are taken from others, where they are."""
        if self.less is not None:
            return neighbours_differed(o_BTHV, flow.project(x_BTD, self.less))
        lambdas = self.lambda_q1, self.lambda_k1, self.lambda_q2, self.lambda_k2
        return halves_differed(o_BTHV, lambdas, self.plan.differ, self.differ_from)

    def _out(self, o_BTHV: Tensor, x_BTD: Tensor, flow: Flow, met: MetHeads | None) -> Tensor:
        if self.plan.share is not None:
            o_BTHV = o_BTHV * self.plan.share
        if self.plan.are_one:
            o_BTHV = self.position.rotate_back(o_BTHV, flow.position)
        o_BTHV = self._inner("inner_norm", self._differed(o_BTHV, x_BTD, flow), flow)
        if self.plan.differ is not None:
            o_BTHV = o_BTHV * (1.0 - self.plan.differ)
        if self.head_gain is not None:
            o_BTHV = o_BTHV * self.head_gain.to(o_BTHV.dtype)[:, None]
        chooser = self._modules.get("head_shares")
        if self.plan.head_shares is not None and isinstance(chooser, Chooser):
            parts = (self.shared_shares, self.kind_shares)
            o_BTHV = o_BTHV * head_shares(x_BTD, self.plan.head_shares, chooser, *parts, flow)[..., None].to(
                o_BTHV.dtype
            )
        o_BTC = o_BTHV.flatten(-2)
        if self.gate is not None and self.gate_act is not None:
            gate = flow.project(x_BTD, self.gate, self.gate_bias)
            if self.gate_heads_bias is not None:
                gate = gate + self.gate_heads_bias.repeat_interleave(self.value_dim)
            gate = self.gate_act(gate)
            o_BTC = (o_BTC.unflatten(-1, (gate.shape[-1], -1)) * gate[..., None]).flatten(-2)
        if self.o_down is not None:
            parts_PBTC = o_BTC.unflatten(-1, (self.o_down.shape[0], -1)).movedim(2, 0)
            o_BTC = flow.project(parts_PBTC, self.o_down).movedim(0, 2).flatten(-2)
        if self.o_router is not None:
            y_BTD = self._switched("o", x_BTD, o_BTC.unflatten(-1, (self.plan.heads, -1)), flow).sum(2)
        elif met is None:
            return flow.project(o_BTC, self.o, self.o_bias)
        else:
            y_BTD = met.outputs(o_BTC, self.o, flow)
        return y_BTD if self.o_bias is None else y_BTD + self.o_bias
