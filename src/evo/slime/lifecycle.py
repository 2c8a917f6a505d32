"""The life of all pools of a network: what happens every step, at looks, and at times of dying."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from evo.archive.centroids import centroids
from evo.archive.cvt import CVTArchive
from evo.archive.factorability import adequacy
from evo.blocks.companion import Aside, Companion, Event, Surroundings, in_turn
from evo.blocks.pool.module import Pool
from evo.blocks.transfer import Arriving
from evo.slime.behaviour import MEASURES
from evo.slime.colony import Census, Colony
from evo.slime.elites import Elites
from evo.slime.gate import Gate
from evo.slime.glance import Glance
from evo.slime.spec import AnnealedLifeSpec
from evo.slime.vitals import Vitals, note

REFINEMENT = 0.5
"""How far a centroid moves towards a pseudopod at the first temperature."""


class Lifecycle(Companion):
    """Fast: every step notes the gradients of the gains and the loss: a launch, and four aside. Medium, every `every`
    steps: measure, remember, breed. Slow, every `cull_every`: cull, refine the cells, keep to the budget.

    A look launches its measures behind a step, and what it leads to follows `lag` steps later: the host decides while
    the device goes on with these steps. The same lag is kept everywhere, so that the same seed lives the same life.

    Phases: nothing happens in the first `warmup` steps, nothing dies in the first `gentle`. While the loss is far above
    its moving average, nothing is born and nothing dies.
    """

    def __init__(self, spec: AnnealedLifeSpec, around: Surroundings) -> None:
        self.spec, self.around, self.every = spec, around, spec.every
        pools = [(path, pool) for path, pool in around.model.named_modules() if isinstance(pool, Pool)]
        cells_CM = None
        if spec.cells and pools:
            cells_CM = centroids(spec.cells, [(0.0, 1.0)] * len(MEASURES), around.stream.child("cells"))
        coder = ThreadPoolExecutor(1, thread_name_prefix="elites")
        self.colonies = [
            Colony(
                path, pool, spec, around, Vitals(pool, spec.every),
                None if cells_CM is None else Elites(CVTArchive(cells_CM), coder),
            )
            for path, pool in pools
        ]  # fmt: skip
        self.glance = Glance(self.colonies, around)
        self.gate = Gate(spec.freeze, spec.thaw, spec.every)
        self.losses_N = torch.full((spec.every,), torch.nan, device=next(around.model.parameters()).device)
        """The latest losses in their order."""
        self.seen: Arriving | None = None
        """What the last look saw, until it is acted upon: the losses since the one before, and by pool what the census
        needs, if it is time."""

    def note(self, loss: Tensor, aside: Aside = in_turn) -> None:
        """See `Companion.note`."""
        note([colony.vitals for colony in self.colonies], aside)
        with aside(loss):
            self.losses_N.copy_(torch.cat([self.losses_N[1:], loss.detach().float().view(1)]))

    def tensors(self) -> list[Tensor]:
        """See `Companion.tensors`."""
        return [self.losses_N, *(colony.vitals.task_P for colony in self.colonies)]

    def is_due(self, step: int) -> bool:
        """See `Companion.is_due`."""
        return step % self.every in (0, self.spec.lag)

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
        if not self.colonies:
            return []
        if step % self.every == 0:
            self.seen = Arriving(
                {"losses": self.losses_N, **(self.glance.take(step) if step >= self.spec.warmup else {})}
            )
        if self.seen is None or step % self.every != self.spec.lag:
            return []
        arrived, self.seen = self.seen.wait(), None
        return self._act(arrived, step)

    def _act(self, seen: Mapping[str, Tensor], step: int) -> list[Event]:
        """Births and deaths by what a look saw `lag` steps ago."""
        self.gate.follow(seen["losses"].tolist())
        if len(seen) == 1:
            return []
        if self.gate.is_closed:
            return [{"step": step, "event": "frozen"}]
        events: list[Event] = []
        for colony in self.colonies:
            census = colony.census(seen[f"{colony.path}:rows"], seen[f"{colony.path}:measures"])
            entered = colony.remember(census)
            events += self._decide(colony, census, step)
            events.append(self._summary(colony, census, step, entered))
        return events

    def state_dict(self) -> dict[str, Tensor]:
        """See `Companion.state_dict`."""
        gate = torch.tensor([self.gate.average, self.gate.is_closed], dtype=torch.float64)
        state = {"gate": gate, "losses": self.losses_N}
        if self.seen is not None:
            state |= {f"seen/{name}": tensor for name, tensor in self.seen.wait().items()}
        for colony in self.colonies:
            state |= {f"{colony.path}:{name}": tensor for name, tensor in colony.state_dict().items()}
        return state

    @torch.no_grad()
    def load_state_dict(self, saved: Mapping[str, Tensor]) -> None:
        """See `Companion.load_state_dict`."""
        try:
            self.gate.average, is_closed = saved["gate"].tolist()
            self.gate.is_closed = bool(is_closed)
            self.losses_N.copy_(saved["losses"])
            seen = {name.removeprefix("seen/"): t.cpu() for name, t in saved.items() if name.startswith("seen/")}
            self.seen = Arriving(seen) if seen else None
            for colony in self.colonies:
                prefix = f"{colony.path}:"
                own = {name.removeprefix(prefix): t for name, t in saved.items() if name.startswith(prefix)}
                colony.load_state_dict(own)
        except (KeyError, RuntimeError, TypeError) as error:
            raise ValueError(f"the state is not that of this life: {type(error).__name__} {error}") from error

    def relieve(self, step: int) -> list[Event]:
        """The worst pseudopod of the network dies, and the archives are emptied by half; the last of a pool stays."""
        found: list[tuple[float, Colony, Census, int]] = []
        if self.seen is not None:  # who dies now would count as alive in what was seen before
            self.seen = Arriving({"losses": self.seen.wait()["losses"]})
        for colony in self.colonies:
            if colony.elites is not None:
                for _ in range((len(colony.elites) + 1) // 2):
                    colony.elites.drop_worst()
            rows_P = colony.vitals.rows().cpu()
            census = colony.census(rows_P, torch.zeros(colony.pool.slots, len(MEASURES)))
            if len(census.alive) > 1:
                worst = min(census.alive, key=lambda slot, fitness_P=census.fitness_P: (fitness_P[slot], slot))
                found.append((float(census.fitness_P[worst]), colony, census, worst))
        if not found:
            return []
        _, colony, census, worst = min(found, key=lambda row: (row[0], row[1].path))
        return colony.bury([worst], census, step, "memory")

    def warnings(self) -> list[str]:
        """Looks that are not captured; pools whose measures share too little to span one space, or tell the same."""
        reason = self.glance.refusal
        launched = [f"looks at pools are launched, not replayed: {reason}"] if reason else []
        spaces = ((colony.path, colony.space()) for colony in self.colonies)
        found = ((path, adequacy(space)) for path, space in spaces if space is not None)
        return launched + [f"{path}: the measures of its pseudopods: {fault.message}" for path, fault in found if fault]

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
        if (step - self.spec.lag) % self.spec.cull_every < self.every:
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
