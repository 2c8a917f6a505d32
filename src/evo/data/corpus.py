"""A corpus: bytes of text with a fixed held-out part that no candidate trains on.

The split is a function of the length alone. The text is cut into blocks of about 64 KiB and the last sixteenth of every
block is held out, so that both sides see every style in the text. A short text holds out more (32 KiB, but never over a
quarter), because a score from a few hundred bytes is noise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evo.base.digest import digest_bytes
from evo.data.files import Text, read_folder, read_one
from evo.data.named import SHIPPED, CorpusError, unknown_corpus
from evo.data.overlap import WINDOW_BYTES, overlap

SMALLEST_BYTES = 4096
HONEST_BYTES = 1_000_000
BLOCK_BYTES = 65_536
HELD_OUT_SHARE = 16
HELD_OUT_BYTES = 32_768
SPLIT_VERSION = 1
OVERLAP_SHARE = 0.05
"""Of held-out text that stands in the training text: beyond it that is said. Shipped texts have up to 0.023."""

_FOLDER = Path(__file__).parent / "corpora"


@dataclass(frozen=True, eq=False)
class Corpus:
    """Text to train on and text to score on, disjoint.

    `train` and `held_out` are read-only uint8 arrays of shape (bytes,), the pieces of each side in the order of the
    text. `digest` names the bytes and the split: equal digests mean equal arrays. `notes` are sentences for the user
    on how the text was read.
    """

    name: str
    train: NDArray[np.uint8]
    held_out: NDArray[np.uint8]
    digest: str
    notes: tuple[str, ...] = field(default=())

    @cached_property
    def overlap(self) -> float:
        """The share of held-out windows of 64 bytes that stand verbatim in the training text; see `overlap`."""
        return overlap(self.train, self.held_out)

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """Sentences for the user: the notes, and how much of the held-out text is trained on if that is much."""
        if self.overlap <= OVERLAP_SHARE:
            return self.notes
        seen = f"{self.overlap:.1%} of its held-out text stands in its training text ({WINDOW_BYTES} bytes at a time)"
        return (*self.notes, f"corpus '{self.name}': {seen}; scores say little about new text")


def load_corpus(name_or_path: str | Path, root: Path | None = None) -> Corpus:
    """Read a shipped corpus by its name, or a file or folder by its path.

    A relative path is taken from `root` (the folder of the YAML document; by default the working directory). Of a
    folder, see `read_folder`, the text files are joined. Raises `CorpusError` if there is nothing to read or it has
    fewer than `SMALLEST_BYTES` bytes.
    """
    name = str(name_or_path)
    if name in SHIPPED:
        return split_corpus(name, (_FOLDER / f"{name}.txt").read_bytes())
    try:
        text = _read((root or Path()) / Path(name).expanduser(), name)
    except OSError as error:
        raise CorpusError(f"cannot read corpus '{name}': {error.strerror or error}", "is the file readable?") from error
    except (RuntimeError, ValueError) as error:  # a home folder that nobody has, a NUL in the name
        raise CorpusError(f"no corpus '{name}': {error}", "give the path of a file or a folder") from error
    return split_corpus(name, text.content, tuple(f"corpus '{name}': {warning}" for warning in text.warnings))


def split_corpus(name: str, text: bytes, notes: tuple[str, ...] = ()) -> Corpus:
    """Split some text. Raises `CorpusError` if it has fewer than `SMALLEST_BYTES` bytes."""
    if len(text) < SMALLEST_BYTES:
        raise CorpusError(
            f"corpus '{name}' has {len(text):,} bytes, fewer than {SMALLEST_BYTES:,}",
            f"a score needs a megabyte of text; shipped corpora: {', '.join(SHIPPED)}",
        )
    if len(text) < HONEST_BYTES:
        small = f"corpus '{name}' has {len(text):,} bytes; scores from under {HONEST_BYTES:,} bytes do not generalise"
        notes = (*notes, small)
    array = np.frombuffer(text, dtype=np.uint8)
    pieces = held_out_pieces(len(text))
    is_held_out = np.zeros(len(text), dtype=bool)
    for start, stop in pieces:
        is_held_out[start:stop] = True
    digest = digest_bytes(b"split %d\n" % SPLIT_VERSION + text)
    return Corpus(name, _freeze(array[~is_held_out]), _freeze(array[is_held_out]), digest, notes)


def held_out_pieces(length: int) -> list[tuple[int, int]]:
    """The [start, stop) byte ranges held out of a text of `length` bytes; each ends a block, blocks tile the text."""
    blocks = max(1, length // BLOCK_BYTES)
    wanted = max(length // HELD_OUT_SHARE, min(HELD_OUT_BYTES, length // 4))
    stops = [length * (block + 1) // blocks for block in range(blocks)]
    size = -(-wanted // blocks)
    return [(stop - size, stop) for stop in stops]


def _read(path: Path, name: str) -> Text:
    if path.is_dir():
        text = read_folder(path)
        if not text.content:
            raise CorpusError(f"folder '{name}' holds no text file", "text files are those without NUL bytes, in UTF-8")
        return text
    if path.is_file():
        return read_one(path)
    raise unknown_corpus(name)


def _freeze(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    array.flags.writeable = False
    return array
