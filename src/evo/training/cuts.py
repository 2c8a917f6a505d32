"""Where the causality probe cuts: before a row's cut stands what its early outputs may see, from it on what not.

A cut of 0 leaves a row without early outputs, one of the length leaves it without later inputs: what such rows see of
others is seen at every position.
"""

from __future__ import annotations

import numpy as np

from evo.base.streams import Stream

BESIDE = 8
"""How many outputs on either side an output's certainty is held against."""
SURE = 0.1
"""The share of a row's outputs that count as its most certain."""


def spread_cuts(rows: int, tokens: int, index: int, count: int, stream: Stream) -> list[int]:
    """A cut a row, drawn from equal parts of the sequence; pass `index` of `count` draws from its share of each part.

    So the passes of a probe together miss no stretch of more than 2 tokens / (rows count) or so. rows: at least 1.
    """
    inner = rows - 2 if rows >= 4 else rows
    first, last = (1, tokens - 1) if rows >= 4 else (0, tokens)
    draws = stream.numpy().random(inner)
    span = max(1, last - first + 1)
    cuts = [first + int(span * (part + (index + draw) / count) / inner) for part, draw in enumerate(draws)]
    cuts = [min(max(cut, 0), tokens) for cut in cuts]
    return zigzag([0, *cuts, tokens] if rows >= 4 else cuts, is_flipped=index % 2 == 1)


def telling_cuts(certainty_BT: np.ndarray, cuts: list[int], stream: Stream) -> list[int]:
    """The cuts of some rows, two of three of them moved behind outputs that the model is oddly certain of.

    A leak that pays makes outputs certain. One at the same few positions of all rows makes the mean over rows stand out
    there; one that comes and goes with the text stands among the most certain outputs of its row. So a leak at few
    outputs is looked for where it would be.

    certainty_BT: the largest log-probability of each output.
    """
    tokens = certainty_BT.shape[1]
    if tokens < 2:
        return cuts
    draws = stream.numpy()
    odd = iter(_standing_out(certainty_BT[:, : tokens - 1].mean(0)))
    found, turn = list(cuts), 0
    for row, cut in enumerate(cuts):
        if cut in (0, tokens):  # such a row is there for what it sees of others
            continue
        if turn % 3 == 0:
            found[row] = 1 + next(odd, cut - 1)
        elif turn % 3 == 1:
            sure = np.argsort(-certainty_BT[row, : tokens - 1], kind="stable")[: max(1, int(SURE * tokens))]
            found[row] = 1 + int(draws.choice(sure))
        turn += 1
    return found


def _standing_out(certainty_T: np.ndarray) -> list[int]:
    """Positions in the order of how far each lies above the median of those around it, farthest first."""
    padded = np.pad(certainty_T, BESIDE, mode="edge")
    around = np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * BESIDE + 1), axis=1)
    return [int(position) for position in np.argsort(around - certainty_T, kind="stable")]


def dense_cuts(rows: int, tokens: int) -> list[list[int]]:
    """Every cut within the sequence, a batch of `rows` at a time; rows that are left over have a cut of 0."""
    cuts = list(range(1, tokens))
    groups = [cuts[start :: -(-len(cuts) // rows)] for start in range(-(-len(cuts) // rows))] if cuts else [[]]
    filled = [[*([0] * (rows - len(group))), *group] for group in groups]
    return [zigzag(group, is_flipped=index % 2 == 1) for index, group in enumerate(filled)]


def behind(cut: int, given: int) -> int:
    """A cut, behind tokens that may be read both ways; one of 0 stays."""
    return max(cut, given) if cut else 0


def zigzag(cuts: list[int], is_flipped: bool) -> list[int]:
    """The cuts in an order that rises and falls in turn, so that rows see both what neighbours change and what not."""
    low = sorted(cuts)
    order = [low[i // 2] if i % 2 == 0 else low[-1 - i // 2] for i in range(len(low))]
    return order[::-1] if is_flipped else order
