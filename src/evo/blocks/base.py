"""What every built block is: the parameters that its plan lists, a parallel form, and a continuing one if it has a
state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any, get_args, get_type_hints

import torch
from torch import Tensor, nn

from evo.blocks.flow import Flow, Project, State
from evo.dsl.plan import ADAPTERS, BlockPlan, Weight
from evo.kernels.dispatch import AUTO, KernelCall, Table
from evo.kernels.fused.support import REFERENCE
from evo.kernels.grouped import Groups


class Adapters(nn.Module):
    """Blocks under the names of the maps that they stand beside, whatever those are (`training`, `keys`)."""

    def __init__(self, adapters: Mapping[str, Block]) -> None:
        super().__init__()
        self._modules.update(adapters)


def parameter(weight: Weight) -> nn.Parameter:
    """An uninitialised parameter of the planned shape."""
    return nn.Parameter(torch.empty(weight.shape))


class Block(nn.Module):
    """One block of a plan. Registers exactly the plan's weights under their own names, and its children as given.

    A subclass annotates each of its weights, `name: nn.Parameter`, or `name: nn.Parameter | None` for one that a plan
    may leave out; it is None then.

    path: where it stands in its organism; set by whoever builds one.
    backend: which kernels run it: `auto`, or a backend's name, which is then never replaced silently.

    Raises:
        TypeError: the plan's weights are not those that the class annotates.
    """

    backend: str = AUTO
    path: str = ""
    fused: tuple[Table, ...] = ()
    """The tables of the fused operations that it launches; what it computes besides is in `problems`."""

    in_torch: tuple[str, ...] = ()
    """What it computes besides in plain torch, by name: there is no kernel for it. Matrix products are not told."""

    read_at_once: int | None = 0
    """How many tokens at the start it reads in one piece while decoding, at least; None if it cannot decode at all."""

    chooses: bool = False
    """Whether an output jumps where two scores of what it may read are nearly equal, as the best few of many are."""

    gives_vectors: bool = True
    """Whether its output is a vector a position, (B, T, ...); what gives another is probed inside what holds it."""

    def __init__(self, plan: BlockPlan, children: Mapping[str, Block]) -> None:
        super().__init__()
        self.has_state = plan.has_state
        self._require_planned(plan)
        for name, is_optional in _weight_annotations(type(self)).items():
            if is_optional:
                self.register_parameter(name, None)
        for weight in plan.weights:
            self.register_parameter(weight.name, parameter(weight))
        for name, shape in plan.lent:
            self._stand_in(name, shape)
        for name, child in children.items():
            self.add_module(name, child)

    @property
    def fused_backend(self) -> str:
        """Which backend its fused operations run on: a name that is one of its other kernels' is none of theirs."""
        return REFERENCE if self.backend == REFERENCE else AUTO

    def adapt(self, adapters: Mapping[str, Block]) -> None:
        """Take what stands beside its linear maps, by their names."""
        self.add_module(ADAPTERS, Adapters(adapters))

    def adapted(self) -> Iterator[tuple[Tensor, Adapter]]:
        """Its linear maps that something stands beside, each with it."""
        return ((getattr(self, name), adapter) for name, adapter in self.named_adapters().items())

    def named_adapters(self) -> dict[str, Adapter]:
        """What stands beside its linear maps, by their names."""
        found = self._modules.get(ADAPTERS)
        named = () if found is None else found.named_children()
        return {name: adapter for name, adapter in named if isinstance(adapter, Adapter)}

    def begin_adapters(self) -> None:
        """Let each adapter take note of its map. One that an adapter keeps is a parameter no more: a shape remains."""
        for name, adapter in self.named_adapters().items():
            adapter.begin(getattr(self, name))
            if adapter.holds_map:
                self._stand_in(name, getattr(self, name).shape)

    def _stand_in(self, name: str, shape: tuple[int, ...]) -> None:
        """Have a shape in the place of a map that somebody else computes, who knows it by that."""
        self._parameters.pop(name, None)
        setattr(self, name, torch.empty(shape, device="meta"))

    @classmethod
    def weight_names(cls, plan: BlockPlan) -> frozenset[str]:
        """The names of weights that it reads without annotating them, because its plan names them."""
        del plan
        return frozenset()

    def child(self, name: str) -> Block:
        """A block that it contains. Raises KeyError if there is none."""
        found = self._modules[name]
        assert isinstance(found, Block)
        return found

    def with_adapter(self, name: str) -> Tensor:
        """One of its linear maps with what stands beside it, for a block that makes another map of it."""
        weight = getattr(self, name)
        adapter = self.named_adapters().get(name)
        return weight if adapter is None else adapter.whole(weight) + adapter.delta()

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """All positions of a sequence that starts here, (B, T, D) -> (B, T, D) unless the block says otherwise."""
        raise NotImplementedError

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> State:
        """The state before the first token; `dtype` is that of the activations. Only for plans with `has_state`."""
        raise NotImplementedError

    def extend(self, x_BTD: Tensor, state: Any, flow: Flow) -> tuple[Tensor, State]:
        """The next T >= 1 positions after `state`, and the new state. Equals `forward` on the whole."""
        raise NotImplementedError

    def problems(self, x_BTD: Tensor, flow: Flow) -> list[KernelCall]:
        """The kernel problems that `forward` would pose for such an input (meta tensors do), in order."""
        del x_BTD, flow
        return []

    def _require_planned(self, plan: BlockPlan) -> None:
        name, annotated = type(self).__name__, _weight_annotations(type(self))
        planned = {weight.name for weight in plan.weights}
        if unknown := planned - annotated.keys() - self.weight_names(plan):
            raise TypeError(f"{name} does not annotate the planned weights {sorted(unknown)}")
        planned.update(name for name, _ in plan.lent)
        if missing := {weight for weight, is_optional in annotated.items() if not is_optional} - planned:
            raise TypeError(f"{name} needs the weights {sorted(missing)}, which its plan does not have")


@cache
def _weight_annotations(cls: type) -> dict[str, bool]:
    """The weights that a block class annotates: whether a plan may leave each out."""
    hints = get_type_hints(cls)
    found = {name: hint for name, hint in hints.items() if hint is nn.Parameter or nn.Parameter in get_args(hint)}
    return {name: hint is not nn.Parameter for name, hint in found.items()}


class Norm(Block, ABC):
    """A normalisation of the residual stream."""

    def after_sum(self, x_BTD: Tensor, y_BTD: Tensor, flow: Flow) -> tuple[Tensor, Tensor]:
        """x + y and its norm, each (..., D): in one launch where the norm can."""
        total_BTD = x_BTD + y_BTD
        return total_BTD, self(total_BTD, flow)


class Adapter(Block, ABC):
    """What is trained beside one frozen linear map, or one stack of them."""

    holds_map: bool = False
    """Whether it keeps the map itself, in another form, from `begin` on."""

    def begin(self, weight: Tensor) -> None:
        """Take note of the map, (..., out, in), as training finds it."""
        del weight

    def whole(self, weight: Tensor) -> Tensor:
        """The map without what the adapter adds."""
        return weight

    def base(self, inner: Project, x: Tensor, weight: Tensor, bias: Tensor | None, groups: Groups | None) -> Tensor:
        """What the map gives without the adapter; see `Project`."""
        return inner(x, weight, bias, groups)

    @abstractmethod
    def delta(self) -> Tensor:
        """What is added to the map when it is merged, (..., out, in)."""

    @abstractmethod
    def project(self, inner: Project, x: Tensor, groups: Groups | None) -> Tensor:
        """delta x, without making delta; see `Project`."""


class Position(Block):
    """How order enters a mixer's heads. As it is, it does nothing."""

    heats_bias: bool = False
    """Whether its bias of scores grows by an attention's temperature apart from queries that have grown already."""

    def rotate(self, q_BTHK: Tensor, k_BTGK: Tensor, offset: int) -> tuple[Tensor, Tensor]:
        """Queries and keys that stand at positions offset, offset + 1, ..., turned by position."""
        del offset
        return q_BTHK, k_BTGK

    def rotate_beside(
        self, q_BTHK: Tensor, k_BTGK: Tensor, v_BTGV: Tensor, offset: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`rotate`, and values as they are: all three in one call, for encodings whose backward gains by that."""
        return *self.rotate(q_BTHK, k_BTGK, offset), v_BTGV

    def rotate_back(self, o_BTHK: Tensor, offset: int) -> Tensor:
        """What queries at positions offset, offset + 1, ... see of turned values, turned the other way: of a value by
        its distance from the query then."""
        del offset
        return o_BTHK

    def slopes_H(self, like: Tensor) -> Tensor | None:
        """By how much scores of each head fall per token of distance, on the device of `like`; None for not at all."""
        del like
        return None

    def bias_HTS(self, x_BTD: Tensor, q_BTHK: Tensor, scale: float, at: Distances, flow: Flow) -> Tensor | None:
        """What is added to scaled scores, (H, T, S) or (B, H, T, S); None for nothing.

        x_BTD: what queries are made of; q_BTHK: as scores meet them, times `scale`.
        """
        del x_BTD, q_BTHK, scale, at, flow
        return None

    def bias_by_keys(self, q_BTHK: Tensor, keys_BSGK: Tensor, scale: float, at: Distances, flow: Flow) -> Tensor | None:
        """The same where the keys between a query and another decide, (B, H, T, S); None for nothing."""
        del q_BTHK, keys_BSGK, scale, at, flow
        return None


@dataclass(frozen=True)
class Distances:
    """How far keys stand before queries, int64: queries at start, start + 1, ..., key s at s or at slots_S[s]."""

    start: int
    queries: int
    keys: int
    device: torch.device
    slots_S: Tensor | None = None

    @property
    def queries_T(self) -> Tensor:
        """t."""
        return torch.arange(self.start, self.start + self.queries, device=self.device)

    @property
    def places_S(self) -> Tensor:
        """s."""
        return torch.arange(self.keys, device=self.device) if self.slots_S is None else self.slots_S

    @property
    def of_TS(self) -> Tensor:
        """t - s."""
        return self.queries_T[:, None] - self.places_S

    @property
    def most(self) -> int:
        """One more than the largest distance that there may be."""
        return self.start + self.queries

    def gathered(self, by_distance_BHTE: Tensor) -> Tensor:
        """What each pair has of a table by distance, (B, H, T, E) -> (B, H, T, S); the nearest one there is."""
        index_TS = self.of_TS.clamp(0, by_distance_BHTE.shape[-1] - 1)
        return looked_up(by_distance_BHTE, index_TS.expand(*by_distance_BHTE.shape[:2], -1, -1))


def looked_up(table_XE: Tensor, places_XS: Tensor) -> Tensor:
    """What each place of a row's table holds, (..., E) and (..., S) -> (..., S).

    As `gather`, whose gradients a GPU adds up in any order where a place is met more than once; these it sorts.
    """
    rows_N1 = torch.arange(table_XE[..., 0].numel(), device=table_XE.device)[:, None]
    return table_XE.flatten(0, -2)[rows_N1, places_XS.flatten(0, -2)].view_as(places_XS)


def in_own_precision(device: torch.device) -> AbstractContextManager[object]:
    """A block in which autocast lowers no product: no context where it is off, as exported programs can hold none."""
    is_lowered = torch.is_autocast_enabled(device.type)
    return torch.autocast(device.type, enabled=False) if is_lowered else nullcontext()


def compute_dtype(x: Tensor) -> torch.dtype:
    """float32, or float64 for float64 inputs."""
    return torch.promote_types(x.dtype, torch.float32)


def state_size(state: Any) -> int:
    """The number of floating-point values that a state keeps."""
    if isinstance(state, Tensor):
        return state.numel() if state.is_floating_point() else 0
    if is_dataclass(state):
        return sum(state_size(getattr(state, field.name)) for field in fields(state))
    if isinstance(state, Mapping):
        return sum(state_size(item) for item in state.values())
    return sum(state_size(item) for item in state) if isinstance(state, tuple) else 0


def sum_scaled(gains_ND: Tensor, xs_BTD: Sequence[Tensor]) -> Tensor:
    """sum_i gains[i] * xs[i], each (B, T, D)."""
    total = xs_BTD[0] * gains_ND[0]
    for gain_D, x_BTD in zip(gains_ND[1:], xs_BTD[1:], strict=True):
        total = torch.addcmul(total, x_BTD, gain_D)
    return total
