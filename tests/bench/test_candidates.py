"""`evo bench candidates`: how many candidates a search carries out in an hour."""

from __future__ import annotations

import time

import pytest

from evo.base.diagnostics import DiagnosticError
from evo.bench.candidates import SIZES, Rate, Size, cells, documents, rate
from evo.compiler.compute import step_tokens
from evo.compiler.resolve import resolve
from evo.evolution.evaluate import TrialJob
from evo.evolution.trial import Evaluation

TINY = Size(width=32, layers=1, context=32, batch=2, steps=4)


def slow(job: TrialJob) -> Evaluation:
    """Takes a twentieth of a second."""
    time.sleep(0.05)
    return Evaluation(scores={"bits_per_byte": 2.0, "gradient_evenness": 1.0}, measures=(0.5,) * 5)


def test_rates_are_over_the_whole_and_after_the_start() -> None:
    """Candidates an hour, tokens a second, and networks for an hour of a core."""
    found = Rate(4, "warm", 60.0, 50, 2, 120_000_000, start_s=10.0, children=45, networks=40, cpu_s=240.0)
    assert found.per_hour == pytest.approx(3000)
    assert found.children_per_hour == pytest.approx(3240)
    assert found.tokens_per_second == pytest.approx(2e6)
    assert found.networks_per_cpu_hour == pytest.approx(600)
    assert cells([found])[1] == ("4", "warm", "60", "50", "2", "3,000", "10.0", "3,240", "2", "40", "600")


@pytest.mark.parametrize(("device", "parameters", "tokens"), [("cuda", 3.2e6, 2e6), ("cpu", 1.8e6, 138_240)])
def test_the_first_seed_is_what_is_asked_for(device: str, parameters: float, tokens: float) -> None:
    """So many parameters and tokens, and a mixed population."""
    first, *others = documents(SIZES[device])
    assert resolve(first.organism).parameters == pytest.approx(parameters, rel=0.05)
    assert first.train.steps * step_tokens(first) == pytest.approx(tokens, rel=0.01)
    assert len(others) == 3


def test_a_search_is_what_overrides_say() -> None:
    """Overrides reach every seed, and wrong ones are refused."""
    found = documents(TINY, ["evolve.fidelity.kind=hyperband", "train.precision=bf16"])
    assert {document.train.precision for document in found} == {"bf16"}
    assert found[0].evolve.fidelity.label == "hyperband"
    with pytest.raises(DiagnosticError):
        documents(TINY, ["train.widht=3"])


def test_it_stops_on_time() -> None:
    """A search that would go on for hours ends; what ended by then counts."""
    found = rate(documents(TINY), "cpu", 0, "warm", 1.5, f"{__name__}:slow")
    assert found.seconds == 1.5
    assert found.children == max(0, found.candidates - 6)  # four seeds, and the best of them twice more
    assert found.tokens >= found.candidates * 4 * 2 * 32
    assert 4 <= found.networks <= found.candidates
    assert found.cpu_s > 0
