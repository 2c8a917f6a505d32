"""A few organisms that the compiler's tests build."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from evo.compiler.check import require_valid
from evo.compiler.plan import Plan
from evo.compiler.resolve import resolve
from evo.dsl.document import from_data

ATTENTION = {"kind": "attention", "heads": 2}
WINDOW = {**ATTENTION, "stencil": {"kind": "window", "size": 6, "sinks": 2}}
DELTA = {"kind": "recurrence", "heads": 2}

Planner = Callable[..., Plan]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def planned() -> Planner:
    """From stages and settings of an organism to its plan."""

    def plan(*stages: dict[str, Any], **settings: Any) -> Plan:
        body = {"width": 16, "context": 32, "stages": list(stages), **settings}
        return resolve(require_valid(from_data({"evo": 1, "organism": body})).organism)

    return plan


@pytest.fixture
def rich(planned: Planner) -> Plan:
    """A graph of stages with every kind of mixer, shared weights, an untied readout and learned positions."""
    return planned(
        {"name": "low", "repeat": 2, "mix": [WINDOW, DELTA], "norm": {"kind": "layer", "place": "sandwich"}},
        {"name": "side", "from": "embedding", "mix": {"parallel": [ATTENTION, {"kind": "convolution"}]}},
        {"name": "top", "from": ["low", "side"], "repeat": 4, "share": True, "mix": [ATTENTION, DELTA]},
        position={"kind": "learned"},
        readout={"tie": False, "soft_cap": 10.0},
    )
