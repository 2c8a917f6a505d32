"""`evo diff` between documents of several folders."""

from pathlib import Path

from commands import Evo

GOOD = "evo: 1\norganism:\n  width: 64\n  stages:\n    - name: body\n      mix: {kind: attention, heads: 2}\n"


def test_diff_sees_paths_from_the_folder_of_the_first(evo: Evo, tmp_path: Path):
    """The same text named from another folder is no difference, and the patch of another one fits the first."""
    text = GOOD + "train: {task: {kind: bytes, corpus: CORPUS}}\n"
    (tmp_path / "sub").mkdir()
    one, two = tmp_path / "one.yaml", tmp_path / "sub" / "two.yaml"
    one.write_text(text.replace("CORPUS", "a.txt"))
    two.write_text(text.replace("CORPUS", "../a.txt"))
    assert evo("diff", "--exit-code", one, two).code == 0
    two.write_text(text.replace("CORPUS", "b.txt"))
    (edit,) = evo("diff", one, two, "--json").json["patch"]["edits"]
    assert edit["new"] == "sub/b.txt"
