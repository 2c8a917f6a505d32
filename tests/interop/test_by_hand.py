"""Documents of the zoo that are no import compute and learn what their publications' packages do."""

from __future__ import annotations

import pytest
from by_hand import BY_HAND, parity


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", BY_HAND)
def test_parity(name: str) -> None:
    """Logits at once and step by step within 1e-4 of the largest, gradients of every weight within 1e-3."""
    pytest.importorskip(BY_HAND[name].module.partition(".")[0], reason="the oracle is not installed")
    far = parity(name)
    assert far.prefill < 1e-4
    assert far.steps < 1e-4
    assert far.gradients < 1e-3
