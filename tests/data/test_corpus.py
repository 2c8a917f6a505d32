"""The corpora: what ships, what a person brings, and the wall between training and held-out text."""

import gzip
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evo.data import corpus as corpus_module
from evo.data.corpus import SHIPPED, CorpusError, held_out_pieces, load_corpus, split_corpus

FOLDER = Path(corpus_module.__file__).parent / "corpora"
TEXT = bytes(np.random.Generator(np.random.Philox(1)).integers(32, 127, 20_000, dtype=np.uint8))


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_corpora_are_honest(name: str) -> None:
    """A shipped corpus is at least a megabyte of ASCII, holds out 32 KiB and 5 % or more, and needs no warning."""
    corpus = load_corpus(name)
    total = len(corpus.train) + len(corpus.held_out)
    assert total >= 1_000_000
    assert corpus.train.max() < 128
    assert corpus.held_out.max() < 128
    assert len(corpus.held_out) >= 32_768
    assert len(corpus.held_out) >= 0.05 * total
    assert corpus.warnings == ()
    assert corpus.train.dtype == corpus.held_out.dtype == np.uint8


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_corpora_name_source_and_licence(name: str) -> None:
    """Every shipped corpus has its row, with its true size, in the README beside it."""
    rows = [line for line in (FOLDER / "README.md").read_text().splitlines() if f"`{name}.txt`" in line]
    assert any(str((FOLDER / f"{name}.txt").stat().st_size) in row.replace(",", "") for row in rows)


def test_python_corpus_carries_its_licence() -> None:
    """The PSF licence asks that its text travels with the corpus; it does."""
    assert "PYTHON SOFTWARE FOUNDATION LICENSE VERSION 2" in (FOLDER / "LICENSE-python.txt").read_text()


def test_shipped_corpora_differ_in_style() -> None:
    """The two corpora are not two cuts of one style: their byte distributions are far apart."""
    shares = [np.bincount(load_corpus(name).train, minlength=256) for name in SHIPPED]
    distances = np.abs(shares[0] / shares[0].sum() - shares[1] / shares[1].sum()).sum() / 2
    assert distances > 0.2


@pytest.mark.parametrize("name", SHIPPED)
def test_held_out_lines_were_not_trained_on(name: str) -> None:
    """Fewer than 3 % of the held-out stretches of 64 bytes occur anywhere in the training text."""
    corpus = load_corpus(name)
    train, held_out = corpus.train.tobytes(), corpus.held_out.tobytes()
    stretches = [held_out[at : at + 64] for at in range(0, len(held_out) - 64, 64)]
    assert sum(stretch in train for stretch in stretches) < 0.03 * len(stretches)


@settings(deadline=None)
@given(st.integers(4096, 3_000_000))
def test_split_is_a_partition(length: int) -> None:
    """Held-out pieces are disjoint, ordered, inside the text, and 5 % to 26 % of it; 32 KiB where a quarter allows."""
    pieces = held_out_pieces(length)
    flat = [edge for piece in pieces for edge in piece]
    assert flat == sorted(flat)
    assert flat[0] > 0
    assert flat[-1] == length
    held_out = sum(stop - start for start, stop in pieces)
    assert 0.05 * length <= held_out <= 0.26 * length
    assert held_out >= min(32_768, length // 4)


def test_every_byte_lands_on_one_side() -> None:
    """Training and held-out text together are the text, byte for byte, in order."""
    corpus = split_corpus("mine", TEXT)
    sides, at = {"train": 0, "held_out": 0}, 0
    for start, stop in held_out_pieces(len(TEXT)):
        for side, end in (("train", start), ("held_out", stop)):
            piece = getattr(corpus, side)[sides[side] : sides[side] + end - at]
            assert piece.tobytes() == TEXT[at:end]
            sides[side], at = sides[side] + end - at, end
    assert sides == {"train": len(corpus.train), "held_out": len(corpus.held_out)}


def test_pieces_are_spread_over_a_long_text() -> None:
    """A megabyte is held out in about fifteen places, none further than 70 KB from the next."""
    pieces = held_out_pieces(1_000_000)
    assert len(pieces) == 15
    assert max(np.diff([start for start, _ in pieces])) < 70_000


def test_digest_names_the_content(tmp_path: Path) -> None:
    """Equal bytes have equal digests whatever the path; one changed byte changes the digest."""
    (tmp_path / "a.txt").write_bytes(TEXT)
    (tmp_path / "b.txt").write_bytes(TEXT)
    (tmp_path / "c.txt").write_bytes(TEXT[:-1] + b"~~")
    digests = [load_corpus(tmp_path / name).digest for name in ("a.txt", "b.txt", "c.txt")]
    assert digests[0] == digests[1] != digests[2]


def test_arrays_are_read_only() -> None:
    """Nobody can write into a corpus by accident."""
    corpus = split_corpus("mine", TEXT)
    with pytest.raises(ValueError, match="read-only"):
        corpus.train[0] = 1


def test_relative_paths_start_at_the_document(tmp_path: Path) -> None:
    """`corpus: texts/mine.txt` is found beside the YAML, wherever the command runs."""
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "mine.txt").write_bytes(TEXT)
    corpus = load_corpus("texts/mine.txt", root=tmp_path)
    assert corpus.name == "texts/mine.txt"
    assert len(corpus.train) + len(corpus.held_out) == len(TEXT)


def test_a_folder_is_its_text_files_in_order(tmp_path: Path) -> None:
    """A folder's visible text files are joined by sorted path; binary ones are left out with a warning."""
    for name, content in {
        "b.txt": b"b" * 3000,
        "a/z.md": b"a" * 3000,
        "pic.png": b"\x89\0\xff",
        ".git/x": b"h" * 3000,
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    corpus = load_corpus(tmp_path)
    expected = split_corpus("", b"a" * 3000 + b"\n\n" + b"b" * 3000 + b"\n")
    assert corpus.digest == expected.digest
    assert "1 file is not UTF-8" in corpus.warnings[0]


def test_small_texts_carry_a_warning() -> None:
    """Text under a megabyte is accepted, and the user is told what its scores are worth."""
    assert "20,000 bytes" in split_corpus("mine", TEXT).warnings[0]


@pytest.mark.parametrize(
    ("name", "message", "help"),
    [
        ("shakespear", "no corpus 'shakespear'", "did you mean 'shakespeare'?"),
        ("nowhere/at/all.txt", "no corpus", "path of a file or a folder"),
        ("tiny.txt", "has 5 bytes", "megabyte"),
        ("empty", "holds no text file", "UTF-8"),
    ],
)
def test_bad_corpora_are_explained(tmp_path: Path, name: str, message: str, help: str) -> None:
    """A missing, tiny or empty corpus is a CorpusError that says what was found and what to do."""
    (tmp_path / "tiny.txt").write_text("hello")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError) as caught:
        load_corpus(name, root=tmp_path)
    assert message in caught.value.message
    assert help in caught.value.help


def test_corpus_errors_cross_processes() -> None:
    """A CorpusError keeps its help when a worker process hands it over."""
    error = pickle.loads(pickle.dumps(CorpusError("what", "do this")))
    assert (error.message, error.help) == ("what", "do this")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "latin-1"])
def test_one_file_is_checked_as_a_folder_is(tmp_path: Path, encoding: str) -> None:
    """Text in another encoding is learned as bytes and that is said; UTF-8 is not spoken of."""
    text = "wörter zum lernen. " * 600
    (tmp_path / "other.txt").write_bytes(text.encode(encoding))
    (tmp_path / "utf8.txt").write_bytes(text.encode())
    assert any("not UTF-8 text" in warning for warning in load_corpus("other.txt", tmp_path).warnings)
    assert not any("UTF-8" in warning for warning in load_corpus("utf8.txt", tmp_path).warnings)


def test_compressed_text_is_named(tmp_path: Path) -> None:
    """A gzip file is said to be one."""
    (tmp_path / "text.gz").write_bytes(gzip.compress(TEXT))
    assert any("gzip file" in warning for warning in load_corpus("text.gz", tmp_path).warnings)


def test_what_a_run_wrote_is_no_text(tmp_path: Path) -> None:
    """A corpus is the same before and after a run lies in its folder or below it; a person's own files there stay."""
    (tmp_path / "a.txt").write_bytes(TEXT)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "b.txt").write_bytes(TEXT)
    before = load_corpus(tmp_path)
    for run in (tmp_path, tmp_path / "data", tmp_path / "results" / "x"):
        (run / "gen_0001").mkdir(parents=True)
        for name in ("run.yaml", "report.html", "search_report.json", "gen_0001/variant_00.yaml"):
            (run / name).write_text("evo_run: 3\n")
    after = load_corpus(tmp_path)
    assert after.digest == before.digest
    assert "what evo wrote into its runs was left out (., data, results/x)" in " ".join(after.warnings)
    (tmp_path / "gen_0001" / "mine.txt").write_bytes(TEXT)
    assert load_corpus(tmp_path).digest != before.digest


def test_what_training_measured_is_no_text(tmp_path: Path) -> None:
    """A corpus is the same while and after `evo train` writes into it; a file of that name by somebody else is text."""
    (tmp_path / "a.txt").write_bytes(TEXT)
    (tmp_path / "out").mkdir()
    before = load_corpus(tmp_path)
    for measured in ("", '{"step": 1, "loss": 5.5}\n'):
        (tmp_path / "out" / "metrics.jsonl").write_text(measured)
        assert load_corpus(tmp_path).digest == before.digest
    (tmp_path / "out" / "metrics.jsonl").write_text('{"line": "a play"}\n')
    assert load_corpus(tmp_path).digest != before.digest


def test_links_that_are_not_followed_are_said(tmp_path: Path) -> None:
    """A link to nowhere and one to a folder are counted."""
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_bytes(TEXT)
    (tmp_path / "more").mkdir()
    (tmp_path / "text" / "folder").symlink_to(tmp_path / "more")
    (tmp_path / "text" / "nowhere").symlink_to(tmp_path / "no.txt")
    assert "2 links lead to folders or nowhere" in " ".join(load_corpus(tmp_path / "text").warnings)


@pytest.mark.parametrize("name", ["~nosuchuser/x.txt", "a\0b.txt", "x" * 5000])
def test_paths_that_cannot_be_are_explained(tmp_path: Path, name: str) -> None:
    """A home folder that nobody has, a NUL and an endless name are no corpus, and no traceback."""
    with pytest.raises(CorpusError):
        load_corpus(name, root=tmp_path)
