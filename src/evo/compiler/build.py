"""From a plan to a module, with initial weights that depend on the seed and each weight's own path alone."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from evo.base.streams import Stream
from evo.blocks.base import Block
from evo.compiler.organism import Organism
from evo.compiler.plan import Plan
from evo.dsl.plan import BlockPlan, Init, Weight


def build(
    plan: Plan, seed: int, device: torch.device | str = "cpu", weights: Mapping[str, Tensor] | None = None
) -> Organism:
    """The organism of a plan on a device, in float32.

    weights: what it starts from, by path (as `transplant` or a checkpoint gives it); by default the initial weights of
    `seed`. Raises KeyError or ValueError when they are not exactly the plan's.
    """
    organism = Organism(plan, make)
    load(organism, initial_weights(plan, seed) if weights is None else weights)
    return organism.to(device)


def load(organism: Organism, weights: Mapping[str, Tensor]) -> None:
    """Copy weights into an organism by path; every path must be there, in the planned shape, and no other."""
    parameters = dict(organism.named_parameters())
    if parameters.keys() != weights.keys():
        raise KeyError(f"weights do not fit the plan: {sorted(parameters.keys() ^ weights.keys())}")
    with torch.no_grad():
        for path, tensor in weights.items():
            if tensor.shape != parameters[path].shape:
                raise ValueError(f"{path} is {tuple(tensor.shape)}, planned {tuple(parameters[path].shape)}")
            parameters[path].copy_(tensor)
        for _, block in organism.named_blocks():
            block.begin_adapters()


def make(block: BlockPlan) -> Block:
    """The module of a block, its children first."""
    children = {name: make(child) for name, child in block.children}
    module, _, name = block.builder.partition(":")
    built: Block = getattr(importlib.import_module(module), name)(block, children)
    if block.adapters:
        built.adapt({name: make(adapter) for name, adapter in block.adapters})
    return built


def initial_weights(plan: Plan, seed: int) -> dict[str, Tensor]:
    """Every weight of a plan by path, float32 on the CPU: a pure function of the seed and the path."""
    return {path: initial_weight(path, weight, seed) for path, weight in plan.weights.items()}


def initial_weight(path: str, weight: Weight, seed: int) -> Tensor:
    """One weight as its law draws it, float32."""
    return drawn(weight, Stream(seed).child("init", path))


def drawn(weight: Weight, stream: Stream) -> Tensor:
    """A weight as its law draws it from a stream, float32 on the CPU."""
    generator = torch.Generator().manual_seed(stream.integer())
    return LAWS[weight.init.law](weight.init, weight.shape, generator)


def _normal(init: Init, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator).mul_(init.a)


def _constant(init: Init, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    del generator
    return torch.full(shape, init.a)


def _uniform(init: Init, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator).mul_(init.b - init.a).add_(init.a)


def _timestep(init: Init, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """x with softplus(x) log-uniform in [a, b] (Dao & Gu 2405.21060)."""
    low, high = math.log(init.a), math.log(init.b)
    step = torch.rand(shape, generator=generator).mul_(high - low).add_(low).exp_()
    return step + torch.log(-torch.expm1(-step))


def _log_count(init: Init, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """As S4D-real and Mamba begin (Gu et al. 2206.11893)."""
    del generator
    return torch.arange(shape[-1]).add(init.a).log().expand(shape).clone()


def _ring(init: Init, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """As the LRU's radii begin (Orvieto et al. 2303.06349)."""
    square = torch.rand(shape, generator=generator).mul_(init.b**2 - init.a**2).add_(init.a**2)
    return torch.expm1(-0.5 * square.log()).log()


def _ramp(init: Init, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    del generator
    return torch.linspace(init.a, init.b, shape[-1]).expand(shape).clone()


def _leading(init: Init, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    del generator
    return torch.where(torch.arange(shape[-1]) < init.a, init.b, 0.0).expand(shape).clone()


def _cycle(init: Init, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    first = torch.randint(int(init.a), (*shape[:-1], 1), generator=generator)
    return (first + torch.arange(shape[-1])).remainder(int(init.a)).float()


def _diagonal(init: Init, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    del generator
    rows, columns = (1, *shape)[-2:]
    is_on = torch.arange(columns) == torch.arange(rows)[:, None] + init.a
    return torch.where(is_on, init.b, 0.0).expand(*shape[:-2], rows, columns).reshape(shape).clone()


def _orthogonal(init: Init, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Directions of rows uniform on the sphere, orthogonal in blocks; lengths as if they were apart (Choromanski et al.
    2009.14794, appendix B.2). In float64, whose rounding no float32 shows."""
    *stack, rows, columns = shape
    blocks = -(-rows // columns)
    drawn = torch.randn(*stack, blocks, columns, columns, generator=generator, dtype=torch.float64)
    found, upper = torch.linalg.qr(drawn)
    found = (found * upper.diagonal(dim1=-2, dim2=-1).sign()[..., None, :]).mT.flatten(-3, -2)[..., :rows, :]
    lengths = torch.randn(shape, generator=generator, dtype=torch.float64).norm(dim=-1, keepdim=True)
    return (init.a * lengths * found).float()


LAWS: dict[str, Callable[[Init, tuple[int, ...], torch.Generator], Tensor]] = {
    "normal": _normal,
    "constant": _constant,
    "uniform": _uniform,
    "timestep": _timestep,
    "log_count": _log_count,
    "ring": _ring,
    "ramp": _ramp,
    "leading": _leading,
    "cycle": _cycle,
    "diagonal": _diagonal,
    "orthogonal": _orthogonal,
}
