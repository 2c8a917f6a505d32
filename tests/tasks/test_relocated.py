"""A document's paths name the same files from another folder."""

from pathlib import Path

import pytest

from evo.tasks.bytes.spec import BytesSpec
from evo.tasks.combined.spec import CombinedSpec
from evo.tasks.xor.spec import XorSpec


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
    assert BytesSpec(corpus=(corpus,)).relocated(tmp_path / "p", tmp_path / "q" / "kids") == expected


def test_each_of_several_is_named_from_elsewhere(tmp_path: Path) -> None:
    """Of a list, and of the tasks of a combined one, those that are paths change."""
    spec = BytesSpec(corpus=("shakespeare", "a.txt"))
    expected = {"corpus": ["shakespeare", "../p/a.txt"]}
    assert spec.relocated(tmp_path / "p", tmp_path / "q") == expected
    combined = CombinedSpec(combined=(XorSpec(), spec))
    found = combined.relocated(tmp_path / "p", tmp_path / "q")
    assert found == {"combined": [{"kind": "xor"}, {"kind": "bytes", **expected}]}
    assert CombinedSpec(combined=(XorSpec(), BytesSpec())).relocated(tmp_path / "p", tmp_path / "q") == {}


def test_links_on_the_way_are_followed(tmp_path: Path) -> None:
    """`..` counts from where a linked folder really is."""
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real" / "deep")
    found = BytesSpec(corpus=("link/../t.txt",)).relocated(tmp_path, tmp_path / "x")
    assert found == {"corpus": "../real/t.txt"}
