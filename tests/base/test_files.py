"""Files are written whole, where they really are, as they were."""

from pathlib import Path

import pytest

from evo.base.files import require_writable, write_atomic


def test_a_link_stays_and_its_file_keeps_its_mode(tmp_path: Path) -> None:
    """The file that a link leads to is written, with the mode it had; a new one is for all to read."""
    (tmp_path / "real").write_text("old")
    (tmp_path / "real").chmod(0o600)
    (tmp_path / "link").symlink_to("real")
    write_atomic(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"
    assert (tmp_path / "real").stat().st_mode & 0o777 == 0o600
    write_atomic(tmp_path / "fresh", "new")
    assert (tmp_path / "fresh").stat().st_mode & 0o777 == 0o644


def test_a_read_only_file_is_refused(tmp_path: Path) -> None:
    """Also for root, and nothing is left beside it."""
    (tmp_path / "kept").write_text("old")
    (tmp_path / "kept").chmod(0o444)
    with pytest.raises(PermissionError):
        write_atomic(tmp_path / "kept", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (tmp_path / "kept").read_text() == "old"


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    """It is named as it was given, and nothing is left in it or beside it."""
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        write_atomic(tmp_path / "folder", "text")
    assert caught.value.filename == str(tmp_path / "folder")
    assert [path.name for path in tmp_path.rglob("*")] == ["folder"]


def test_a_place_is_tried_without_a_trace(tmp_path: Path) -> None:
    """Folders made for the trial go again, what a kill left half goes too, and a place below a file is refused."""
    require_writable(tmp_path / "a" / "b" / "x")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".x.abc123").write_text("half")
    require_writable(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "x" / "y", tmp_path / ("n" * 300) / "y", tmp_path):
        with pytest.raises(OSError, match=r"Not a directory|Not a|too long|Is a directory"):
            require_writable(place)
