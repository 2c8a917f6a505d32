"""A stage whose linear maps are read in another form."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from torch import Tensor, nn

from evo.blocks.base import Block
from evo.blocks.flow import Flow, Project, projected_as
from evo.blocks.residual import Residual
from evo.blocks.stages.recast.spec import RecastPlan
from evo.blocks.stages.stage import Stage
from evo.kernels.dispatch import KernelCall
from evo.kernels.grouped import Groups

EPS = 1e-5
"""The least that is divided by, as in BitNet's code."""
LEVELS = 127.0


def ternary(weight: Tensor, axis: int) -> Tensor:
    """m clamp(round(W / m), -1, 1), m = mean |W| of a matrix (Ma et al. 2402.17764, eqs. 1 to 3)."""
    del axis
    scale = weight.abs().mean((-2, -1), keepdim=True).clamp_min(EPS)
    return straight(weight, scale * (weight / scale).round().clamp(-1.0, 1.0))


def binary(weight: Tensor, axis: int) -> Tensor:
    """mean |W| sign(W - mean W) of a matrix (Wang et al. 2310.11453, eqs. 1 to 3 and 12)."""
    del axis
    centered = weight - weight.mean((-2, -1), keepdim=True)
    return straight(weight, weight.abs().mean((-2, -1), keepdim=True) * centered.sign())


def int8(weight: Tensor, axis: int) -> Tensor:
    """255 levels of a matrix."""
    del axis
    return straight(weight, rounded(weight, weight.abs().amax((-2, -1), keepdim=True)))


def unit(weight: Tensor, axis: int) -> Tensor:
    """Vectors along an axis, each of unit length (Loshchilov et al. 2410.01131, section 2.6)."""
    return weight / weight.norm(dim=axis, keepdim=True).clamp_min(EPS)


FORMS: dict[str, Callable[[Tensor, int], Tensor]] = {"ternary": ternary, "binary": binary, "int8": int8, "unit": unit}


def rounded(x: Tensor, most: Tensor) -> Tensor:
    """Whole multiples of most / 127."""
    step = most.clamp_min(EPS) / LEVELS
    return (x / step).round() * step


def straight(x: Tensor, y: Tensor) -> Tensor:
    """y, with the gradient that x would have."""
    return x + (y - x).detach()


class Recast:
    """A `Project` that hands some weights on in another form, and what they read as it is rounded."""

    def __init__(self, inner: Project, plan: RecastPlan, axes: Mapping[Tensor, int]) -> None:
        self.inner, self.axes, self.rounds = inner, axes, plan.inputs_as == "int8"
        self.form = FORMS.get(plan.weights_as)

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None = None, groups: Groups | None = None) -> Tensor:
        if weight not in self.axes:
            return self.inner(x, weight, bias, groups)
        return self.recast(x, weight, weight, bias, groups)

    def recast(self, x: Tensor, weight: Tensor, form: Tensor, bias: Tensor | None, groups: Groups | None) -> Tensor:
        """See `RecastingProject`."""
        if weight in self.axes and self.rounds:
            x = straight(x, rounded(x, x.abs().amax(-1, keepdim=True)))
        if weight in self.axes and self.form is not None:
            form = self.form(form, self.axes[weight])
        return projected_as(self.inner, x, weight, form, bias, groups)


class RecastStage(Stage):
    """The stage inside, over such a `Project`."""

    def __init__(self, plan: RecastPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.plan = plan
        self._of = tuple(child for child in children.values() if isinstance(child, Stage))

    def run(self, inputs: Mapping[str, Sequence[Tensor]], flow: Flow) -> Residual:
        """(B, T, D) -> (B, T, D)."""
        # looked up in each pass: weights may be exchanged between two (torch.func.functional_call)
        axes: dict[Tensor, int] = {_weight(self, path): axis for path, axis in self.plan.maps}
        again = replace(flow, project=Recast(flow.project, self.plan, axes), tells_weights_apart=True)
        return self._of[0].run({"x": [self.merged(inputs["x"])]}, again)

    def layer_problems(self, x_BTD: Tensor, flow: Flow) -> Iterator[tuple[str, list[KernelCall]]]:
        """Those of the stage inside."""
        yield from self._of[0].layer_problems(x_BTD, flow)


def _weight(stage: nn.Module, path: str) -> Tensor:
    """A weight by its path, a tensor that `torch.func` has put in its place too, as `get_parameter` would not."""
    *inside, name = path.split(".")
    return getattr(stage.get_submodule(".".join(inside)), name)
