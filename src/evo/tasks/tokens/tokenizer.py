"""A tokenizer.json, and how many bytes of text each of its tokens stands for."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.base.digest import digest_bytes, digest_data

BYTE = re.compile(r"<0x([0-9A-F]{2})>")
SPACE = "\u2581"
"""What SentencePiece writes for a space."""


def byte_alphabet() -> dict[str, int]:
    """The characters that byte-level tokenizers write for bytes (GPT-2's table)."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + place): byte for place, byte in enumerate(hidden)}


@lru_cache(maxsize=4)
def read_tokenizer(path: Path, digest: str, expected: int) -> Tokenizer:
    """The tokenizer of a file, made once for all tasks of a process. digest: of the file: a changed one is new."""
    return Tokenizer(path, digest, expected)


class Tokenizer:
    """A tokenizer.json. pieces: the bytes that each token stands for, none for a special one."""

    def __init__(self, path: Path, digest: str, expected: int) -> None:
        self._inner: Any = _read(path)
        self.digest = digest
        self._known: dict[str, NDArray[np.int64]] = {}
        size = self._inner.get_vocab_size()
        if size != expected:
            message = f"the tokenizer {path} has {size} tokens, not {expected}"
            raise DiagnosticError([Diagnostic("EVO502", message, None, f"write tokens: {size}")])
        self.pieces = tuple(self._pieces(size))
        self.sizes = torch.tensor([len(piece) for piece in self.pieces], dtype=torch.int64)

    def _pieces(self, size: int) -> list[bytes]:
        special = {token for token, added in self._inner.get_added_tokens_decoder().items() if added.special}
        words = [self._inner.id_to_token(token) or "" for token in range(size)]
        alphabet = byte_alphabet()
        plain = "".join(word for token, word in enumerate(words) if token not in special)
        is_byte_level = SPACE not in plain and all(char in alphabet for char in plain)
        found = []
        for token, word in enumerate(words):
            if token in special:
                found.append(b"")
            elif is_byte_level:
                found.append(bytes(alphabet[char] for char in word))
            elif match := BYTE.fullmatch(word):
                found.append(bytes([int(match[1], 16)]))
            else:
                found.append(word.replace(SPACE, " ").encode())
        return found

    def encode(self, text: bytes) -> NDArray[np.int64]:
        """The tokens of a text, special ones left out. Bytes that are no UTF-8 at its ends are dropped."""
        said = text.decode("utf-8", errors="ignore")
        return np.array(self._inner.encode(said, add_special_tokens=False).ids, dtype=np.int64)

    def side(self, digest: str, text: bytes) -> NDArray[np.int64]:
        """The tokens of one side of a corpus, cut once. digest: the corpus's."""
        key = digest_data([digest, len(text), digest_bytes(text[:4096])])
        if key not in self._known:
            self._known[key] = self.encode(text)
        return self._known[key]

    def decode(self, tokens: list[int]) -> bytes:
        """The bytes of some tokens."""
        return b"".join(self.pieces[token] for token in tokens)


def _read(path: Path) -> Any:
    try:
        from tokenizers import Tokenizer as Inner
    except ImportError as error:
        help = "`pip install evo[tokens]`, or choose the task bytes"
        raise DiagnosticError(
            [Diagnostic("EVO502", "the package `tokenizers` is not installed", None, help)]
        ) from error
    try:
        return Inner.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # the package raises bare exceptions for files that are none of its own
        message = f"{path} is no tokenizer: {str(error).splitlines()[0]}"
        raise DiagnosticError([Diagnostic("EVO502", message, None, "a tokenizer.json")]) from error
