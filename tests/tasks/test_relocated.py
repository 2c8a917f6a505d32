"""A document's paths name the same files from another folder."""

from pathlib import Path

import pytest

from evo.tasks.bytes.spec import BytesSpec


@pytest.mark.parametrize(
    ("corpus", "expected"),
    [
        ("text.txt", {"corpus": "../../p/text.txt"}),
        (".", {"corpus": "../../p"}),
        ("../q/kids/python", {"corpus": "./python"}),
        ("/abs/x.txt", {"corpus": "/abs/x.txt"}),
        ("~/x.txt", {"corpus": "~/x.txt"}),
        ("shakespeare", {}),
    ],
)
def test_a_corpus_is_named_from_elsewhere(tmp_path: Path, corpus: str, expected: dict[str, str]) -> None:
    """Relative paths change; others and shipped corpora stay, and no path becomes the name of a shipped corpus."""
    assert BytesSpec(corpus=corpus).relocated(tmp_path / "p", tmp_path / "q" / "kids") == expected


def test_links_on_the_way_are_followed(tmp_path: Path) -> None:
    """`..` counts from where a linked folder really is."""
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real" / "deep")
    found = BytesSpec(corpus="link/../t.txt").relocated(tmp_path, tmp_path / "x")
    assert found == {"corpus": "../real/t.txt"}
