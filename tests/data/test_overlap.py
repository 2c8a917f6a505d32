"""Held-out text that stands in the training text is measured and said."""

from pathlib import Path

import numpy as np

from evo.data.corpus import SHIPPED, load_corpus
from evo.data.overlap import overlap

RANDOM = np.random.Generator(np.random.Philox(3))


def counted(train: bytes, held_out: bytes) -> float:
    """The share by looking for every window as bytes."""
    windows = [held_out[at : at + 64] for at in range(0, len(held_out) - 63, 8)]
    return sum(window in train for window in windows) / len(windows)


def test_the_share_is_what_looking_for_each_window_gives() -> None:
    """On texts that share pieces at odd places, in the first chunk and in a later one."""
    train = RANDOM.integers(97, 101, 5_000_000, dtype=np.uint8)
    held_out = RANDOM.integers(97, 101, 1501, dtype=np.uint8)
    held_out[101:500] = train[77:476]
    held_out[1000:1400] = train[4_194_304 - 133 : 4_194_304 + 267]
    share = overlap(train, held_out)
    assert share == counted(train.tobytes(), held_out.tobytes())
    assert 0.4 < share < 0.6
    assert overlap(train[:50], held_out) == overlap(train, held_out[:50]) == 0.0


def test_shipped_texts_need_no_warning() -> None:
    """Their shares are those that FAULTS measured: 0.05 % and 2.3 %."""
    shares = [load_corpus(name).overlap for name in sorted(SHIPPED)]
    assert 0.02 < shares[0] < 0.026
    assert shares[1] < 0.001


def test_a_copy_in_a_folder_is_said_with_the_share(tmp_path: Path) -> None:
    """A folder that holds a file twice: the copy is named, and 99 % of the held-out text is found in the training."""
    text = load_corpus("shakespeare").train.tobytes()
    for name, content in {"a.txt": text[:150_000], "b.txt": text[-40_000:], "c.txt": text[:150_000]}.items():
        (tmp_path / name).write_bytes(content)
    corpus = load_corpus(tmp_path)
    said = " ".join(corpus.warnings)
    assert corpus.overlap > 0.9
    assert "1 file is a copy of another" in said
    assert f"{corpus.overlap:.1%} of its held-out text stands in its training text" in said
