"""Programs that solve each synthetic task by its definition, reading nothing but what came before a position.

Each maps a row of inputs to what it answers at every position; None where it has nothing to say.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Answers = list[int | None]
Solver = Callable[[list[int]], Answers]


def predicting(solve: Solver, vocab: int) -> Callable[[Tensor], Tensor]:
    """The model that a solver stands for: all its belief in its answer, symbol 0 where it has none."""

    def predict(tokens_BT: Tensor) -> Tensor:
        logits_BTV = torch.zeros(*tokens_BT.shape, vocab)
        for row, tokens in enumerate(tokens_BT.tolist()):
            for place, answer in enumerate(solve(tokens)):
                logits_BTV[row, place, answer or 0] = 50.0
        return logits_BTV

    return predict


def recall(tokens: list[int]) -> Answers:
    """What followed a symbol where it last stood at an even place."""
    seen: dict[int, int] = {}
    answers: Answers = []
    for place, token in enumerate(tokens):
        answers.append(seen.get(token) if place % 2 == 0 else None)
        if place % 2:
            seen[tokens[place - 1]] = token
    return answers


def fuzzy_recall(tokens: list[int], key_size: int = 3, keys: int = 7, padding: int = 15) -> Answers:
    """The value of a whole key, symbol by symbol, by the pairs that are complete."""
    seen: dict[tuple[int, ...], list[int]] = {}
    key, value, answers = list[int](), list[int](), Answers()
    for token in tokens:
        if token == padding:
            answers.append(None)
            continue
        if token < keys and value:
            seen[tuple(key)] = value
            key, value = [], []
        (key if token < keys else value).append(token)
        known = seen.get(tuple(key), []) if len(key) == key_size else []
        answers.append(known[len(value)] if len(value) < len(known) else None)
    return answers


def selective_copy(tokens: list[int], mark: int = 15, blank: int = 14) -> Answers:
    """The symbols before the mark, one a blank behind it."""
    symbols, answers, is_behind = list[int](), Answers(), False
    for token in tokens:
        answers.append(symbols.pop(0) if is_behind and symbols else None)
        is_behind |= token == mark
        if not is_behind and token != blank:
            symbols.append(token)
    return answers


def mqar(tokens: list[int], pairs: int = 8) -> Answers:
    """The value of a key among the first pairs, at every place behind them."""
    facts = dict(zip(tokens[: 2 * pairs : 2], tokens[1 : 2 * pairs : 2], strict=True))
    return [facts.get(token) if place >= 2 * pairs else None for place, token in enumerate(tokens)]


def parity(tokens: list[int]) -> Answers:
    """Whether the ones so far are odd."""
    return [sum(tokens[: place + 1]) % 2 for place in range(len(tokens))]


def xor(tokens: list[int]) -> Answers:
    """The exclusive or of the last two bits."""
    return [tokens[place] ^ tokens[place - 1] if place else None for place in range(len(tokens))]


def passkey(tokens: list[int], digits: int = 5) -> Answers:
    """The digits that stand in the text, again behind the question."""
    text = bytes(tokens)
    answers: Answers = [None] * len(tokens)
    at = text.index(b"The pass key is ") + 16
    for digit, place in enumerate(range(len(tokens) - digits, len(tokens))):
        answers[place] = tokens[at + digit]
    return answers


def remembered(sequences: Sequence[tuple[list[int], list[int]]]) -> Solver:
    """What was asked of each symbol in some sequences, by the symbol before the mark."""
    facts = {
        tokens[place - 1]: target
        for tokens, targets in sequences
        for place, target in enumerate(targets)
        if place and target >= 0
    }
    return lambda tokens: [facts.get(tokens[place - 1]) if place else None for place in range(len(tokens))]
