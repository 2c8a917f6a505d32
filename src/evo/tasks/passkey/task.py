"""A number hidden in a text: does a model find it again?"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch

from evo.tasks.base import Predict
from evo.tasks.held_out import BATCH_TOKENS, IGNORED
from evo.tasks.synthetic import Ints, Sequences, SyntheticTask

FILLER = b"The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again. "
BEFORE, AFTER = b"The pass key is ", b". Remember it. "
QUESTION = b"What is the pass key? The pass key is "


class PasskeyTask(SyntheticTask):
    """See `SyntheticTask`. Token i is byte i."""

    start = ord("T")

    def __init__(self, spec: object, root: object) -> None:
        super().__init__(spec, root)  # type: ignore[arg-type]
        self.token_bytes = torch.ones(self.vocab, dtype=torch.int64)

    @property
    def shortest(self) -> int:
        """The key and the question."""
        return len(BEFORE + AFTER + QUESTION) + 2 * self.spec.digits - 1

    def sequences(self, rng: np.random.Generator, count: int, context: int, is_training: bool) -> Sequences:
        """Filler that begins anywhere, the needle at a place drawn uniformly in it, and the question with its answer;
        the answer's digits are asked for."""
        del is_training
        room = context - self.shortest
        filler = _tokens(FILLER * (room // len(FILLER) + 2))
        before, after, question = _tokens(BEFORE), _tokens(AFTER), _tokens(QUESTION)
        keys_NS = rng.integers(ord("0"), ord("9") + 1, size=(count, self.spec.digits))
        begins_N, places_N = rng.integers(len(FILLER), size=count), rng.integers(room + 1, size=count)
        tokens_NT = np.empty((count, context + 1), np.int64)
        for row, (begin, place) in enumerate(zip(begins_N, places_N, strict=True)):
            text, key = filler[begin : begin + room], keys_NS[row]
            tokens_NT[row] = np.concatenate((text[:place], before, key, after, text[place:], question, key))
        answers_NT = np.full_like(tokens_NT, IGNORED)
        answers_NT[:, -self.spec.digits :] = keys_NS
        return Sequences(tokens_NT[:, :-1], answers_NT[:, 1:])

    @torch.no_grad()
    def score(self, predict: Predict, context: int, tokens: int) -> dict[str, float]:
        """The share of digits that rank first, the share of keys all of whose digits do, and bits a digit."""
        scores = super().score(predict, context, tokens)
        whole, count = 0.0, 0
        for batch in self.held_out(context, tokens, max(1, BATCH_TOKENS // context)):
            found_BS = predict(batch.inputs_BT)[:, -self.spec.digits :].argmax(-1).cpu()
            whole += float((found_BS == batch.targets_BT[:, -self.spec.digits :]).all(1).sum())
            count += len(found_BS)
        is_broken = math.isnan(scores[self.primary.name])
        return {**scores, "whole_keys": math.nan if is_broken else whole / count}

    def encode(self, text: bytes) -> list[int]:
        """Its bytes."""
        return list(text)

    def decode(self, tokens: Iterable[int]) -> bytes:
        """Those bytes."""
        return bytes(tokens)


def _tokens(text: bytes) -> Ints:
    return np.frombuffer(text, np.uint8).astype(np.int64)
