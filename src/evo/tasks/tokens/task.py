"""The next token of a text: windows of tokens, scored in bits per byte of the text that they stand for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.base.digest import digest_bytes, digest_data
from evo.data.corpus import Corpus
from evo.tasks.bytes.plausible import is_plausible
from evo.tasks.bytes.task import BytesTask, read_corpus
from evo.tasks.tokens.spec import TokensSpec
from evo.tasks.tokens.tokenizer import Tokenizer, read_tokenizer

SLACK = 64
"""How many bytes of a text its tokens may miss or add: characters that a split cuts, a space put before the first."""


def open_tokens(spec: TokensSpec, root: Path) -> TokensTask:
    """The task of a spec; the texts are read when they are first needed, the tokenizer at once."""
    path = root / spec.tokenizer
    digest = digest_bytes(path.read_bytes()) if path.is_file() else ""
    tokenizer = read_tokenizer(path, digest, spec.tokens)
    return TokensTask(tokenizer, *(partial(read_corpus, corpus, root) for corpus in spec.corpus))


class TokensTask(BytesTask):
    """See `Task`. The corpora hold tokens where those of `BytesTask` hold bytes."""

    def __init__(self, tokenizer: Tokenizer, *reads: Callable[[], Corpus]) -> None:
        super().__init__(*reads)
        self.tokenizer = tokenizer
        self.vocab, self.token_bytes = len(tokenizer.pieces), tokenizer.sizes
        self.start = int(tokenizer.encode(b"\n")[-1]) if len(tokenizer.encode(b"\n")) else 0

    @cached_property
    def texts(self) -> tuple[Corpus, ...]:
        """The texts as bytes."""
        return tuple(read() for read in self._reads)

    @cached_property
    def corpora(self) -> tuple[Corpus, ...]:
        """The texts as tokens.

        Raises:
            DiagnosticError: tokens do not stand for the bytes of a text, so that bits per byte would be wrong (EVO502).
        """
        return tuple(self._cut(text) for text in self.texts)

    def _cut(self, text: Corpus) -> Corpus:
        sides = {"train": self._tokens(text, text.train), "held_out": self._tokens(text, text.held_out)}
        return replace(text, **sides, digest=digest_data([text.digest, self.tokenizer.digest]), notes=text.warnings)

    def _tokens(self, text: Corpus, side: NDArray[np.uint8]) -> NDArray[np.int64]:
        tokens = self.tokenizer.side(text.digest, side.tobytes())
        count = int(self.token_bytes.numpy()[tokens].sum())
        if abs(count - len(side)) > SLACK:
            message = f"the tokenizer's tokens stand for {count:,} of the {len(side):,} bytes of corpus '{text.name}'"
            help = "take one that keeps every byte of a text (no lower case, no unknown token)"
            raise DiagnosticError([Diagnostic("EVO502", message, None, help)])
        return tokens

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know of the texts."""
        return tuple(warning for text in self.texts for warning in text.warnings)

    def describe(self) -> str:
        """The names and sizes of the corpora."""
        return "; ".join(
            f"corpus {corpus.name} ({len(corpus.train):,} tokens to train on, {len(corpus.held_out):,} held out)"
            for corpus in self.corpora
        )

    def sides(self) -> tuple[TokensTask, TokensTask]:
        """One with the first half of each held-out text, one with the second."""
        one, other = ([partial(_half, text, side) for text in self.texts] for side in (0, 1))
        return TokensTask(self.tokenizer, *one), TokensTask(self.tokenizer, *other)

    def is_plausible(self, value: float) -> bool:
        """Whether a model may need so few bits per byte of these texts."""
        held_out = b"".join(text.held_out.tobytes() for text in self.texts)
        return is_plausible(value, b"".join(text.train.tobytes() for text in self.texts), held_out)

    def encode(self, text: bytes) -> list[int]:
        """Its tokens."""
        return self.tokenizer.encode(text).tolist()

    def decode(self, tokens: Iterable[int]) -> bytes:
        """Their bytes."""
        return self.tokenizer.decode(list(tokens))


def _half(text: Corpus, side: int) -> Corpus:
    middle = len(text.held_out) // 2
    return replace(text, held_out=text.held_out[middle:] if side else text.held_out[:middle])
