"""The language and the plan of adapters."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, TypeVar

from pydantic import Field

from evo.base.diagnostics import suggestion
from evo.dsl.genes import FIXED, Gene
from evo.dsl.plan import ONES, ZEROS, AdapterPlan, BlockPlan, Cost, Init, Weight, matmul_flops
from evo.dsl.spec import AsTuple, Fault, ListOf, Spec

SUPER = 256
"""Scales of 4-bit maps that share one of their own, where they are quantised too."""
P = TypeVar("P", bound=BlockPlan)


@dataclass(frozen=True, kw_only=True)
class LoraPlan(AdapterPlan):
    """W + scale * up down."""

    builder: ClassVar[str] = "evo.blocks.adapters.module:Lora"
    scale: float
    shape: tuple[int, ...]
    block: int | None
    doubled: bool


@dataclass(frozen=True, kw_only=True)
class SingularGainsPlan(AdapterPlan):
    """U diag(gains * s) V^T of W = U diag(s) V^T."""

    builder: ClassVar[str] = "evo.blocks.adapters.module:SingularGains"
    sums: ClassVar[bool] = True
    rows: int
    columns: int
    keeps_sum: bool


class AdapterSpec(Spec):
    """What is trained in place of the weights of linear maps inside the stages: all else stays as it was.

    A new adapter leaves each map as it is. `evo train --from` starts from the weights of a trained organism; what
    `evo export` writes has each adapter merged into its map.
    """

    on: Annotated[Annotated[tuple[str, ...], Field(min_length=1)] | None, AsTuple, ListOf(bare=True), FIXED] = None
    """The names of the maps that have one, as `evo explain` prints them (q, k, v, o, up); every map if left out."""

    @property
    def trains_beside(self) -> bool:
        """Whether it may stand beside a map that is trained as well."""
        return False

    def targets(self, block: BlockPlan) -> list[Weight]:
        """The maps of a block that have an adapter."""
        return [weight for weight in block.weights if is_map(weight) and (self.on is None or weight.name in self.on)]

    def plan_for(self, weight: Weight) -> AdapterPlan:
        """The adapter of one map."""
        raise NotImplementedError

    def problems_on(self, blocks: list[BlockPlan]) -> Iterator[Fault]:
        """Faults of meaning that need the plans of all blocks; paths are relative to this spec."""
        known = {weight.name: None for block in blocks for weight in block.weights if is_map(weight)}
        listed = f"the maps here: {', '.join(known)}" if known else "there is none inside the stages"
        if not known:
            yield Fault("EVO335", (), "there is no linear map that an adapter could stand beside", listed)
        for index, name in enumerate(self.on or ()):
            if name not in known:
                help = f"{suggestion(name, known)}{listed}"
                yield Fault("EVO335", ("on", index), f"no linear map is named '{name}'", help)


class FourBitSpec(Spec):
    """How frozen maps are kept in 4 bits a weight: levels of a normal law, by blocks (Dettmers et al. 2305.14314)."""

    block: Annotated[int, Field(ge=2, le=65536, multiple_of=2), FIXED] = 64
    """Weights that share a scale."""
    double: Annotated[bool, FIXED] = True
    """Whether scales are kept in 8 bits, 256 of them with a scale in float32; else in float32 themselves."""

    def bytes_of(self, count: int) -> int:
        """Bytes that so many weights of one map take."""
        blocks = -(-count // self.block)
        scales = blocks + 4 * -(-blocks // SUPER) if self.double else 4 * blocks
        return blocks * self.block // 2 + scales


class LoraSpec(AdapterSpec):
    """W + (alpha / rank) B A: a low-rank map beside each frozen one (Hu et al. 2106.09685, section 4.1)."""

    kind: ClassVar[str | None] = "lora"

    rank: Annotated[int, Field(ge=1, le=4096), Gene(1, 64, "x2")] = 8
    """The rank of B A."""
    alpha: Annotated[float, Field(gt=0, le=4096), Gene(1, 128, "scale")] = 8.0
    """What B A is multiplied by, over the rank."""
    stabilised: bool = False
    """Whether it is over the root of the rank, so that the rate fits all ranks alike (Kalajdzievski 2312.03732)."""
    four_bits: Annotated[FourBitSpec | None, FIXED] = None
    """Keeps the frozen maps in 4 bits a weight, rounded (QLoRA); in float32 as they are if left out."""

    @property
    def trains_beside(self) -> bool:
        return self.four_bits is None

    def problems_on(self, blocks: list[BlockPlan]) -> Iterator[Fault]:
        yield from super().problems_on(blocks)
        if self.four_bits is not None and any(block.recasts_maps for block in blocks):
            message = "a stage reads its maps in another form, which those in four bits have not"
            yield Fault("EVO335", ("four_bits",), message, "leave four_bits out")

    def plan_for(self, weight: Weight) -> LoraPlan:
        *stack, rows, columns = weight.shape
        bound = columns**-0.5  # He et al.'s uniform law with a = sqrt(5), as published
        down, up = (*stack, self.rank, columns), (*stack, rows, self.rank)
        weights = (
            Weight("down", down, Init("uniform", -bound, bound), weight.axes, "matrix", weight.share),
            Weight("up", up, ZEROS, weight.axes, "matrix", weight.share),
        )
        cost = Cost(flops=matmul_flops(weights) + rows, activations=self.rank)
        scale = self.alpha / (self.rank**0.5 if self.stabilised else self.rank)
        kept = self.four_bits
        return LoraPlan(
            kind=self.label,
            weights=weights,
            cost=cost,
            scale=scale,
            shape=weight.shape,
            block=None if kept is None else kept.block,
            doubled=kept is not None and kept.double,
            spared_bytes=0 if kept is None else 4 * weight.count - kept.bytes_of(weight.count),
        )


class SvfSpec(AdapterSpec):
    """U diag(z * s) V^T: a gain z for each singular value s of each frozen map (Sun et al. 2501.06252, section 3.2)."""

    kind: ClassVar[str | None] = "svf"

    keep_sum: bool = False
    """Whether gains are divided by their mean weighted by singular values, whose sum then stays (the authors' code)."""

    def plan_for(self, weight: Weight) -> SingularGainsPlan:
        *stack, rows, columns = weight.shape
        shape = (*stack, min(rows, columns))
        gains = Weight("gains", shape, ONES, (*weight.axes[:-2], "channel"), share=weight.share)
        flops = 2.0 * gains.count * (rows + columns) * weight.share + rows
        cost = Cost(flops=flops, activations=2 * shape[-1])
        return SingularGainsPlan(
            kind=self.label, weights=(gains,), cost=cost, rows=rows, columns=columns, keeps_sum=self.keep_sum
        )


def adapted(plan: P, spec: AdapterSpec) -> P:
    """A block with adapters beside its linear maps, and beside those of all that it contains."""
    return plan.with_adapters(
        lambda block: tuple((weight.name, spec.plan_for(weight)) for weight in spec.targets(block))
    )


def is_map(weight: Weight) -> bool:
    """Whether a weight is a linear map, or one stack of them, of the kind that an adapter may stand beside."""
    return weight.is_linear and weight.group == "matrix" and len(weight.shape) <= 3
