"""One pool of a network as a colony: who is alive, who is born where and from whom, who dies. All in place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evo.archive.annealing import acceptance_probability, mutation_scale
from evo.archive.factorability import Factorability, factorability
from evo.archive.kernel_pca import kernel_spectrum
from evo.archive.store import Elite
from evo.base.streams import Stream
from evo.blocks.companion import Event, Surroundings
from evo.blocks.pool.module import Pool
from evo.blocks.transfer import sent
from evo.slime.behaviour import MEASURES
from evo.slime.chemotaxis import Chemotaxis
from evo.slime.comonad import Context, Neighbour, relative_fitness
from evo.slime.elites import Elites, from_bytes, to_bytes
from evo.slime.fitness import worth
from evo.slime.spec import AnnealedLifeSpec
from evo.slime.vitals import Vitals

Floats = NDArray[np.float64]
HISTORY = 256
"""Rows of measures that a colony keeps, for the analysis of its behaviour space."""
KERNEL_POINTS = 64
"""Of these, the latest whose kernel is decomposed: its time grows with their cube, and training would wait for it."""
METABOLIC_RATE = 1.0
"""How fast smells fall with distance in behaviour space, whose sides are 1."""


@dataclass
class Census:
    """What a look found out, by slot: who is alive, what each is worth, where it lies in behaviour space, its gain, and
    the norm of its gradient.

    alive: those still alive, newborns too. seen: those that the look saw alive, whose weights are in their slots even
    if they have died since, until a newborn takes over.
    """

    alive: list[int]
    seen: tuple[int, ...]
    fitness_P: Floats
    measures_PM: Floats
    gains_P: Floats
    gradients_P: Floats

    @property
    def mean(self) -> float:
        """The mean fitness of the living; 0 where nobody lives."""
        return float(self.fitness_P[self.alive].mean()) if self.alive else 0.0

    def neighbour(self, slot: int) -> Neighbour:
        """What others may know of who lives in a slot."""
        behaviour = tuple(self.measures_PM[slot].tolist())
        return Neighbour(float(self.fitness_P[slot]), float(self.gradients_P[slot]), behaviour)


@dataclass
class Colony:
    """A pool, what is noted of it, and its memory.

    names: by slot, who lives there: the path of the pool is left out. born: by slot, the step of the birth.
    """

    path: str
    pool: Pool
    spec: AnnealedLifeSpec
    around: Surroundings
    vitals: Vitals
    elites: Elites | None
    names: list[str] = field(default_factory=list[str])
    born: list[int] = field(default_factory=list[int])
    history: list[list[float]] = field(default_factory=list[list[float]])
    """The measures of the living at the latest looks."""
    counts: dict[str, int] = field(default_factory=lambda: {"births": 0, "deaths": 0})

    def __post_init__(self) -> None:
        self.names = self.names or [f"s{slot}" for slot in range(self.pool.slots)]
        self.born = self.born or [0] * self.pool.slots

    def census(self, rows_P: Tensor, measures_PM: Tensor) -> Census:
        """Who is alive, and what each is worth, by what a look saw: `Vitals.rows` and `measure`, both on the host."""
        (gains_P, task_P, gradient_P), measures = rows_P.double().numpy().T, measures_PM.double().numpy()
        alive_P = gains_P != 0.0
        found = worth(task_P, gradient_P, measures[:, -1], alive_P)
        places = measures.copy() if self.spec.places == "measured" else self._drawn_places()
        alive = alive_P.nonzero()[0].tolist()
        return Census(alive, tuple(alive), found.fitness(self.spec.worth), places, gains_P, np.sqrt(gradient_P))

    def remember(self, census: Census) -> int:
        """Keep the measures of the living, and show them to the archive; how many of them hold a cell now."""
        self.history = [*self.history, *census.measures_PM[census.alive].round(6).tolist()][-HISTORY:]
        if self.elites is None or not census.alive:
            return 0
        names = [self.names[slot] for slot in census.alive]
        return self.elites.judge(names, census.fitness_P[census.alive], census.measures_PM[census.alive])

    def space(self) -> Factorability | None:
        """What the measures of the latest looks tell of each other; None where they are too few or do not vary."""
        try:
            return factorability(MEASURES, np.array(self.history).reshape(-1, len(MEASURES)))
        except ValueError:
            return None

    def dims(self) -> int | None:
        """How many components of kernel PCA hold nine tenths of what the measures of the latest looks vary by."""
        points_NM = np.array(self.history[-KERNEL_POINTS:]).reshape(-1, len(MEASURES))
        try:
            return kernel_spectrum(points_NM[:, points_NM.std(axis=0) > 1e-9]).dims()
        except ValueError:
            return None

    def breed(self, census: Census, step: int, temperature: float, stream: Stream) -> list[Event]:
        """At most one birth, with probability exp(-deficit / T)."""
        free = [slot for slot in range(self.pool.slots) if slot not in census.alive]
        if not free or not census.alive or len(census.alive) >= self._most or self._exceeds(len(census.alive) + 1):
            return []
        elite = self._parent(census, stream)
        deficit = 0.0 if elite is None else max(0.0, census.mean - elite.objective)
        chance = float(acceptance_probability(deficit, temperature))
        if elite is not None and temperature == 0.0:
            chance = float(elite.objective > census.mean)
        if stream.child("chance").numpy().random() >= chance:
            return []
        slot = free[0]
        self.counts["births"] += 1
        self._settle(slot, elite, census, temperature, stream)
        self.names[slot], self.born[slot] = f"b{step}.{slot}", step
        parent = None if elite is None else str(elite.id)
        return [self._event(step, "birth", slot, parent=parent, deficit=deficit, chance=chance)]

    def cull(self, census: Census, step: int, temperature: float, stream: Stream) -> list[Event]:
        """Of the worst share, those die of whom chance wants it: with 1 - exp(-deficit / T), newborns excepted."""
        room = max(0, len(census.alive) - self.spec.least)
        count = min(room, int(np.ceil(self.spec.cull * len(census.alive))))
        order = sorted(census.alive, key=lambda slot: (census.fitness_P[slot], slot))
        dying: list[int] = []
        for slot in order[:count]:
            deficit = census.mean - float(census.fitness_P[slot])
            chance = 1.0 - float(acceptance_probability(deficit, temperature))
            is_new = self.born[slot] > 0 and step - self.born[slot] < self.spec.cull_every
            if not is_new and deficit > 0.0 and stream.child(slot).numpy().random() < chance:
                dying.append(slot)
        return self.bury(dying, census, step, "cull")

    def enforce_budget(self, census: Census, step: int) -> list[Event]:
        """Forget the worst elites until a birth has room, then let the worst pseudopods die until the budget holds; one
        always stays."""
        events, wanted = list[Event](), min(len(census.alive) + 1, self._most)
        order = sorted(census.alive, key=lambda slot: (census.fitness_P[slot], slot))
        while self._exceeds(max(wanted, len(order))) and self.elites is not None and self.elites.drop_worst():
            pass
        while self._exceeds(len(order)) and len(order) > 1:
            events += self.bury([order.pop(0)], census, step, "budget")
        return events

    @property
    def _most(self) -> int:
        """How many the pool may grow to."""
        return min(self.spec.most or self.pool.slots, self.pool.slots)

    def _exceeds(self, alive: int) -> bool:
        """Whether so many pseudopods, and the archive, take more than they may."""
        return self.spec.budget_mb is not None and self.nbytes(alive) > self.spec.budget_mb * 1e6

    def nbytes(self, alive: int) -> int:
        """Bytes of so many pseudopods with their optimizer state (gradients too), and of the archive."""
        one = sum(p.numel() for path, p in self.pool.named_parameters() if path != "gain") * 4 // self.pool.slots
        kept = max((len(state) for state in self._states().values()), default=0)
        return alive * one * (2 + kept) + (0 if self.elites is None else self.elites.nbytes)

    @torch.no_grad()
    def bury(self, slots: Sequence[int], census: Census, step: int, cause: str) -> list[Event]:
        """Empty some slots."""
        if self.elites is not None:
            whole = dict(self.pool.named_parameters())
            self.elites.keep({self.names[slot]: self.pool.share(whole, slot) for slot in slots})
        for slot in slots:
            self.pool.gain[slot].zero_()  # a number written through an index would be waited for
        self._forget(slots)
        known = {slot: census.neighbour(slot) for slot in census.alive}
        return [self._death(slot, census, known, step, cause) for slot in slots]

    def _death(self, slot: int, census: Census, known: dict[int, Neighbour], step: int, cause: str) -> Event:
        """Count a pseudopod among the dead; what is relative to a neighbourhood is asked among those still alive."""
        values = tuple(known[other] for other in census.alive)
        places = tuple(value.behaviour for value in values)
        relative = relative_fitness(Context(values, places, census.alive.index(slot)))
        self.counts["deaths"] += 1
        census.alive = [other for other in census.alive if other != slot]
        fitness, age = float(census.fitness_P[slot]), step - self.born[slot]
        return self._event(step, "death", slot, cause=cause, fitness=fitness, relative_fitness=relative, age=age)

    def state_dict(self) -> dict[str, Tensor]:
        """All that later steps depend on, by name."""
        data, arrays = (None, {}) if self.elites is None else self.elites.to_data()
        record = {
            "names": self.names,
            "born": self.born,
            "counts": self.counts,
            "history": self.history,
            "elites": data,
        }
        return {**self.vitals.tensors(), "record": to_bytes(record), **{f"genome/{k}": v for k, v in arrays.items()}}

    @torch.no_grad()
    def load_state_dict(self, saved: Mapping[str, Tensor]) -> None:
        """Go on from a state."""
        for name, tensor in self.vitals.tensors().items():
            tensor.copy_(saved[name])
        record: dict[str, Any] = from_bytes(saved["record"])
        self.names, self.born, self.counts = record["names"], record["born"], record["counts"]
        self.history = record["history"]
        arrays = {k.removeprefix("genome/"): v for k, v in saved.items() if k.startswith("genome/")}
        if self.elites is not None:
            self.elites = Elites.from_data(record["elites"], arrays, self.elites.coder)

    def _parent(self, census: Census, stream: Stream) -> Elite | None:
        """The elite that a newborn comes from: the nearest to where chemotaxis turns from the middle of the living, or
        any."""
        if self.elites is None or not len(self.elites):
            return None
        elites = self.elites.archive.elites()
        if self.spec.aim == "any":
            return elites[int(stream.child("aim").numpy().integers(len(elites)))]
        senses = Chemotaxis()
        for elite in elites:
            senses.add_source(str(elite.id), np.array(elite.measures), max(elite.objective, 0.0))
        middle_M = census.measures_PM[census.alive].mean(0)
        hunger = 1.0 - len(census.alive) / self.pool.slots
        source = senses.sample(middle_M, METABOLIC_RATE, hunger, stream.child("aim"))
        return None if source is None else self.elites.nearest(source.location_M)

    def _drawn_places(self) -> Floats:
        """A place (P, M) by the name of who lives in each slot, which tells nothing of what it does."""
        stream = self.around.stream.child("place", self.path)
        return np.stack([stream.child(name).numpy().random(len(MEASURES)) for name in self.names])

    @torch.no_grad()
    def _settle(self, slot: int, elite: Elite | None, census: Census, temperature: float, stream: Stream) -> None:
        """Fill a slot with an elite's weights, moved, or with fresh ones; its optimizer state begins anew."""
        if elite is None or self.elites is None:
            fresh = {path: self.around.draw(self._full(path), stream.child("fresh", path)) for path, _ in self._inner()}
            weights = self.pool.share(fresh, slot)
        else:
            scale = self.spec.mutation * mutation_scale(
                temperature, self.spec.cooling.temperature(0, self.around.steps), 0.0
            )
            weights = {
                name: weight + scale * weight.square().mean().sqrt() * _noise(weight, stream.child("mutation", name))
                for name, weight in self._weights_of(str(elite.id), census).items()
            }
        share = self._share(slot)
        for name, weight in weights.items():
            share[name].copy_(sent(weight, share[name].device))
        self._forget([slot])
        self.vitals.settle(slot)
        self.pool.gain[slot].fill_(self.spec.gain * float(census.gains_P[census.alive].mean()))
        census.alive = sorted([*census.alive, slot])
        census.fitness_P[slot], census.measures_PM[slot] = census.mean if elite is None else elite.objective, 0.0

    def _share(self, slot: int) -> dict[str, Tensor]:
        """The weights of a slot; views."""
        return self.pool.share({path: p.detach() for path, p in self.pool.named_parameters()}, slot)

    def _weights_of(self, name: str, census: Census) -> dict[str, Tensor]:
        """The weights of an elite on the device: its own as they are, if it lives or has just died, else those of its
        genome."""
        assert self.elites is not None
        slots = {self.names[slot]: slot for slot in census.seen}
        if name in slots:
            return self._share(slots[name])
        device = self.pool.gain.device
        return {path: sent(weight, device) for path, weight in self.elites.genome(name).weights().items()}

    def _forget(self, slots: Sequence[int]) -> None:
        """Zero what the optimizer keeps of some slots."""
        states, shapes = self._states(), {path: p.shape for path, p in self.pool.named_parameters()}
        for name in sorted({name for state in states.values() for name in state}):
            kept = {path: states[self._full(path)].get(name) for path in shapes if self._full(path) in states}
            shaped = {path: t for path, t in kept.items() if t is not None and t.shape == shapes[path]}
            for slot in slots:
                for tensor in self.pool.share(shaped, slot).values():
                    tensor.zero_()
                if "gain" in shaped:
                    shaped["gain"][slot].zero_()

    def _states(self) -> dict[str, Mapping[str, Tensor]]:
        """What the optimizer keeps, by path; of what is not trained (drawn features, say) there is nothing."""
        paths, states = [self._full(path) for path, _ in self.pool.named_parameters()], self.around.states
        return {path: states[path] for path in paths if path in states}

    def _inner(self) -> list[tuple[str, torch.nn.Parameter]]:
        """The parameters of the pool's mixers."""
        return [(path, p) for path, p in self.pool.named_parameters() if path != "gain"]

    def _full(self, path: str) -> str:
        return f"{self.path}.{path}"

    def _event(self, step: int, event: str, slot: int, **more: Any) -> Event:
        return {"step": step, "event": event, "pool": self.path, "slot": slot, "name": self.names[slot], **more}


def _noise(like: Tensor, stream: Stream) -> Tensor:
    """N(0, 1), drawn where it is used."""
    generator = torch.Generator(like.device).manual_seed(stream.integer())
    return torch.randn(like.shape, generator=generator, device=like.device)
