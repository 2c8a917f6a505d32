"""A sample of the held-out windows that a score reads: what a snapshot is judged by."""

import torch
from tiny_models import CONTEXT, model, task

from evo.training.sample import ScoredLogits, held_out_sample, sample_bits
from evo.training.score import score_held_out


def test_a_score_leaves_the_sample_s_bits() -> None:
    """The logits kept while a model is scored give the bits that the sample gives when it is run on its own."""
    made = model()
    sample = held_out_sample(task(), CONTEXT, 256, cover=1024, parts=2)
    scored = ScoredLogits(sample)
    assert scored.bits() is None
    score_held_out(made, task(), CONTEXT, tokens=1024, note=scored.note)
    torch.testing.assert_close(scored.bits(), list(sample_bits(made, sample)))


def test_parts_are_spread_and_disjoint() -> None:
    """Parts share no window, are of one size, and cover about as many tokens as were asked for."""
    parts = held_out_sample(task(), CONTEXT, 256, cover=1024, parts=2)
    rows = [tuple(row.tolist()) for part in parts for row in part.inputs_BT]
    assert len(rows) == len(set(rows))
    assert len(parts[0].inputs_BT) == len(parts[1].inputs_BT)
    assert 256 <= len(rows) * CONTEXT <= 512
    assert len(held_out_sample(task(), CONTEXT, 1, cover=CONTEXT, parts=2)) == 1
