"""One slot of a pool by itself: its statistics, its weights as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from evo.blocks.flow import Flow
from evo.blocks.pool.module import Pool
from evo.kernels.structure import coherence, correlation, effective_rank
from evo.slime.elites import Genome, encoded


@dataclass(frozen=True)
class Pseudopod:
    """A slot of a pool. What it tells of its activity is of the last input that it was shown (`feel`)."""

    pool: Pool
    slot: int
    activity_NC: Tensor | None = None

    @torch.no_grad()
    def feel(self, x_TD: Tensor) -> Pseudopod:
        """The same after a sequence (T, D), as wide as the pool, went through it."""
        found = self.pool.apart(x_TD.expand(self.pool.slots, -1, -1), Flow(has_fixed_shapes=True))
        return Pseudopod(self.pool, self.slot, found.hidden[0][self.slot])

    @property
    def is_alive(self) -> bool:
        """Whether its gain is not 0."""
        return bool(self.pool.gain[self.slot] != 0)

    @property
    def correlation(self) -> Tensor:
        """Pearson's correlations between its channels, (C, C)."""
        return correlation(self._activity())

    def effective_rank(self) -> Tensor:
        """exp of the entropy of its normalised singular values, between 1 and C (Roy & Vetterli 2007)."""
        return effective_rank(self._activity())

    def coherence(self) -> Tensor:
        """The largest absolute cosine between two of its channels."""
        return coherence(self._activity())

    def weights(self) -> dict[str, Tensor]:
        """Its own share of each weight; views."""
        return self.pool.share({path: p.detach() for path, p in self.pool.named_parameters()}, self.slot)

    @torch.no_grad()
    def reset(self) -> None:
        """Empty the slot."""
        self.pool.gain[self.slot] = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Its gain, and its weights as the archive's encoder holds them: plain data."""
        (genome,) = encoded({path: weight[None].cpu() for path, weight in self.weights().items()})
        return {"gain": float(self.pool.gain[self.slot].detach()), "genome": genome.blob}

    @torch.no_grad()
    def from_dict(self, data: Mapping[str, Any]) -> None:
        """Take over gain and weights. Raises KeyError or RuntimeError where they do not fit."""
        own, given = self.weights(), Genome(data["genome"]).weights()
        if own.keys() != given.keys():
            raise KeyError(f"weights of another kind: {sorted(own.keys() ^ given.keys())}")
        for name, weight in given.items():
            own[name].copy_(weight)
        self.pool.gain[self.slot] = float(data["gain"])

    def _activity(self) -> Tensor:
        if self.activity_NC is None:
            raise ValueError("nothing has gone through this pseudopod: feel() comes first")
        return self.activity_NC
