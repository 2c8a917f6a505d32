"""Digests, files and random streams."""

import os
from pathlib import Path

import pytest

from evo.base.digest import digest_bytes, digest_data
from evo.base.files import write_atomic
from evo.base.streams import Stream


def test_a_digest_ignores_the_order_of_keys_and_nothing_else():
    """Equal data has equal digests; 1, 1.0, true and '1' are different data."""
    assert digest_data({"a": 1, "b": [2]}) == digest_data({"b": [2], "a": 1})
    assert len({digest_data(value) for value in (1, 1.0, True, "1", [1], None)}) == 6
    assert digest_bytes(b"") == "cae66941d9efbd404e4d88758ea67670"


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A crash in the middle shows the old content and leaves no litter."""
    path = tmp_path / "deep" / "file.txt"
    write_atomic(path, "old")

    def fail(*_: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        write_atomic(path, b"new")
    assert path.read_text() == "old"
    assert os.listdir(path.parent) == ["file.txt"]


def test_streams_are_named_children_of_a_seed():
    """The path of names decides, however it was walked; types count, and so does the seed."""
    root = Stream(0)
    assert root.child("a", 1).integer() == root.child("a").child(1).integer()
    draws = {s.integer() for s in (root, root.child("a"), root.child("a", 1), root.child("a", "1"), Stream(1))}
    assert len(draws) == 5
    assert root.child("a").numpy().random() == root.child("a").numpy().random()
    assert Stream(0).child("generation", 3).integer() == 3430544943675653119
