"""Texts that documents name, as `evo validate` looks for them."""

from pathlib import Path


def test_a_corpus_that_is_nowhere_is_a_fault_of_the_file(evo, good: Path, tmp_path: Path):
    """EVO500 at its line, with the name that is meant; a file beside the document is one."""
    document = tmp_path / "d.yaml"
    document.write_text(f"{good.read_text()}train: {{task: {{kind: bytes, corpus: [shakespear, own.txt, python]}}}}\n")
    (tmp_path / "own.txt").write_text("text")
    outcome = evo("validate", document)
    assert outcome.code == 1
    assert outcome.err.count("EVO500") == 1
    assert "did you mean 'shakespeare'?" in outcome.err
    document.write_text(document.read_text().replace("shakespear,", "shakespeare,"))
    assert evo("validate", document).code == 0
