"""The bytes of a person's own text: one file, or the text files of a folder joined; and what there is to say of them.

What evo wrote into a run directory, or beside a checkpoint, is never text, so a corpus is the same before, while and
after a run lies in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from evo.base.digest import digest_bytes
from evo.base.rundirs import are_metrics, run_of

PACKED = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstandard",
    b"7z\xbc\xaf\x27\x1c": "7z",
}
"""How compressed files begin."""
MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
"""How text begins that names its encoding."""


@dataclass(frozen=True)
class Text:
    """Some bytes and what to say of them, sentences without the corpus's name."""

    content: bytes
    warnings: tuple[str, ...] = ()


def read_one(path: Path) -> Text:
    """The bytes of one file, whatever they are. Raises OSError."""
    content = path.read_bytes()
    fault = not_text(content)
    if fault is None:
        return Text(content)
    bytes_are = "its bytes are learned as they are, and bits per byte do not compare with those of UTF-8 text"
    return Text(content, (f"{fault}; {bytes_are}",))


def read_folder(folder: Path) -> Text:
    """The visible text files of a folder in the order of their paths, a blank line between them; empty if none is text.

    Left out, and said: files that are no UTF-8 text, links that lead to folders or nowhere, and what evo wrote into
    the run directories that lie in the folder. Raises OSError.
    """
    texts: list[bytes] = []
    kinds: list[str] = []
    runs: set[str] = set()
    links = 0
    for path in _visible(folder):
        if path.is_symlink() and not path.is_file():
            links += 1
            continue
        if not path.is_file():
            continue
        run = path.parent if are_metrics(path) else run_of(path)
        if run is not None:
            runs.add(run.relative_to(folder).as_posix())
            continue
        content = path.read_bytes()
        fault = not_text(content)
        if fault is None:
            texts.append(content.rstrip(b"\n") + b"\n")
        else:
            kinds.append(fault)
    return Text(b"\n".join(texts), tuple(_left_out(kinds, links, runs)) + _copies(texts))


def not_text(content: bytes) -> str | None:
    """Why bytes are no UTF-8 text without NUL bytes, in a few words; None where they are."""
    try:
        content.decode()
        fault = "it holds NUL bytes" if b"\0" in content else None
    except UnicodeDecodeError as error:
        fault = f"byte {error.start:,} is not"
    if fault is None:
        return None
    for start, name in PACKED.items():
        if content.startswith(start):
            return f"a {name} file, not text: unpack it"
    for start, name in MARKS.items():
        if content.startswith(start):
            return f"not UTF-8 text (it begins as {name} does)"
    return f"not UTF-8 text ({fault})"


def _left_out(kinds: list[str], links: int, runs: set[str]) -> Iterator[str]:
    if kinds:
        packed = sum("unpack" in kind for kind in kinds)
        note = f", {packed} of them compressed" if packed else ""
        said = (
            "1 file is not UTF-8 text and was" if len(kinds) == 1 else f"{len(kinds)} files are not UTF-8 text and were"
        )
        yield f"{said} left out{note}"
    if links:
        said = (
            "1 link leads to a folder or nowhere and was"
            if links == 1
            else f"{links} links lead to folders or nowhere and were"
        )
        yield f"{said} left out"
    if runs:
        yield f"what evo wrote into its runs was left out ({', '.join(sorted(runs))})"


def _copies(texts: list[bytes]) -> tuple[str, ...]:
    copies = len(texts) - len({digest_bytes(text) for text in texts})
    said = "1 file is a copy of another" if copies == 1 else f"{copies} files are copies of others"
    return (said,) if copies else ()


def _visible(folder: Path) -> Iterator[Path]:
    inside = ((path.relative_to(folder), path) for path in folder.rglob("*"))
    seen = [(parts.as_posix(), path) for parts, path in inside if not any(part.startswith(".") for part in parts.parts)]
    return (path for _, path in sorted(seen))
