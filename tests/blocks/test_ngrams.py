"""Hashed n-grams are BLT's, go on while decoding, and keep packed documents apart."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from block_variants import document, inputs, organism, stage
from torch import Tensor

from evo.blocks.flow import Flow
from evo.blocks.stages.ngrams.module import Ngrams, hashed
from evo.compiler.organism import Organism, OrganismState
from evo.training.causality import find_leak

CONVOLUTION = {"kind": "convolution"}


def model(**grams: Any) -> Organism:
    above = {"name": "grams", "kind": "ngrams", "sizes": [2, 5, 3], "rows": 97, "functions": 2, **grams}
    return organism([above, stage("body", CONVOLUTION)]).double()


def part(found: Organism) -> Ngrams:
    grams = found.stages["grams"]
    assert isinstance(grams, Ngrams)
    return grams


def tokens() -> Tensor:
    return torch.randint(256, (2, 24), generator=torch.Generator().manual_seed(0))


def test_the_vectors_are_those_of_blt() -> None:
    """Hashes and their sum over sizes and functions equal transformers', values and gradients."""
    blt = pytest.importorskip("transformers.models.blt.modeling_blt")
    grams, rows, x = part(model()), tokens(), inputs()
    for size in (2, 5, 8):
        windows = torch.nn.functional.pad(rows, (size - 1, 0)).unfold(1, size, 1)
        expected = blt.byte_group_hash_function(rows, size, 5915587277, 500_002)
        assert torch.equal(hashed(windows, 5915587277) % 500_002, expected)
    table = torch.nn.Embedding(grams.table.shape[0], grams.table.shape[1], dtype=torch.float64)
    table.load_state_dict({"weight": grams.table})

    class Local:
        """An encoder whose token vectors are given."""

        @staticmethod
        def embed_tokens(_: Tensor) -> Tensor:
            return x.clone()

    expected = blt.compute_hash_embeddings(rows, Local, table, 2, [2, 5, 3], 97)
    y = grams.run({"x": [x]}, Flow(signals={"tokens": rows})).value()
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    (ours,) = torch.autograd.grad((y * inputs(seed=4)).sum(), grams.table)
    (theirs,) = torch.autograd.grad((expected * inputs(seed=4)).sum(), table.weight)
    torch.testing.assert_close(ours, theirs)


def test_decoding_keeps_the_latest_tokens() -> None:
    """In any pieces the logits are those of the whole, and nothing leaks."""
    whole, rows = model(), tokens()
    assert find_leak(whole) is None
    for lengths in ([1] * 24, [3, 1, 11, 9]):
        state, parts = OrganismState(), []
        for piece in rows.split(lengths, dim=1):
            logits, state = whole.extend(piece, state)
            parts.append(logits)
        torch.testing.assert_close(torch.cat(parts, 1), whole(rows))


def test_packed_documents_do_not_meet() -> None:
    """Each document of a row gets what it gets alone."""
    grams, rows, x = part(model()), tokens()[:1], inputs(batch=1)
    segments = torch.repeat_interleave(torch.tensor([4, 2, 4]), torch.tensor([9, 3, 12]))[None]
    packed = grams.run({"x": [x]}, Flow(signals={"tokens": rows}, segments_BT=segments)).value()
    pieces = zip(x.split([9, 3, 12], 1), rows.split([9, 3, 12], 1), strict=True)
    alone = [grams.run({"x": [x_]}, Flow(signals={"tokens": rows_})).value() for x_, rows_ in pieces]
    torch.testing.assert_close(packed, torch.cat(alone, 1))


def test_sizes_are_different_and_fit() -> None:
    """A size that stands twice, and one beyond the context."""
    for sizes in ([3, 3], [3, 16]):
        above = {"name": "grams", "kind": "ngrams", "sizes": sizes, "rows": 97}
        with pytest.raises(AssertionError, match="EVO355"):
            document([above, stage("body", CONVOLUTION)], context=15)
