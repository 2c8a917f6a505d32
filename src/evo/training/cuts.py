"""Where the causality probe cuts: before a row's cut stands what its early outputs may see, from it on what not.

A cut of 0 leaves a row without early outputs, one of the length leaves it without later inputs: what such rows see of
others is seen at every position.
"""

from __future__ import annotations

from evo.base.streams import Stream


def spread_cuts(rows: int, tokens: int, index: int, count: int, stream: Stream) -> list[int]:
    """A cut a row, drawn from equal parts of the sequence; pass `index` of `count` draws from its share of each part.

    So the passes of a probe together miss no stretch of more than 2 tokens / (rows count) or so. rows: at least 2.
    """
    inner = rows - 2 if rows >= 4 else rows
    first, last = (1, tokens - 1) if rows >= 4 else (0, tokens)
    draws = stream.numpy().random(inner)
    span = max(1, last - first + 1)
    cuts = [first + int(span * (part + (index + draw) / count) / inner) for part, draw in enumerate(draws)]
    cuts = [min(max(cut, 0), tokens) for cut in cuts]
    return zigzag([0, *cuts, tokens] if rows >= 4 else cuts, is_flipped=index % 2 == 1)


def dense_cuts(rows: int, tokens: int) -> list[list[int]]:
    """Every cut within the sequence, a batch of `rows` at a time; rows that are left over have a cut of 0."""
    cuts = list(range(1, tokens))
    groups = [cuts[start :: -(-len(cuts) // rows)] for start in range(-(-len(cuts) // rows))] if cuts else [[]]
    filled = [[*([0] * (rows - len(group))), *group] for group in groups]
    return [zigzag(group, is_flipped=index % 2 == 1) for index, group in enumerate(filled)]


def zigzag(cuts: list[int], is_flipped: bool) -> list[int]:
    """The cuts in an order that rises and falls in turn, so that rows see both what neighbours change and what not."""
    low = sorted(cuts)
    order = [low[i // 2] if i % 2 == 0 else low[-1 - i // 2] for i in range(len(low))]
    return order[::-1] if is_flipped else order
