"""What attention keeps while it decodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from evo.blocks.cache.packers import Vectors, appended, count, picked
from evo.blocks.cache.policy import Store
from evo.blocks.flow import State


@dataclass(frozen=True)
class AttentionState(State):
    """Turned keys and values of the positions that later queries may see: all, or the sinks and the latest.

    values_BSGV: None where the keys are the values.
    got_BSG: the attention that each key got, float32, where each head keeps the latest positions and its heaviest.
    asked_BPHK: the latest queries, where scores of queries are mixed.
    fallen: of each key what lowers its scores, (B, S, R), float32, or float64 for float64 activations: `forgot`, the
        sum of the logs of forget gates up to it; `passed`, what queries so far scored it, if later ones score it less.
    past: the projections at the latest W - 1 positions, by name, where taps read them.
    is_apart: whether keys and values are made of inputs that no gradient reaches; those of their maps do.
    """

    keys_BSGK: Vectors
    values_BSGV: Vectors | None
    got_BSG: Tensor | None = None
    past: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    fallen: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    asked_BPHK: Tensor | None = None
    is_apart: bool = False

    def cut(self) -> AttentionState:
        found = super().cut()
        return replace(found, keys_BSGK=self.keys_BSGK, values_BSGV=self.values_BSGV) if self.is_apart else found

    def without(self, latest: int, seen: int) -> AttentionState | None:
        cannot = self.got_BSG is not None or self.past or self.asked_BPHK is not None or "passed" in self.fallen
        if cannot or count(self.keys_BSGK) < seen:
            return None
        drop = partial(torch.narrow, dim=1, start=0, length=seen - latest)
        return AttentionState(*self.kept(drop), fallen={name: drop(each) for name, each in self.fallen.items()})

    def kept(self, keep: Callable[[Tensor], Tensor]) -> tuple[Vectors, Vectors | None]:
        """Keys and values of some positions."""
        values = None if self.values_BSGV is None else picked(self.values_BSGV, keep)
        return picked(self.keys_BSGK, keep), values

    def appended(self, k_BTGK: Tensor, v_BTGV: Tensor, store: Store) -> AttentionState:
        """Keys and values of further positions behind these, and nothing else."""
        values = None if self.values_BSGV is None else appended(self.values_BSGV, v_BTGV, store)
        return AttentionState(appended(self.keys_BSGK, k_BTGK, store), values)
