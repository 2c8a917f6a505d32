"""How a search runs. Every setting has an option of the same name on `evo evolve`, which wins."""

from typing import Annotated, Literal

from pydantic import Field

from evo.dsl.budget import BudgetSpec
from evo.dsl.centroids import CentroidsSpec
from evo.dsl.coolings import CoolingSpec
from evo.dsl.emitter import EmitterSpec
from evo.dsl.engine import EngineSpec
from evo.dsl.fidelity import FidelitySpec
from evo.dsl.operators import OperatorsSpec
from evo.dsl.spec import DEFAULT, AsTuple, ListOf, RoleOf, Spec
from evo.dsl.surrogate import SurrogateSpec

Fraction = Annotated[float, Field(ge=0, le=1)]
Measure = Literal[
    "attention_span", "activation_sparsity", "gradient_flow", "memory_locality", "computational_intensity"
]
Frozen = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*$", max_length=1_000)]
TermWeight = Annotated[float, Field(ge=0, le=1_000_000)]


class FitnessSpec(Spec):
    """The weights of the objective's terms, each of which lies in [0, 1]."""

    task: TermWeight = 0.7
    """Weight of the held-out score."""
    efficiency: TermWeight = 0.2
    """Weight of low cost by the plan."""
    gradient: TermWeight = 0.1
    """Weight of gradient evenness."""


class VerifySpec(Spec):
    """How a finished search is judged: what it found and its seeds, trained from scratch on equal terms."""

    seeds: Annotated[int, Field(ge=0, le=100)] = 3
    """Trainings of each, with seeds of their own; 0 leaves the verdict out, 1 cannot tell a difference from noise."""
    budget: Annotated[BudgetSpec | None, RoleOf("budget")] = None
    """What each is trained for; the search's own budget if left out."""


class EvolveSpec(Spec):
    """One search."""

    generations: Annotated[int, Field(ge=1, le=1_000_000)] = 8
    """Generations after the seeds."""
    population: Annotated[int, Field(ge=1, le=100_000)] = 16
    """Children a generation."""
    cells: Annotated[int | None, Field(ge=1, le=1_000_000)] = None
    """Cells of the archive; if left out, one for four candidates, and at least 8."""
    centroids: Annotated[CentroidsSpec, RoleOf("centroids", default="fitted")] = DEFAULT
    """Where the cells lie."""
    measures: Annotated[tuple[Measure, ...], AsTuple, ListOf(bare=True), Field(min_length=1, max_length=5)] = (
        "attention_span",
        "activation_sparsity",
        "gradient_flow",
        "computational_intensity",
    )
    """What spans the archive. `evo measures` says which of them tell the same."""
    crossover: Fraction = 0.25
    """Share of the children with two parents."""
    mutations: Annotated[int, Field(ge=1, le=100)] = 4
    """The most mutations a child receives; fewer as the temperature falls."""
    operators: Annotated[OperatorsSpec, RoleOf("operators", default="fixed")] = DEFAULT
    """How the operators of elites' mutations are chosen: as often as ever, or as they improved the archive."""
    growth: Annotated[float, Field(ge=1, le=1_000_000)] = 2.0
    """The most FLOPs per token a child may cost, as a multiple of the costliest seed's."""
    shrink: Fraction = 0.5
    """The fewest FLOPs per token a child may cost, as a share of the cheapest seed's. Candidates are trained with equal
    FLOPs, so what costs a tenth takes ten times the steps: it wins a short search by these and loses any longer one."""
    inherit: bool = False
    """Whether a child starts from its parent's trained weights where shapes allow."""
    freeze: Annotated[tuple[Frozen, ...], AsTuple, ListOf(bare=True)] = ()
    """Parts of the seeds that no child changes, by their paths, such as `organism.stages.body.mix` or `train`."""
    tolerance: Annotated[float, Field(gt=0, le=1)] = 0.01
    """The largest relative rise of the held-out loss that a snapshot may cost, measured after restoring."""
    keep_exact: Annotated[int, Field(ge=0, le=1_000)] = 3
    """How many of the best variants keep their weights as they were trained, in checkpoints beside the snapshots."""
    cooling: Annotated[CoolingSpec, RoleOf("cooling", default="linear")] = DEFAULT
    """The temperature over the generations."""
    thresholds: Annotated[float | None, Field(ge=0, le=1)] = None
    """How fast a cell's threshold for entering the working archive follows what it accepts (CMA-MAE): 0 lets anything
    in, 1 what is better than the last. If left out, who beats the elite enters. The temperature applies to both."""
    fidelity: Annotated[FidelitySpec, RoleOf("fidelity", default="single")] = DEFAULT
    """How long candidates are trained, and which of them longer than others."""
    emitters: Annotated[
        tuple[EmitterSpec, ...], AsTuple, ListOf(bare=True), RoleOf("emitter", default="variation"), Field(min_length=1)
    ] = DEFAULT
    """What makes the children, or a list whose entries take turns."""
    surrogate: Annotated[SurrogateSpec | None, RoleOf("surrogate", default="linear_ucb")] = DEFAULT
    """What chooses among several children of elites before one is trained; with null each child made is trained."""
    repeats: Annotated[int, Field(ge=1, le=1_000)] = 3
    """The most trials of a candidate, with seeds of their own, where one would win by less than the noise."""
    engine: Annotated[EngineSpec | None, RoleOf("engine")] = None
    """Where trials run, which changes no result; processes if left out, or this one where there are no workers."""
    fitness: FitnessSpec = Field(default_factory=FitnessSpec)
    """The weights of the objective."""
    verify: VerifySpec = Field(default_factory=VerifySpec)
    """The verdict at the end."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seeds every random choice of the search."""

    @property
    def archive_cells(self) -> int:
        """The number of cells."""
        return self.cells or max(8, self.generations * self.population // 4)
