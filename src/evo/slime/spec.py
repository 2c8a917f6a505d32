"""The settings of an annealed life: timescales, phases, births, deaths, memory."""

import math
from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evo.dsl.coolings import CoolingSpec
from evo.dsl.genes import FIXED, Gene
from evo.dsl.life import LifeSpec
from evo.dsl.organism import OrganismSpec
from evo.dsl.spec import DEFAULT, Fault, RoleOf, Spec
from evo.dsl.tree import specs

Weight = Annotated[float, Field(ge=0, le=100), Gene(0.01, 2, "scale")]


class WorthSpec(Spec):
    """What a pseudopod is worth: a weighted mean of three shares in [0, 1]."""

    task: Weight = 0.7
    """How much the loss depends on it."""
    efficiency: Weight = 0.2
    """How little of its width it uses: what a low-rank copy of it would save."""
    gradient: Weight = 0.1
    """How much its weights are being taught."""


class AnnealedLifeSpec(LifeSpec):
    """Pools live: pseudopods are born and die by what they are worth, the fewer by chance the cooler it gets."""

    kind: ClassVar[str | None] = "annealed"
    builder: ClassVar[str] = "evo.slime.lifecycle:Lifecycle"

    every: Annotated[int, Field(ge=1), Gene(10, 1000, "x2")] = 100
    """Steps between two looks at the pools: the archive is brought up to date, and a pseudopod may be born. What a look
    leads to is carried out a quarter of it later, so that neither host nor device waits for the other."""
    cull_every: Annotated[int, Field(ge=1), Gene(100, 10_000, "x2")] = 1000
    """Steps between two times of dying, which fall on looks; who is younger is spared."""
    warmup: Annotated[int, Field(ge=0), FIXED] = 1000
    """Steps at the start in which nothing is born and nothing dies."""
    gentle: Annotated[int, Field(ge=0), FIXED] = 5000
    """Steps at the start in which nothing dies but for want of memory."""
    least: Annotated[int, Field(ge=1), Gene(1, 16, "x2")] = 2
    """The fewest pseudopods that a pool is left with."""
    most: Annotated[int | None, Field(ge=1), Gene(2, 64, "x2", optional=True)] = None
    """The most that it grows to; as many as it has slots if left out."""
    cull: Annotated[float, Field(ge=0, le=1), Gene(0.05, 0.5, "linear")] = 0.2
    """The share of a pool, the worst of it, that may die at once."""
    cooling: Annotated[CoolingSpec, RoleOf("cooling", default="linear")] = DEFAULT
    """The temperature over the steps, in units of worth: who is worse than the pool's mean by T is born with
    probability 1/e, and dies with 1 - 1/e."""
    mutation: Annotated[float, Field(ge=0, le=1), Gene(0.01, 0.5, "scale")] = 0.1
    """How far a newborn is moved from the elite that it comes from, as a share of its weights' root mean square, at the
    first temperature; less at lower ones."""
    gain: Annotated[float, Field(gt=0, le=1), Gene(0.01, 1, "scale")] = 0.1
    """A newborn's gain as a share of the living ones' mean."""
    cells: Annotated[int, Field(ge=0, le=100_000), FIXED] = 1000
    """Cells of each pool's archive; 0 for none: every newborn is drawn afresh."""
    aim: Literal["smell", "any"] = "smell"
    """Which elite a newborn comes from: the one that chemotaxis turns to, or any of them, each as likely."""
    places: Annotated[Literal["measured", "drawn"], FIXED] = "measured"
    """Where pseudopods lie in behaviour space: at their measures, or, for comparison, where a stream drew them."""
    budget_mb: Annotated[float | None, Field(gt=0), FIXED] = None
    """The most that the living and the archive of each pool may take, in MB; beyond it the worst are let go."""
    freeze: Annotated[float, Field(gt=1), FIXED] = 10.0
    """Nothing is born and nothing dies from when the loss exceeds its moving average so many times ..."""
    thaw: Annotated[float, Field(gt=1), FIXED] = 2.0
    """... until it is below so many times that."""
    worth: WorthSpec = Field(default_factory=WorthSpec)
    """What makes a pseudopod worth keeping."""

    @property
    def lag(self) -> int:
        """Steps between a look and what it leads to."""
        return self.every // 4

    def problems_with(self, organism: OrganismSpec, steps: int | None) -> Iterator[Fault]:
        """Nothing that could live, bounds that keep a life from anything, or no look before the training ends."""
        path, first = ("train", "life"), max(1, math.ceil(self.warmup / self.every)) * self.every + self.lag
        if not any(spec.lives for _, spec in specs(organism)):
            message = "nothing in this organism can live"
            yield Fault("EVO334", path, message, "write {kind: pool} as a mixer, or remove it", "warning")
        elif self.most is not None and self.most < self.least:
            message = f"nothing is born beyond {self.most} pseudopods, and nothing dies below {self.least}"
            yield Fault("EVO334", (*path, "most"), message, "raise most, or lower least", "warning")
        elif self.thaw >= self.freeze:
            message = f"a life that the loss froze thaws below {self.thaw:g} times its average, so it does at once"
            yield Fault("EVO334", (*path, "thaw"), message, f"write less than freeze, {self.freeze:g}", "warning")
        elif steps is not None and first > steps:
            message = f"life begins at step {first}, and {steps} are trained"
            yield Fault("EVO334", path, message, "lower warmup and every, or train longer", "warning")
