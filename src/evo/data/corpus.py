"""A corpus: bytes of text with a fixed held-out part that no candidate trains on.

The split is a function of the length alone. The text is cut into blocks of about 64 KiB and the last sixteenth of every
block is held out, so that both sides see every style in the text. A short text holds out more (32 KiB, but never over a
quarter), because a score from a few hundred bytes is noise.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evo.base.digest import digest_bytes

SHIPPED = ("python", "shakespeare")
SMALLEST_BYTES = 4096
HONEST_BYTES = 1_000_000
BLOCK_BYTES = 65_536
HELD_OUT_SHARE = 16
HELD_OUT_BYTES = 32_768
SPLIT_VERSION = 1

_FOLDER = Path(__file__).parent / "corpora"


class CorpusError(Exception):
    """A corpus cannot be had; `message` says what was found, `help` what to do about it, a line each."""

    def __init__(self, message: str, help: str) -> None:
        super().__init__(message)
        self.message = message
        self.help = help

    def __reduce__(self) -> tuple[type[CorpusError], tuple[str, str]]:
        return type(self), (self.message, self.help)


@dataclass(frozen=True, eq=False)
class Corpus:
    """Text to train on and text to score on, disjoint.

    `train` and `held_out` are read-only uint8 arrays of shape (bytes,), the pieces of each side in the order of the
    text. `digest` names the bytes and the split: equal digests mean equal arrays. `warnings` are sentences for the
    user.
    """

    name: str
    train: NDArray[np.uint8]
    held_out: NDArray[np.uint8]
    digest: str
    warnings: tuple[str, ...] = field(default=())


def load_corpus(name_or_path: str | Path, root: Path | None = None) -> Corpus:
    """Read a shipped corpus by its name, or a file or folder by its path.

    A relative path is taken from `root` (the folder of the YAML document; by default the working directory). The text
    files of a folder are joined in the order of their paths, a blank line between them; hidden and binary files are
    left out, with a warning for the latter. Raises `CorpusError` if there is nothing to read or it has fewer than
    `SMALLEST_BYTES` bytes.
    """
    name = str(name_or_path)
    if name in SHIPPED:
        return split_corpus(name, (_FOLDER / f"{name}.txt").read_bytes())
    path = (root or Path()) / Path(name).expanduser()
    try:
        text, warnings = _read(path, name)
    except OSError as error:
        raise CorpusError(f"cannot read corpus '{name}': {error.strerror or error}", "is the file readable?") from error
    return split_corpus(name, text, warnings)


def split_corpus(name: str, text: bytes, warnings: tuple[str, ...] = ()) -> Corpus:
    """Split some text. Raises `CorpusError` if it has fewer than `SMALLEST_BYTES` bytes."""
    if len(text) < SMALLEST_BYTES:
        raise CorpusError(
            f"corpus '{name}' has {len(text):,} bytes, fewer than {SMALLEST_BYTES:,}",
            f"a score needs a megabyte of text; shipped corpora: {', '.join(SHIPPED)}",
        )
    if len(text) < HONEST_BYTES:
        small = f"corpus '{name}' has {len(text):,} bytes; scores from under {HONEST_BYTES:,} bytes do not generalise"
        warnings = (*warnings, small)
    array = np.frombuffer(text, dtype=np.uint8)
    pieces = held_out_pieces(len(text))
    is_held_out = np.zeros(len(text), dtype=bool)
    for start, stop in pieces:
        is_held_out[start:stop] = True
    digest = digest_bytes(b"split %d\n" % SPLIT_VERSION + text)
    return Corpus(name, _freeze(array[~is_held_out]), _freeze(array[is_held_out]), digest, warnings)


def held_out_pieces(length: int) -> list[tuple[int, int]]:
    """The [start, stop) byte ranges held out of a text of `length` bytes; each ends a block, blocks tile the text."""
    blocks = max(1, length // BLOCK_BYTES)
    wanted = max(length // HELD_OUT_SHARE, min(HELD_OUT_BYTES, length // 4))
    stops = [length * (block + 1) // blocks for block in range(blocks)]
    size = -(-wanted // blocks)
    return [(stop - size, stop) for stop in stops]


def _read(path: Path, name: str) -> tuple[bytes, tuple[str, ...]]:
    if path.is_dir():
        return _read_folder(path, name)
    if path.is_file():
        return path.read_bytes(), ()
    close = difflib.get_close_matches(name, SHIPPED, n=1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    raise CorpusError(
        f"no corpus '{name}'", f"{hint}shipped corpora: {', '.join(SHIPPED)}; or give the path of a file or a folder"
    )


def _read_folder(folder: Path, name: str) -> tuple[bytes, tuple[str, ...]]:
    texts, left_out = [], 0
    for path in _visible_files(folder):
        content = path.read_bytes()
        if is_text(content):
            texts.append(content.rstrip(b"\n") + b"\n")
        else:
            left_out += 1
    if not texts:
        raise CorpusError(f"folder '{name}' holds no text file", "text files are those without NUL bytes, in UTF-8")
    warnings = (f"corpus '{name}': {left_out} files are not UTF-8 text and were left out",) if left_out else ()
    return b"\n".join(texts), warnings


def _visible_files(folder: Path) -> Iterator[Path]:
    inside = ((path.relative_to(folder), path) for path in folder.rglob("*"))
    seen = [(parts.as_posix(), path) for parts, path in inside if not any(part.startswith(".") for part in parts.parts)]
    return (path for _, path in sorted(seen) if path.is_file())


def is_text(content: bytes) -> bool:
    """Whether bytes read as UTF-8 text without NUL bytes."""
    if b"\0" in content:
        return False
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _freeze(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    array.flags.writeable = False
    return array
