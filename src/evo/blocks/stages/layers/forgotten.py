"""Activation checkpointing: the inside of a layer is forgotten, and computed again in the backward pass (Chen et al.
2016, arXiv 1604.06174)."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor
from torch.utils.checkpoint import checkpoint

from evo.blocks.flow import Flow
from evo.blocks.residual import Residual
from evo.blocks.stages.layers.layer import Layer


def forgotten(layer: Layer, residual: Residual, flow: Flow) -> Residual:
    """`layer.run`, of which the backward pass is left nothing but the residual stream that enters it.

    All that a pass draws follows from its flow, so no generator of torch has to be put back, which a CUDA graph could
    not do.
    """
    flows = _flows(flow)

    def run(x_BTD: Tensor, y_BTD: Tensor | None) -> tuple[Tensor, Tensor | None]:
        after = layer.run(Residual(x_BTD, y_BTD), next(flows))
        return after.x_BTD, after.y_BTD

    found = checkpoint(run, residual.x_BTD, residual.y_BTD, use_reentrant=False, preserve_rng_state=False)
    return Residual(*found)


def _flows(flow: Flow) -> Iterator[Flow]:
    """The flow of the forward pass, then one for every time that a backward pass goes through the layer."""
    before = flow.copied()
    yield flow
    while True:
        yield before.copied()
