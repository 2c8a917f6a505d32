"""The life of all pools of a network: what happens every step, at looks, and at times of dying."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from evo.archive.centroids import centroids
from evo.archive.cvt import CVTArchive
from evo.archive.factorability import adequacy
from evo.blocks.companion import Companion, Event, Surroundings
from evo.blocks.pool.module import Pool
from evo.slime.behaviour import MEASURES, Look, measure
from evo.slime.colony import Census, Colony
from evo.slime.elites import Elites
from evo.slime.spec import AnnealedLifeSpec
from evo.slime.vitals import Vitals

REFINEMENT = 0.5
"""How far a centroid moves towards a pseudopod at the first temperature."""


class Lifecycle(Companion):
    """Fast: every step notes gradients and the loss. Medium, every `every` steps: measure, remember, breed. Slow, every
    `cull_every`: cull, refine the cells, keep to the budget.

    Phases: nothing happens in the first `warmup` steps, nothing dies in the first `gentle`. While the loss is far above
    its moving average, nothing is born and nothing dies.
    """

    def __init__(self, spec: AnnealedLifeSpec, around: Surroundings) -> None:
        self.spec, self.around, self.every = spec, around, spec.every
        pools = [(path, pool) for path, pool in around.model.named_modules() if isinstance(pool, Pool)]
        cells_CM = None
        if spec.cells and pools:
            cells_CM = centroids(spec.cells, [(0.0, 1.0)] * len(MEASURES), around.stream.child("cells"))
        self.colonies = [
            Colony(
                path, pool, spec, around, Vitals(pool, spec.every),
                None if cells_CM is None else Elites(CVTArchive(cells_CM)),
            )
            for path, pool in pools
        ]  # fmt: skip
        device = next(around.model.parameters()).device
        self.average, self.frozen = torch.zeros((), device=device), torch.zeros((), device=device)

    def note(self, loss: Tensor) -> None:
        """See `Companion.note`."""
        loss, average = loss.detach().float(), self.average
        is_first = average == 0.0
        limit = self.spec.freeze + (self.spec.thaw - self.spec.freeze) * self.frozen
        is_frozen = (loss > limit * average) & ~is_first
        self.frozen.copy_(is_frozen)
        moved = torch.where(is_frozen, average, torch.lerp(average, loss, 1.0 / self.every))
        average.copy_(torch.where(is_first, loss, moved))
        for colony in self.colonies:
            colony.vitals.note()

    def tensors(self) -> list[Tensor]:
        """See `Companion.tensors`."""
        vitals = [tensor for colony in self.colonies for tensor in colony.vitals.tensors().values()]
        return [self.average, self.frozen, *vitals]

    def phase(self, step: int) -> str:
        """`warmup`, `gentle` or `full`."""
        if step < self.spec.warmup:
            return "warmup"
        return "gentle" if step < self.spec.gentle else "full"

    def temperature(self, step: int) -> float:
        """That of a step, in units of fitness."""
        return self.spec.cooling.temperature(min(step, self.around.steps), self.around.steps)

    def between(self, step: int) -> list[Event]:
        """See `Companion.between`."""
        if not self.colonies or step < self.spec.warmup:
            return []
        if bool(self.frozen):
            return [{"step": step, "event": "frozen"}]
        events: list[Event] = []
        with listening(self.colonies) as looks:
            self.around.look(step)
        for colony in self.colonies:
            stream = self.around.stream.child("life", colony.path, step)
            measures = measure(colony.pool, looks[colony.path], colony.vitals.gradient_P, stream.child("probe"))
            census = colony.census(measures.double().numpy())
            entered = colony.remember(census)
            events += self._decide(colony, census, step)
            events.append(self._summary(colony, census, step, entered))
        return events

    def state_dict(self) -> dict[str, Tensor]:
        """See `Companion.state_dict`."""
        state = {"average": self.average, "frozen": self.frozen}
        for colony in self.colonies:
            state |= {f"{colony.path}:{name}": tensor for name, tensor in colony.state_dict().items()}
        return state

    @torch.no_grad()
    def load_state_dict(self, saved: Mapping[str, Tensor]) -> None:
        """See `Companion.load_state_dict`."""
        try:
            self.average.copy_(saved["average"])
            self.frozen.copy_(saved["frozen"])
            for colony in self.colonies:
                prefix = f"{colony.path}:"
                own = {name.removeprefix(prefix): t for name, t in saved.items() if name.startswith(prefix)}
                colony.load_state_dict(own)
        except (KeyError, RuntimeError, TypeError) as error:
            raise ValueError(f"the state is not that of this life: {type(error).__name__} {error}") from error

    def relieve(self, step: int) -> list[Event]:
        """The worst pseudopod of the network dies, and the archives are emptied by half; the last of a pool stays."""
        found: list[tuple[float, Colony, Census, int]] = []
        for colony in self.colonies:
            if colony.elites is not None:
                for _ in range((len(colony.elites) + 1) // 2):
                    colony.elites.drop_worst()
            census = colony.census(np.zeros((colony.pool.slots, len(MEASURES))))
            if len(census.alive) > 1:
                worst = min(census.alive, key=lambda slot, fitness_P=census.fitness_P: (fitness_P[slot], slot))
                found.append((float(census.fitness_P[worst]), colony, census, worst))
        if not found:
            return []
        _, colony, census, worst = min(found, key=lambda row: (row[0], row[1].path))
        return [colony.bury(worst, census, step, "memory")]

    def warnings(self) -> list[str]:
        """Pools whose measures share too little to span one space, or tell the same."""
        spaces = ((colony.path, colony.space()) for colony in self.colonies)
        found = ((path, adequacy(space)) for path, space in spaces if space is not None)
        return [f"{path}: the measures of its pseudopods: {fault.message}" for path, fault in found if fault]

    def figures(self) -> dict[str, float]:
        """Sums over all pools: who is alive, who was born and died; and the mean coverage of their archives."""
        if not self.colonies:
            return {}
        alive = sum(int((colony.pool.gain != 0).sum()) for colony in self.colonies)
        counts = {name: float(sum(c.counts[name] for c in self.colonies)) for name in ("births", "deaths")}
        held = [len(c.elites) / c.elites.archive.cells for c in self.colonies if c.elites is not None]
        coverage = {"archive_coverage": sum(held) / len(held)} if held else {}
        return {"pool_size": float(alive), **counts, **coverage}

    def _decide(self, colony: Colony, census: Census, step: int) -> list[Event]:
        """Deaths, if it is time, then a birth."""
        stream, temperature = self.around.stream.child("life", colony.path, step), self.temperature(step)
        events: list[Event] = []
        if step % self.spec.cull_every < self.every:
            if step >= self.spec.gentle:
                events += colony.cull(census, step, temperature, stream.child("cull"))
            events += colony.enforce_budget(census, step)
            if colony.elites is not None and census.alive:
                share = temperature / max(self.temperature(0), 1e-30)
                colony.elites.refine(census.measures_PM[census.alive], REFINEMENT * share)
            space = colony.space()
            if space is not None:
                row = {"step": step, "event": "space", "pool": colony.path, "kmo": space.kmo, "points": space.count}
                row |= {"bartlett_p": space.p_value, "kernel_dims": colony.dims()}
                events.append({**row, "constant_measures": list(space.constant)})
        return events + colony.breed(census, step, temperature, stream.child("birth"))

    def _summary(self, colony: Colony, census: Census, step: int, entered: int) -> dict[str, Any]:
        """How a pool stands after a look."""
        elites = colony.elites
        row = {"step": step, "event": "look", "pool": colony.path, "pool_size": len(census.alive), "entered": entered}
        row |= {"phase": self.phase(step), "temperature": self.temperature(step), "fitness": census.mean}
        row |= {"alive": [[slot, colony.names[slot], colony.born[slot]] for slot in census.alive]}
        return row if elites is None else {**row, "archive_coverage": len(elites) / elites.archive.cells}


@contextmanager
def listening(colonies: list[Colony]) -> Iterator[dict[str, Look]]:
    """What enters each pool in the passes made meanwhile: the first row of the first."""
    looks: dict[str, Look] = {}

    def listen(colony: Colony) -> Any:
        def note(pool: nn.Module, args: tuple[Any, ...]) -> None:
            del pool
            x_BTD, flow = args
            looks.setdefault(colony.path, Look(x_BTD[0].detach(), flow))

        return note

    with ExitStack() as stack:
        for colony in colonies:
            stack.callback(colony.pool.register_forward_pre_hook(listen(colony)).remove)
        yield looks
