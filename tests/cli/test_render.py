"""`evo render` and `evo new`: a document with everything filled in, and a document to begin with."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from commands import Evo
from evo.compiler.check import check
from evo.compiler.filled import filled
from evo.compiler.resolve import resolve
from evo.dsl.document import from_data, load, parse
from evo.dsl.spec import spec_fields
from evo.dsl.yaml import write

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").rglob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_what_is_filled_in_reads_back(path: Path):
    """The same document, without a warning: nothing that is written is a thing that nobody reads."""
    document = load(path).document
    again = parse(write(filled(document)))
    assert again.document == document
    assert check(again) == []


def test_what_stands_in_an_unread_part_goes_with_it():
    """A norm around which every branch goes has a place that nobody reads either: both are left out, the one once."""
    branch = {"block": {"kind": "gated"}, "norm": {"in": {"kind": "layer"}}}
    sublayer = {"parallel": [branch, branch], "norm": {"in": {"kind": "layer"}}}
    body = {"width": 16, "context": 16, "stages": [{"name": "b", "layers": {"sublayers": [sublayer]}}]}
    document = from_data({"evo": 1, "organism": body}).document
    again = from_data(filled(document)).document
    assert check(from_data(filled(document))) == []
    assert resolve(again.organism) == resolve(document.organism)


def test_every_field_is_there(evo: Evo, good: Path):
    """Those of `train` and `evolve` at least, in the order of the language; an override has its place."""
    shown = evo("render", good, "--set", "train.steps=7", "--json").json["document"]
    for section in ("train", "evolve"):
        assert list(shown[section]) == list(spec_fields(type(getattr(load(good).document, section))))
    assert shown["train"]["steps"] == 7
    assert evo("render", good, "--out", good.with_name("full.yaml")).code == 0
    assert load(good.with_name("full.yaml")).document == load(good).document


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_can_be_begun_with(evo: Evo, tmp_path: Path, path: Path):
    """The copy is valid, has the new name, and differs in that alone; the schema stands where its first line says."""
    source = path.relative_to(ROOT / "examples").with_suffix("").as_posix()
    file = tmp_path / "mine.yaml"
    assert evo("new", tmp_path / "mine", "--from", source).code == 0
    assert load(file).document == load(path).document.model_copy(update={"name": "mine"})
    modeline = file.read_text().splitlines()[0]
    assert (tmp_path / modeline.partition("$schema=")[2]).is_file()


def test_new_says_what_there_is_and_replaces_nothing(evo: Evo, tmp_path: Path):
    """A table of all examples, as wide as a terminal; a slip of the pen gets advice; a file that is there stays."""
    listed = evo("new", "--list").out.splitlines()
    assert len(listed) == len(EXAMPLES)
    assert max(map(len, listed)) <= 80
    assert all(re.match(r"\S+ {2,}\S", line) for line in listed)
    assert "did you mean 'gpt2'" in evo("new", tmp_path / "a", "--from", "gptt2").err
    (tmp_path / "b.yaml").write_text("mine")
    assert evo("new", tmp_path / "b").err.startswith("EVO601")
    assert (tmp_path / "b.yaml").read_text() == "mine"
    assert evo("new").code == 2


@pytest.mark.parametrize(
    ("name", "is_called"),
    [("123", "123"), ("null", "null"), ("true", "true"), ("v1.5", "v1.5"), ("a.yml", "a"), ("é", "é")],
)
def test_new_writes_the_name_that_was_asked_for(evo: Evo, tmp_path: Path, name: str, is_called: str):
    """Also one that YAML would read as something else, or that has a dot."""
    assert evo("new", tmp_path / name).code == 0
    assert load(tmp_path / f"{is_called}.yaml").document.name == is_called


@pytest.mark.parametrize("name", ["", ".", "/", "..", "a\nb", "x: {y", "a\0b", "<b>", "con", "caf\udce9", "a" * 230])
def test_new_writes_no_document_that_is_not_valid(evo: Evo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    """A name that no document may have is a diagnostic, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    told = evo("new", name)
    assert told.code == 1
    assert "EVO006" not in told.err
    assert list(tmp_path.iterdir()) == []


def test_new_replaces_no_schema_of_somebody_else(evo: Evo, tmp_path: Path):
    """A file where the schema goes stays, unless evo wrote it; then nothing else is written either."""
    schema = tmp_path / "dsl_schemas" / "organism.schema.json"
    schema.parent.mkdir()
    schema.write_text("mine")
    assert "EVO601" in evo("new", tmp_path / "a").err
    assert (schema.read_text(), (tmp_path / "a.yaml").exists()) == ("mine", False)
    schema.unlink()
    assert [evo("new", tmp_path / name).code for name in ("a", "b")] == [0, 0]


@pytest.mark.slow
def test_a_wheel_has_examples_and_schemas(tmp_path: Path):
    """Without a clone of the repository, `evo new` writes what it writes here."""
    pytest.importorskip("hatchling")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", tmp_path, ROOT], check=True, capture_output=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", tmp_path / "site", wheel], check=True)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); from evo.cli.app import main; main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", code, "new", "mine", "--from", "zoo/llama"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert load(tmp_path / "mine.yaml").document.name == "mine"
