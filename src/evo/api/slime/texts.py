"""Local copies of the texts that the original trains on. Nothing is downloaded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

FOLDER = Path("data")
"""Where a text is looked for if no path is given."""


def load_tinystories(split: str = "train", max_samples: int | None = None, path: str | Path | None = None) -> list[str]:
    """Stories, a string each; see `load_texts`. Looked for as `data/tinystories-SPLIT.*`."""
    return load_texts(path or FOLDER, f"tinystories-{split}", max_samples)


def load_wikitext(split: str = "train", max_samples: int | None = None, path: str | Path | None = None) -> list[str]:
    """Articles, a string each; see `load_texts`. Looked for as `data/wikitext-SPLIT.*`."""
    return load_texts(path or FOLDER, f"wikitext-{split}", max_samples)


def load_texts(path: str | Path, name: str, max_samples: int | None = None) -> list[str]:
    """The texts in a file, or in the file NAME.txt, .jsonl or .parquet of a folder.

    Text is cut at empty lines and at `<|endoftext|>`; JSON lines and Parquet have a column `text`.

    Raises:
        FileNotFoundError: no such file; says which were looked for.
        ImportError: a Parquet file, and pyarrow is not installed.
    """
    place = Path(path)
    files = [place] if place.is_file() else [place / f"{name}{ending}" for ending in _READERS]
    found = next((file for file in files if file.is_file()), None)
    if found is None:
        raise FileNotFoundError(f"none of {', '.join(map(str, files))} is there; nothing is downloaded")
    reader = _READERS.get(found.suffix, _read_text)
    return list(islice(reader(found), max_samples))


def _read_text(file: Path) -> Iterator[str]:
    for part in file.read_text(encoding="utf-8").replace("<|endoftext|>", "\n\n").split("\n\n"):
        if part.strip():
            yield part.strip()


def _read_json_lines(file: Path) -> Iterator[str]:
    with file.open(encoding="utf-8") as lines:
        yield from (str(json.loads(line)["text"]) for line in lines if line.strip())


def _read_parquet(file: Path) -> Iterator[str]:
    try:
        from pyarrow import parquet  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ImportError(f"{file} is a Parquet file: install pyarrow to read it") from None
    yield from map(str, parquet.read_table(file, columns=["text"])["text"].to_pylist())


_READERS = {".txt": _read_text, ".jsonl": _read_json_lines, ".parquet": _read_parquet}
