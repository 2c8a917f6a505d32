"""The task tokens: tokens stand for exactly the bytes of a text, so that its scores compare with those of bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizer_files import TOKENS, small_corpus, small_tokenizer

from evo.base.diagnostics import DiagnosticError
from evo.tasks.tokens.spec import TokensSpec
from evo.tasks.tokens.task import TokensTask, open_tokens


@pytest.fixture
def task() -> TokensTask:
    """On a part of the shipped corpus."""
    return open_tokens(
        TokensSpec(tokenizer=str(small_tokenizer()), tokens=TOKENS, corpus=(str(small_corpus()),)), Path()
    )


def test_tokens_stand_for_the_bytes_of_the_text(task: TokensTask) -> None:
    """All of them, and fewer tokens than bytes; text of several scripts comes back; special tokens stand for none."""
    (text,), (corpus,) = task.texts, task.corpora
    assert task.decode(corpus.held_out.tolist()) == text.held_out.tobytes()
    assert len(corpus.held_out) < 0.9 * len(text.held_out)
    said = "naïve 漢字 🙂\n".encode()
    assert task.decode(task.encode(said)) == said
    assert int(task.token_bytes[0]) == 0


def test_a_uniform_model_has_the_bits_of_its_tokens(task: TokensTask) -> None:
    """log2 of the vocabulary for each token, over the bytes that tokens stand for."""
    targets = torch.cat([batch.targets_BT.flatten() for batch in task.held_out(64, 2000, 8)])
    expected = len(targets) * torch.tensor(TOKENS).double().log2() / task.token_bytes[targets].sum()
    scores = task.score(lambda tokens: torch.zeros(*tokens.shape, TOKENS), 64, 2000)
    assert scores["bits_per_byte"] == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize(("tokens", "text"), [(TOKENS + 1, None), (TOKENS, "{}"), (TOKENS, "no JSON")])
def test_what_cannot_be_used_is_said(tokens: int, text: str | None, tmp_path: Path) -> None:
    """Another number of tokens, or a file that is no tokenizer: EVO502."""
    path = small_tokenizer()
    if text is not None:
        path = tmp_path / "tokenizer.json"
        path.write_text(text)
    with pytest.raises(DiagnosticError, match="EVO502"):
        open_tokens(TokensSpec(tokenizer=str(path), tokens=tokens), Path())
