"""Held-out scores: the sum that the definition names, on text that training never draws from."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import CONTEXT, model, perturbed, task, text

from evo.base.streams import Stream
from evo.compiler.organism import Organism
from evo.data.batches import held_out_batches, training_batch
from evo.training.score import held_out_scores


def scored(network: Organism, **options: Any) -> float:
    """The task's primary score of a network."""
    return held_out_scores(network, task(), CONTEXT, **options)["bits_per_byte"]


def test_it_equals_a_sum_by_hand() -> None:
    """Bits per byte are the mean of -log2 p(next byte), window by window, summed here in float64 without batches."""
    network = perturbed(model())
    bits, count = 0.0, 0
    for inputs, targets in held_out_batches(text(), CONTEXT, 1_000, batch=1):
        with torch.no_grad():
            logits_TV = network(torch.from_numpy(inputs))[0].double()
        for row, target in zip(logits_TV, targets[0], strict=True):
            bits += math.log2(float(row.exp().sum())) - float(row[int(target)]) / math.log(2)
            count += 1
    assert count == 1_000 // CONTEXT * CONTEXT
    assert scored(network, tokens=1_000) == pytest.approx(bits / count, rel=1e-6)


def test_uniform_logits_are_eight_bits() -> None:
    """A model that knows nothing scores log2(256)."""
    network = model()
    with torch.no_grad():
        network.get_parameter("embedding.weight").zero_()
    assert scored(network, tokens=500) == pytest.approx(8.0, abs=1e-5)


def test_broken_weights_give_no_score() -> None:
    """Logits that are no numbers give NaN, never a number that looks like a score."""
    network = model()
    with torch.no_grad():
        network.get_parameter("embedding.weight").fill_(float("nan"))
    assert math.isnan(scored(network, tokens=100))


def test_the_score_is_the_same_each_time() -> None:
    """Scoring twice gives equal numbers and moves neither weights nor torch's generator."""
    network = perturbed(model())
    state = torch.get_rng_state()
    assert scored(network) == scored(network)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_precision_is_that_of_training() -> None:
    """A model trained in bf16 is scored in bf16, which gives another, close number."""
    network = perturbed(model())
    full, half = (scored(network, tokens=500, precision=p) for p in ("fp32", "bf16"))
    assert full != half
    assert full == pytest.approx(half, rel=0.02)


def test_training_never_reads_held_out_text() -> None:
    """No window that training draws holds a held-out byte: drawn from text with every byte's side written on it."""
    from evo.data.corpus import held_out_pieces, split_corpus

    sides = np.zeros(50_000, dtype=np.uint8)
    for start, stop in held_out_pieces(len(sides)):
        sides[start:stop] = 1
    corpus = split_corpus("sides", sides.tobytes())
    drawn = [training_batch(corpus, step, 16, CONTEXT, Stream(0).child("data")) for step in range(50)]
    assert not any(inputs.any() or targets.any() for inputs, targets in drawn)
    assert all(inputs.all() and targets.all() for inputs, targets in held_out_batches(corpus, CONTEXT, 5_000))
