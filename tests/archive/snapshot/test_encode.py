"""Encoding: within the tolerance, small, deterministic, always possible, and measured."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.archive.snapshot.models import distance, made_up

from evo.archive.snapshot.blob import to_bytes
from evo.archive.snapshot.encode import encode
from evo.archive.snapshot.record import SnapshotError, relative_increase
from evo.archive.snapshot.restore import restore


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 1000),
    rank=st.integers(0, 6),
    noise=st.sampled_from([0.0, 0.1, 1.0]),
    size=st.sampled_from([1e-9, 1e-3, 1.0, 1e6]),
    tolerance=st.sampled_from([0.0, 1e-6, 0.01, 1.0]),
)
def test_the_measured_loss_is_within_the_tolerance(
    seed: int, rank: int, noise: float, size: float, tolerance: float
) -> None:
    """Whatever the change, the loss after restoring, measured again here, is the recorded one and within tolerance."""
    base, trained = made_up(seed, rank, noise, size)
    evaluate = distance(trained)
    snapshot = encode(base, trained, {}, evaluate, tolerance)
    assert evaluate(restore(base, snapshot)) == [snapshot.loss_restored]
    assert snapshot.increase <= tolerance
    assert snapshot.loss_trained == 1.0


def test_low_rank_changes_become_factors() -> None:
    """A change of rank 2 is held in factors of that rank; unchanged tensors cost nothing; small ones have 8 bits."""
    base, trained = made_up(rank=2)
    pieces = {piece.name: piece for piece in encode(base, trained, {}, distance(trained), 0.01).pieces}
    for name in ("a.weight", "b.weight", "experts"):
        assert (pieces[name].method, pieces[name].rank) == ("factors", 2)
    assert (pieces["frozen"].method, pieces["frozen"].nbytes) == ("same", 0)
    assert pieces["taps"].method == "dense"


@pytest.mark.parametrize(("tolerance", "method"), [(0.3, "dense"), (1e-3, "dense"), (1e-5, "half"), (0.0, "float")])
def test_full_rank_changes_fall_back(tolerance: float, method: str) -> None:
    """A change without low rank goes to as many bits as the tolerance demands, up to the exact weights."""
    base, trained = made_up(rank=0, noise=1.0, size=0.03)
    snapshot = encode(base, trained, {}, distance(trained), tolerance)
    assert {piece.method for piece in snapshot.pieces if piece.name.endswith("weight")} == {method}
    if method == "float":
        assert all(torch.equal(tensor, trained[name]) for name, tensor in restore(base, snapshot).items())


def test_a_looser_tolerance_is_never_larger() -> None:
    """Bytes fall, or stay, as the tolerance grows."""
    base, trained = made_up(rank=5, noise=0.2, size=0.05)
    sizes = [
        encode(base, trained, {}, distance(trained), tolerance).payload_bytes
        for tolerance in (0.0, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[0] / 8


def test_few_measurements() -> None:
    """A measurement tells where to try next: at most ten of them, counted and recorded."""
    base, trained = made_up(rank=5, noise=0.2, size=0.05)
    calls = []

    def counted(weights: dict[str, torch.Tensor]) -> list[float]:
        calls.append(1)
        return distance(trained)(weights)

    snapshot = encode(base, trained, {}, counted)
    assert len(calls) == 1 + snapshot.evaluations <= 10


def test_same_inputs_same_bytes() -> None:
    """Encoding is deterministic and does not depend on the order of names; inputs are not modified."""
    base, trained = made_up(rank=3, noise=0.1)
    before = {name: tensor.clone() for name, tensor in trained.items()}
    moment = {"a.weight": torch.eye(48)}
    first = to_bytes(encode(base, trained, moment, distance(trained)))
    backwards = dict(reversed(base.items())), dict(reversed(trained.items()))
    assert to_bytes(encode(*backwards, moment, distance(trained))) == first
    assert all(torch.equal(tensor, before[name]) for name, tensor in trained.items())


def test_moments_decide_what_is_kept() -> None:
    """Where half of the inputs are always zero, the change of their weights is not paid for."""
    base, trained = made_up(rank=0, noise=1.0)
    trained["a.weight"][:, 24:] += 0.03 * torch.outer(torch.arange(64.0), torch.ones(24))

    def evaluate(weights: dict[str, torch.Tensor]) -> list[float]:
        difference = weights["a.weight"][:, 24:] - trained["a.weight"][:, 24:]
        return [1.0 + float(difference.square().sum())]

    moment = torch.diag((torch.arange(48) >= 24).double())
    blind = encode(base, trained, {}, evaluate)
    aware = encode(base, trained, {"a.weight": moment}, evaluate)
    by_name = {piece.name: piece for piece in aware.pieces}
    assert aware.payload_bytes <= blind.payload_bytes
    assert by_name["a.weight"].rank < 10


def test_half_precision_weights() -> None:
    """Bfloat16 weights are restored in bfloat16, exactly where nothing is lost."""
    base, trained = ({n: t.bfloat16() for n, t in part.items()} for part in made_up())
    restored = restore(base, encode(base, trained, {}, distance(trained), 0.0))
    assert all(tensor.dtype == torch.bfloat16 for tensor in restored.values())
    assert all(torch.equal(tensor, trained[name]) for name, tensor in restored.items())


def test_nothing_to_keep() -> None:
    """Unchanged weights, or none at all, make a snapshot of no bytes."""
    base, _ = made_up()
    assert encode(base, base, {}, lambda weights: [2.0]).payload_bytes == 0
    assert encode({}, {}, {}, lambda weights: [2.0]).pieces == ()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"norm": torch.zeros(7)}, r"'norm': base of shape \(48,\), trained \(7,\)"),
        ({"extra": torch.zeros(1)}, "'extra'"),
        ({"norm": torch.zeros(48, dtype=torch.int64)}, "int64"),
        ({"norm": torch.full((48,), math.nan)}, "'norm' has numbers"),
    ],
)
def test_weights_that_do_not_fit_are_named(change: dict[str, torch.Tensor], text: str) -> None:
    """Other names, shapes, dtypes, and numbers that are not finite raise SnapshotError with the tensor's name."""
    base, trained = made_up()
    with pytest.raises(SnapshotError, match=text):
        encode(base, trained | change, {}, lambda weights: [1.0])


@pytest.mark.parametrize("tolerance", [-0.1, math.nan, math.inf])
def test_tolerances_without_meaning_are_refused(tolerance: float) -> None:
    """A negative or non-finite tolerance raises SnapshotError."""
    base, trained = made_up()
    with pytest.raises(SnapshotError, match="tolerance"):
        encode(base, trained, {}, lambda weights: [1.0], tolerance)


def test_a_diverged_model_is_refused() -> None:
    """Without a finite loss of the trained weights there is nothing to hold to, and that is said."""
    base, trained = made_up()
    with pytest.raises(SnapshotError, match="held-out loss"):
        encode(base, trained, {}, lambda weights: [math.nan])


def test_relative_increase() -> None:
    """The increase is relative to the size of the loss before, and 0 to 0 is none."""
    assert relative_increase(2.0, 2.1) == pytest.approx(0.05)
    assert relative_increase(-2.0, -1.9) == pytest.approx(0.05)
    assert relative_increase(0.0, 0.0) == 0.0
    assert relative_increase(0.0, 1.0) == math.inf
