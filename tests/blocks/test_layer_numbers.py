"""Constants by the number of a layer: norms and branches that count less the deeper they stand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from block_variants import document, moved, organism, plan, stage

ATTENTION = {"kind": "attention", "heads": 2}
CONVOLUTION = {"kind": "convolution"}
SCALED = {"kind": "scaled"}


def tokens() -> torch.Tensor:
    return torch.randint(256, (2, 9), generator=torch.Generator().manual_seed(0))


def test_a_scaled_norm_is_one_with_gains_over_the_root_of_its_layer() -> None:
    """LayerNorm scaling: n counts the layers of all stages before, those of loops too, in each place of a norm."""
    for place in ("pre", "sandwich"):

        def stages(norm: dict[str, Any], place: str = place) -> list[dict[str, Any]]:
            norm = {**norm, "place": place}
            loop = {"name": "b", "kind": "loop", "times": 2, "of": stage("in", ATTENTION, norm=norm)}
            return [stage("a", [ATTENTION, CONVOLUTION], repeat=3, norm=norm), loop, stage("c", ATTENTION, norm=norm)]

        found, plain = moved(organism(stages(SCALED))), organism(stages({"kind": "rms"})).double()
        number = {"a.0": 1, "a.1": 2, "a.2": 3, "b.of_in.0": 4, "c.0": 6}
        state = {}
        for path, value in found.state_dict().items():
            layer = next((layer for layer in number if path.startswith(f"stages.{layer}.")), None)
            is_gain = "_norm.norm." in path
            state[path.replace("_norm.norm.", "_norm.")] = value / number[layer or "a.0"] ** 0.5 if is_gain else value
        plain.load_state_dict(state)
        torch.testing.assert_close(found(tokens()), plain(tokens()), rtol=1e-9, atol=1e-10)


def test_a_branch_may_be_multiplied_by_a_power_of_its_layer() -> None:
    """2 n^-1 for the n-th layer of the organism, whatever list it stands in."""
    gain = {"kind": "depth", "of": "layer", "power": -1, "scale": 2.0}
    layers = [{"sublayers": [{"block": CONVOLUTION, "gain": gain}]}, {"sublayers": [{"block": ATTENTION}]}]
    made = plan([stage("a", CONVOLUTION), {"name": "b", "layers": layers, "repeat": 5}])
    gains = [layer.sublayers[0].branches[0].gain for _, layer in made.stages[1].running_layers()]
    assert gains == [2 / 2, 1.0, 2 / 4, 1.0, 2 / 6]


def test_layers_that_read_their_number_share_no_weights() -> None:
    """Refused where it would make one block of several; a norm that is the same in all layers may be shared."""
    with pytest.raises(AssertionError, match="EVO333"):
        document([stage("a", CONVOLUTION, repeat=2, share=True, norm=SCALED)])
    with pytest.raises(AssertionError, match="EVO333"):
        document([stage("a", CONVOLUTION, repeat=2, share=True)], norm=SCALED)
    document([stage("a", CONVOLUTION, repeat=2, share=True, norm={**SCALED, "power": 0, "scale": 0.5})])
