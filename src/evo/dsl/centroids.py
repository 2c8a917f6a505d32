"""Where the cells of a search's archive lie: what each kind of centroids is called and what it needs."""

from typing import Annotated, ClassVar

from pydantic import Field

from evo.dsl.spec import Spec


class CentroidsSpec(Spec):
    """The cells of the archive. `evo.archive.space.make_space` places them."""

    builder: ClassVar[str]
    """`module:function` of (spec, names, cells, sample_NM, stream) that gives a `Space`; see `evo.archive.space`."""

    def sampling(self) -> tuple[int, int]:
        """How many random mutants of the seeds are to be probed first, and the most mutations of one."""
        return 0, 0


class UniformCentroids(CentroidsSpec):
    """Cells of about equal volume in [0, 1] of every measure, whatever organisms can show."""

    kind: ClassVar[str | None] = "uniform"
    builder: ClassVar[str] = "evo.archive.space:uniform_space"


class FittedCentroids(CentroidsSpec):
    """Cells where organisms are: fitted to random mutants of the seeds that are built and probed, but not trained.

    Each measure is scaled by its spread over them and moved by what training did to the seeds. A search whose trials
    are measured elsewhere, by `ask` and `tell`, has no such sample; its cells are uniform.
    """

    kind: ClassVar[str | None] = "fitted"
    builder: ClassVar[str] = "evo.archive.space:fitted_space"

    sample: Annotated[int, Field(ge=8, le=100_000)] = 64
    """How many mutants."""
    mutations: Annotated[int, Field(ge=1, le=100)] = 8
    """The most mutations between a seed and one of them."""

    def sampling(self) -> tuple[int, int]:
        """See `CentroidsSpec.sampling`."""
        return self.sample, self.mutations
