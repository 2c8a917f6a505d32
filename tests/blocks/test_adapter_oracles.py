"""LoRA against peft's, in values and gradients."""

from __future__ import annotations

import pytest
import torch
from block_variants import document, stage

from evo.blocks.adapters.module import Adapted, Lora
from evo.compiler.build import build
from evo.compiler.resolve import resolve
from evo.kernels.fused.project import project

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("stabilised", [False, True])
def test_lora_is_that_of_peft(stabilised: bool) -> None:
    """The same factors beside the same map give the same outputs and the same gradients, in float64."""
    peft = pytest.importorskip("peft", reason="needs peft")
    spec = {"kind": "lora", "rank": 3, "alpha": 5.0, "stabilised": stabilised, "on": ["up"]}
    body = stage("body", {"kind": "attention", "heads": 2})
    model = build(resolve(document([body], adapters=spec).organism), 0).double()
    [(weight, adapter)] = [pair for _, block in model.named_blocks() for pair in block.adapted()]
    assert isinstance(adapter, Lora)
    torch.nn.init.normal_(adapter.up)
    theirs = torch.nn.Sequential(torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)).double()
    config = peft.LoraConfig(r=3, lora_alpha=5.0, target_modules=["0"], use_rslora=stabilised)
    theirs = peft.get_peft_model(theirs, config)
    layer = theirs.base_model.model[0]
    down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    for own, other in ((weight, layer.base_layer.weight), (adapter.down, down), (adapter.up, up)):
        other.data = own.detach().clone()
    x_one, x_two = (torch.randn(2, 5, weight.shape[1], generator=torch.Generator().manual_seed(1)) for _ in range(2))
    x_one, x_two = x_one.double().requires_grad_(), x_two.double().requires_grad_()
    y_one, y_two = Adapted(project, {weight: adapter})(x_one, weight), theirs(x_two)
    torch.testing.assert_close(y_one, y_two, rtol=1e-12, atol=1e-12)
    y_one.square().sum().backward()
    y_two.square().sum().backward()
    pairs = ((x_one, x_two), (adapter.down, down), (adapter.up, up))
    for own, other in pairs:
        torch.testing.assert_close(own.grad, other.grad, rtol=1e-10, atol=1e-10)
    merged = theirs.merge_and_unload()[0].weight
    torch.testing.assert_close(weight + adapter.delta(), merged, rtol=1e-12, atol=1e-12)
