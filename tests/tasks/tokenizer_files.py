"""A small tokenizer of the `tokenizers` package, learned from a line of text."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import pytest

from evo.data.corpus import load_corpus

TOKENS = 300
TEXT = "To be, or not to be, that is the question: whether 'tis nobler in the mind to suffer the slings. " * 9


@functools.cache
def small_corpus() -> Path:
    """The beginning of a shipped text, in a file."""
    path = Path(tempfile.mkdtemp()) / "text.txt"
    path.write_bytes(load_corpus("shakespeare", Path()).train[:60_000].tobytes())
    return path


@functools.cache
def small_tokenizer() -> Path:
    """A byte-level tokenizer of 300 tokens, one of them special."""
    tokenizers = pytest.importorskip("tokenizers", reason="the package tokenizers is not installed")
    inner = tokenizers.Tokenizer(tokenizers.models.BPE())
    inner.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=TOKENS,
        special_tokens=["<end>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator([TEXT], trainer)
    path = Path(tempfile.mkdtemp()) / "tokenizer.json"
    inner.save(str(path))
    return path
