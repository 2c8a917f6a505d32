"""What a life is made of: measures, worth, elites, chemotaxis."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any, cast

import numpy as np
import pytest
import torch
from living import life_of, living, trainer
from tiny_models import document

from evo.archive.cvt import CVTArchive
from evo.archive.snapshot.change import ChangeStack
from evo.archive.snapshot.record import Snapshot
from evo.archive.snapshot.restore import restore
from evo.base.streams import Stream
from evo.blocks.flow import Flow
from evo.blocks.pool.module import Pool
from evo.compiler.check import problems
from evo.slime import elites as module
from evo.slime.behaviour import MEASURES, Look, measure, projection
from evo.slime.chemotaxis import Chemotaxis
from evo.slime.elites import LEVEL, Elites, Genome, encoded
from evo.slime.fitness import worth
from evo.slime.spec import WorthSpec

SPAN, SPARSITY, FLOW, LOCALITY, INTENSITY = range(len(MEASURES))


def measured(of: dict[str, Any], tokens: int = 24) -> torch.Tensor:
    """The measures (P, 5) of a pool of such pseudopods, untrained."""
    (colony,) = life_of(trainer(living({"of": of}))).colonies
    x_TD = torch.randn(tokens, 16, generator=torch.Generator().manual_seed(0))
    return measure(colony.pool, Look(x_TD, Flow()), torch.ones(4), projection(16, Stream(0)))


def test_measures_tell_how_far_slots_reach() -> None:
    """A window of two tokens reaches one back: span and locality are known exactly; full attention reaches farther."""
    near = measured({"kind": "attention", "heads": 1, "head_dim": 4, "stencil": {"kind": "window", "size": 2}})
    far = measured({"kind": "attention", "heads": 1, "head_dim": 4})
    expected = (1 / 23 + 1 / 12) / 2
    torch.testing.assert_close(near[:, SPAN], torch.full((4,), expected))
    torch.testing.assert_close(near[:, LOCALITY], torch.ones(4))
    assert (far[:, SPAN] > 3 * expected).all()
    assert (far[:, LOCALITY] < 0.9).all()
    assert ((near >= 0) & (near <= 1)).all()


def test_a_slot_of_rank_one_needs_little() -> None:
    """Intensity is the participation ratio of what enters the output map: 1 / K for values along one direction."""
    (colony,) = life_of(trainer(living({"of": {"kind": "attention", "heads": 1, "head_dim": 4}}))).colonies
    shares = colony.pool.slot_tensors({path: p.detach() for path, p in colony.pool.named_parameters()})
    shares[1]["v"].copy_(shares[1]["v"][:1].expand(4, -1))
    x_TD = torch.randn(24, 16, generator=torch.Generator().manual_seed(0))
    found = measure(colony.pool, Look(x_TD, Flow()), torch.ones(4), projection(16, Stream(0)))
    assert float(found[1, INTENSITY]) == pytest.approx(0.25, abs=1e-3)
    assert (found[[0, 2, 3], INTENSITY] > 0.4).all()


def test_one_token_is_enough_to_look_at() -> None:
    """Where nothing is past, span and locality are 0, and nothing else is missing."""
    found = measured({"kind": "attention", "heads": 1, "head_dim": 4}, tokens=1)
    assert found.isfinite().all()
    assert (found[:, [SPAN, LOCALITY]] == 0).all()


EXPERTS: dict[str, Any] = {"kind": "attention", "heads": 4, "kv_heads": 2, "head_experts": {"count": 3}}
SEEN: dict[str, dict[str, Any]] = {
    "by tokens": {"kind": "attention", "heads": 2, "token_values": {}},
    "in order of experts": {"kind": "attention", "heads": 4, "kv_heads": 2, "head_experts": {"count": 3}},
    "by experts beside others": {
        "parallel": [
            {"kind": "convolution"},
            {"kind": "attention", "heads": 4, "kv_heads": 2, "head_experts": {"count": 3}},
        ]
    },
    "by as many as are sent": {"route": [{"kind": "convolution"}, {"kind": "recurrence", "heads": 2}]},
    "without an output map": {"kind": "convolution", "maps": False},
    "by features that are not trained": {
        "kind": "recurrence",
        "heads": 2,
        "update": "outer",
        "feature": "drawn",
        "draws": 4,
        "normalizer": "sum",
        "decay": "none",
    },
    "by waves along draws that are not trained": {
        "kind": "recurrence",
        "heads": 2,
        "update": "outer",
        "feature": "fourier",
        "draws": 4,
        "decay": {"kind": "token", "form": "logsigmoid"},
        "write": "rest",
    },
    "by maps of a form": {"formed": {"kind": "attention", "heads": 2}, "blocks": 4, "on": ["q", "o"]},
    "by narrow maps": {"formed": {"kind": "convolution"}, "form": "low_rank", "rank": 2},
    "by products of maps": {"formed": {"kind": "recurrence", "heads": 2}, "form": "kronecker", "blocks": 2},
}


@pytest.mark.parametrize("of", SEEN.values(), ids=SEEN)
def test_pseudopods_of_any_kind_are_looked_at(of: dict[str, Any]) -> None:
    """Also such as read tokens, take vectors in in another order or number, or have no map to the stream."""
    training = trainer(living({"of": of, "slots": 3, "alive": 2}, steps=4, cells=4))
    events: list[Any] = []
    training.run(on_step=lambda progress: events.extend(progress.events))
    (colony,) = life_of(training).colonies
    measures_NM = np.array(colony.history)
    assert ((measures_NM >= 0) & (measures_NM <= 1)).all()
    assert (measures_NM[:, INTENSITY] > 0).all()
    assert [event["fitness"] > 0 for event in events if event["event"] == "look"] == [True, True]


def test_worth_is_bounded_and_relative() -> None:
    """Each term lies in [0, 1]; a slot like the mean has 1/2; an empty slot has nothing; weights are normalised."""
    alive_P = np.array([True, True, True, False])
    task_P, gradient_P = np.array([4.0, 4.0, 0.0, 9.0]), np.array([1.0, 1.0, 1.0, 0.0])
    found = worth(task_P, gradient_P, np.array([0.2, 1.0, 0.0, 0.0]), alive_P)
    np.testing.assert_allclose(found.gradient_P, [0.5, 0.5, 0.5, 0.0])
    np.testing.assert_allclose(found.task_P, [0.6, 0.6, 0.0, 0.0])
    np.testing.assert_allclose(found.efficiency_P, [0.8, 0.0, 1.0, 0.0])
    np.testing.assert_allclose(found.fitness(WorthSpec()), [0.63, 0.47, 0.25, 0.0])
    np.testing.assert_allclose(found.fitness(WorthSpec(task=0.0, efficiency=3.0, gradient=0.0)), found.efficiency_P)
    assert not found.fitness(WorthSpec(task=0.0, efficiency=0.0, gradient=0.0)).any()


def pseudopods(count: int, size: int = 24) -> list[dict[str, torch.Tensor]]:
    """Weights of some pseudopods: matrices of falling singular values."""
    generator = torch.Generator().manual_seed(0)
    decay = torch.arange(1, size + 1) ** -1.5

    def drawn(columns: int) -> torch.Tensor:
        return torch.randn(size, columns, generator=generator)

    return [{"q": (drawn(size) * decay) @ drawn(2 * size)} for _ in range(count)]


def test_elites_hold_low_rank_factors() -> None:
    """A genome is smaller than half the weights, and gives them back to a few percent."""
    (weights,) = pseudopods(1, 64)
    (genome,) = encoded({"q": weights["q"][None]})
    restored, wanted = genome.weights()["q"], weights["q"]
    assert genome.nbytes < 0.2 * 4 * wanted.numel()
    assert float((restored - wanted).norm() / wanted.norm()) < 0.1
    assert len(genome.blob) < len(encoded({"q": torch.randn(1, *wanted.shape)})[0].blob) / 2


def test_a_genome_holds_what_the_encoder_gives() -> None:
    """Whole matrices, factors, zeros and vectors come back as the encoder's arrays say, to the bit. Other
    bytes are refused."""
    (low,) = pseudopods(1, 64)
    generator = torch.Generator().manual_seed(1)
    weights = {
        "full": torch.randn(32, 64, generator=generator),
        "low": low["q"],
        "zero": torch.zeros(48, 64),
        "bias": torch.randn(7, generator=generator),
    }
    pieces = [ChangeStack((n,), w.double()[None], w[None], (None,)).at(LEVEL)[0] for n, w in weights.items()]
    assert {"dense", "factors"} <= {piece.method for piece in pieces}
    base = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    wanted = restore(base, Snapshot(tuple(pieces), "", 0.0, 0.0, 0.0, 0), check_base=False)
    (genome,) = encoded({name: weight[None] for name, weight in weights.items()})
    torch.testing.assert_close(Genome.read(genome.blob).weights(), wanted, rtol=0, atol=0)
    with pytest.raises(ValueError, match="in another form"):
        Genome.read(b"\x10\x00\x00\x00")


def test_an_archive_of_pseudopods_is_plain_data() -> None:
    """The best of a cell stays, its weights too once it dies; the nearest to a behaviour is found; data comes back."""
    elites = Elites(CVTArchive(np.array([[0.0] * 5, [1.0] * 5])), ThreadPoolExecutor(1))
    weights = dict(zip("abc", pseudopods(3), strict=True))
    assert elites.judge("abc", np.array([0.5, 0.4, 0.1]), np.array([[0.1] * 5, [0.2] * 5, [0.9] * 5])) == 2
    nearest = elites.nearest(np.full(5, 0.8))
    assert nearest is not None
    assert nearest.id == "c"
    elites.keep(weights)
    assert set(elites.genomes) == {"a", "c"}
    again = Elites.from_data(*elites.to_data(), elites.coder)
    assert again.archive.to_data() == elites.archive.to_data()
    assert again.genomes == elites.genomes
    assert elites.drop_worst()
    assert set(elites.genomes) == {"a"}
    elites.judge(["d"], np.array([0.9]), np.array([[0.0] * 5]))
    assert not elites.genomes
    assert not elites.drop_worst()


def test_coding_the_dead_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights are read when their pseudopod dies, whatever becomes of its slot; who asks for a genome waits for it."""
    elites, may_code = Elites(CVTArchive(np.array([[0.0] * 5])), ThreadPoolExecutor(1)), Event()

    def later(weights: Any) -> Any:
        assert may_code.wait(60)
        return encoded(weights)

    monkeypatch.setattr(module, "encoded", later)
    (weights,) = pseudopods(1)
    (wanted,) = encoded({"q": weights["q"][None].clone()})
    elites.judge("a", np.array([0.5]), np.array([[0.1] * 5]))
    elites.keep({"a": weights})
    weights["q"].zero_()
    elites.refine(np.array([[0.1] * 5]), 0.0)
    assert elites.nearest(np.full(5, 0.1)) is not None
    may_code.set()
    assert elites.genome("a") == wanted
    assert elites.genomes == {"a": wanted}


def test_refining_moves_cells_to_where_pseudopods_are() -> None:
    """The nearest centroid goes part of the way; elites are placed anew and stay what they are."""
    elites = Elites(CVTArchive(np.array([[0.0] * 5, [1.0] * 5])), ThreadPoolExecutor(1))
    elites.judge(["a"], np.array([0.5]), np.array([[0.4] * 5]))
    elites.refine(np.array([[0.4] * 5]), 0.5)
    np.testing.assert_allclose(elites.archive.centroids_CM, [[0.2] * 5, [1.0] * 5])
    assert [elite.id for elite in elites.archive.elites()] == ["a"]


def test_chemotaxis_turns_to_what_smells() -> None:
    """The sated take the strongest smell, the starving any; a fast metabolism only reaches what is near."""
    senses = Chemotaxis()
    assert senses.sample(np.zeros(2), 1.0, 0.5, Stream(0)) is None
    senses.add_source("near", np.array([0.1, 0.0]), 0.5)
    senses.add_source("far", np.array([3.0, 0.0]), 1.0)

    def drawn(metabolic_rate: float, hunger: float) -> list[str]:
        found = [senses.sample(np.zeros(2), metabolic_rate, hunger, Stream(0).child(i)) for i in range(40)]
        return [source.nutrient for source in found if source is not None]

    assert set(drawn(2.0, 0.0)) == {"near"}
    assert set(drawn(0.01, 0.0)) == {"far"}
    assert 10 < drawn(2.0, 1.0).count("far") < 30
    assert drawn(2.0, 0.2).count("far") < 5
    with pytest.raises(ValueError, match="concentration"):
        senses.add_source("bad", np.zeros(2), -1.0)
    senses.clear()
    assert senses.sources == []


def test_pools_are_found_wherever_they_stand() -> None:
    """A pool inside a composite lives as well."""
    made = living({"kind": "pool"})
    assert [type(colony.pool) for colony in life_of(trainer(made)).colonies] == [cast(type, Pool)]


@pytest.mark.parametrize(
    ("mix", "life", "warns"),
    [
        ({"kind": "pool", "slots": 4}, {"every": 5, "warmup": 5}, False),
        ({"kind": "pool", "slots": 4}, {"every": 5, "warmup": 6}, True),
        ({"kind": "pool", "slots": 4}, {"every": 11, "warmup": 0}, True),
        ({"parallel": [{"kind": "pool", "slots": 4}, {"kind": "convolution"}]}, {"every": 5, "warmup": 0}, False),
        ({"kind": "convolution"}, {"every": 5, "warmup": 0}, True),
        ({"kind": "pool", "slots": 4}, {"every": 5, "warmup": 5, "least": 4, "most": 4}, False),
        ({"kind": "pool", "slots": 4}, {"every": 5, "warmup": 5, "least": 4, "most": 3}, True),
        ({"kind": "pool", "slots": 4}, {"every": 5, "warmup": 5, "thaw": 10.0}, True),
    ],
)
def test_a_life_in_which_nothing_happens_is_spoken_against(
    mix: dict[str, Any], life: dict[str, Any], warns: bool
) -> None:
    """No pool, no look within the ten steps that leads to something in them, bounds that exclude each other, or a frost
    that ends where it begins."""
    train = {"steps": 10, "life": {"kind": "annealed", **life}}
    found = [fault.code for fault in problems(document(mix, train=train))]
    assert found == ["EVO334"] * warns
