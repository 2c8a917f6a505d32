"""`evo explain --kernels` is silent about no mixer: what has no kernel is told too."""

from __future__ import annotations

from typing import Any

import pytest
from block_variants import MIXERS, plan, stage
from ffn_variants import ROUTED

from evo.base.diagnostics import DiagnosticError
from evo.compiler.kernels import EVERYWHERE, kernel_choices

CALL = {"device": "cuda", "dtype": "bfloat16", "batch": 2, "tokens": 16}
MATRIX_PRODUCTS = {"spatial", "linear", "joined"}
"""Mixers that are matrix products, which are torch's own everywhere."""


@pytest.mark.parametrize("mix", MIXERS.values(), ids=MIXERS)
def test_every_mixer_says_what_it_runs_on(mix: dict[str, Any]) -> None:
    """There is a row for it."""
    rows = [choice for choice in kernel_choices(plan([stage("a", mix)]), **CALL) if choice.layer != EVERYWHERE]
    assert rows or {mix.get("kind"), *mix} & MATRIX_PRODUCTS


def test_a_cell_without_a_kernel_is_told() -> None:
    """As plain torch, and as an error where another backend is asked for by name."""
    rnn = plan([stage("a", {"kind": "rnn"})])
    cell = kernel_choices(rnn, **CALL)[0]
    assert (cell.layer, cell.family, cell.backend) == ("stages.a.0.mixer", "recurrent cell", "reference")
    with pytest.raises(DiagnosticError, match="recurrent cell: unknown backend 'triton'"):
        kernel_choices(rnn, **CALL, requested="triton")


@pytest.mark.parametrize(
    "layer",
    [
        {"mix": {"kind": "convolution"}, "ffn": ROUTED},
        {"mix": MIXERS["attention of chosen maps"]},
        {"mix": MIXERS["attention experts"]},
    ],
)
def test_what_lays_rows_down_for_experts_is_told(layer: dict[str, Any]) -> None:
    """Whoever meets some of a stack: feed-forwards, maps of heads, heads."""
    pytest.importorskip("triton", reason="its absence is a reason against every kernel")
    rows = {choice.family: choice for choice in kernel_choices(plan([stage("a", **layer)]), **CALL)}
    assert [(rows[name].layer, rows[name].backend) for name in ("permute", "unpermute")] == [(EVERYWHERE, "triton")] * 2


def test_what_stands_inside_a_stage_with_adapters_is_told() -> None:
    """As everywhere else."""
    of = {"name": "b", "mix": {"kind": "rnn"}}
    adapted = {"name": "c", "kind": "adapted", "of": of, "adapters": {"kind": "lora", "rank": 2}}
    rows = [choice for choice in kernel_choices(plan([adapted]), **CALL) if choice.family == "recurrent cell"]
    assert [choice.layer for choice in rows] == ["stages.c.of_b.0.mixer"]
