"""The Python API: `import evo` is cheap, its names are complete, and every example in its docstrings runs."""

import doctest
import importlib
import json
import math
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

import evo
from evo.dsl.canonical import to_yaml
from evo.evolution.settings import Settings
from evo.evolution.trial import Budget
from evo.training.checkpoint import load_checkpoint
from evo.training.run import TrainingRun

ROOT = Path(__file__).parents[1]
FIRST = ROOT / "examples" / "first.yaml"
TINY = "evo: 1\norganism:\n  width: 16\n  context: 16\n  stages:\n    - {name: body, mix: {kind: convolution}}\n"
LOADED_BY = "import json, sys, evo; {use}; print(json.dumps([m for m in ('torch', 'pydantic') if m in sys.modules]))"


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A document that trains at once."""
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY + "train: {steps: 2, batch: 2, seed: 3}\n")
    return path


@pytest.mark.parametrize(
    ("use", "loaded"),
    [("pass", []), ("dir(evo)", []), ("evo.plan('examples/minimal.yaml')", ["pydantic"])],
)
def test_importing_it_loads_nothing_heavy(use: str, loaded: list[str]) -> None:
    """`import evo` loads neither torch nor pydantic, and a plan is made without torch."""
    command = [sys.executable, "-c", LOADED_BY.format(use=use)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(result.stdout) == loaded


def test_its_names_are_there() -> None:
    """What `__all__` lists is listed by `dir`, exists, and has a docstring; nothing else is made up."""
    names = "DiagnosticError Evaluation Search SlimeMoldEncoder apply build diff load mutate open_run plan train"
    assert evo.__all__ == names.split()
    assert set(evo.__all__) <= set(dir(evo))
    for name in evo.__all__:
        assert getattr(evo, name).__doc__, name
        assert f"    {name}" in (evo.__doc__ or "")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        evo.nothing  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("name", ["documents", "models", "search", "slime.encoder", "training"])
def test_its_examples_are_true(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every example of a docstring prints what it says."""
    monkeypatch.chdir(ROOT)
    module = importlib.import_module(f"evo.api.{name}")
    results = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert (results.failed, results.attempted > 0) == (0, True)


def test_the_examples_of_the_readme_are_true(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every example of README's Python section prints what it says, one after the other."""
    monkeypatch.chdir(ROOT)
    text = "".join(re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL))
    test = doctest.DocTestParser().get_doctest(text, {}, "README.md", "README.md", 0)
    assert len(test.examples) > 10
    assert doctest.DocTestRunner().run(test).failed == 0


def test_all_faults_of_a_document_are_raised_at_once(tmp_path: Path) -> None:
    """Faults of schema and of meaning come together, each with its place in the file."""
    path = tmp_path / "wrong.yaml"
    path.write_text(
        TINY.replace("width: 16", "width: 16\n  depth: 3").replace("name: body", "name: body, from: nowhere")
    )
    with pytest.raises(evo.DiagnosticError) as caught:
        evo.load(path)
    assert [(d.code, d.span and d.span.line) for d in caught.value.diagnostics] == [("EVO200", 4), ("EVO310", 7)]
    with pytest.raises(evo.DiagnosticError, match="EVO001"):
        evo.plan(tmp_path / "absent.yaml")


def test_a_warning_about_a_document_is_a_warning(tmp_path: Path) -> None:
    """What `evo validate` only warns of does not pass in silence."""
    path = tmp_path / "shared.yaml"
    path.write_text(TINY.replace("name: body", "name: body, share: true"))
    with pytest.warns(UserWarning, match=r"shared\.yaml:6:.*EVO333"):
        evo.load(path)


def test_a_model_starts_from_the_seed_that_is_asked_for(tiny: Path) -> None:
    """The document's own seed unless another is given: what `evo train` would start from."""
    own, same, other = evo.build(tiny), evo.build(tiny, seed=3), evo.build(evo.load(tiny), seed=4)
    assert torch.equal(own.embedding.weight, same.embedding.weight)
    assert not torch.equal(own.embedding.weight, other.embedding.weight)


def test_a_checkpoint_is_a_document_and_a_trained_model(tiny: Path, tmp_path: Path) -> None:
    """What `evo train` left loads as the document that was trained, and builds with the trained weights."""
    TrainingRun.open(evo.load(tiny), tmp_path, tmp_path / "out", "cpu").carry_out(None, 2)
    checkpoint = tmp_path / "out" / "checkpoint.safetensors"
    assert evo.load(checkpoint) == evo.load(tiny)
    assert evo.plan(checkpoint) == evo.plan(tiny)
    trained = dict(evo.build(checkpoint).named_parameters())
    saved = load_checkpoint(checkpoint).weights
    assert all(torch.equal(trained[path], saved[path]) for path in saved)
    assert not torch.equal(trained["embedding.weight"], evo.build(tiny).embedding.weight)


def test_a_snapshot_is_no_checkpoint(tmp_path: Path) -> None:
    """Another safetensors file is refused with a diagnostic, not read as YAML."""
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    for use in (evo.load, evo.build):
        with pytest.raises(evo.DiagnosticError, match="EVO602"):
            use(tmp_path / "other.safetensors")


def test_a_patch_goes_there_and_back(tiny: Path, tmp_path: Path) -> None:
    """`apply(diff(a, b), a)` is b, from documents and from files; a result that cannot be is refused."""
    patch = evo.diff(FIRST, tiny)
    assert to_yaml(evo.apply(patch, evo.load(FIRST))) == to_yaml(evo.load(tiny))
    assert to_yaml(evo.apply(patch.invert(), tiny)) == to_yaml(evo.load(FIRST))
    file = tmp_path / "change.yaml"
    file.write_text("evo_patch: 1\nedits: [{path: organism.width, old: 16, new: 32}]\n")
    assert evo.apply(file, tiny).organism.width == 32
    with pytest.raises(evo.DiagnosticError, match="EVO400"):
        evo.apply(file, FIRST)
    file.write_text("evo_patch: 1\nedits: [{path: organism.stages.body.mix.kind, old: convolution, new: magic}]\n")
    with pytest.raises(evo.DiagnosticError, match="EVO210"):
        evo.apply(file, tiny)


def test_a_search_runs_in_memory(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It trains and measures its trials in this process, and its best is a sound document that builds."""
    monkeypatch.setattr("evo.api.search.Settings", partial(Settings, budget=Budget(512, 256, 256)))
    with evo.Search(tiny, generations=1, population=2, cells=8) as search:
        with pytest.raises(ValueError, match="nothing is placed yet"):
            search.best()
        search.run()
        assert search.ask() == []
        assert len(search.journal.candidates()) == 3
        assert evo.build(search.best()).plan.context == 16


def test_a_search_believes_only_what_can_be(tiny: Path) -> None:
    """A foreign trial and missing numbers are refused when they are told, and nothing of them is recorded."""
    scores, measures = {"bits_per_byte": 2.0, "gradient_evenness": 1.0}, (0.5,) * 5
    with evo.Search(tiny, generations=1, population=2) as search, evo.Search(FIRST, generations=1) as other:
        (trial,) = search.ask()
        wrong = {
            "gradient evenness is None": evo.Evaluation(scores={"bits_per_byte": 2.0}, measures=measures),
            "bits per byte is nan": evo.Evaluation(scores={**scores, "bits_per_byte": math.nan}, measures=measures),
            "measures are 0.5": evo.Evaluation(scores=scores, measures=(0.5,)),
        }
        for reason, evaluation in wrong.items():
            with pytest.raises(ValueError, match=f"0000/00 cannot be: its {reason}"):
                search.tell({trial: evaluation})
        with pytest.raises(ValueError, match="0000/00 is no trial that this search asked for"):
            search.tell({other.ask()[0]: evo.Evaluation(scores=scores, measures=measures)})
        assert search.ask() == [trial]
        search.tell({trial: evo.Evaluation("diverged")})


def test_settings_of_a_search_are_those_of_the_document(tiny: Path) -> None:
    """A field outside its limits is a diagnostic, one that is not there a TypeError that says which there are."""
    with pytest.raises(evo.DiagnosticError, match="EVO203"):
        evo.Search(tiny, generations=0)
    with pytest.raises(evo.DiagnosticError, match="EVO348 nothing stands at"):
        evo.Search(tiny, freeze=("organism.nope",))
    with pytest.raises(evo.DiagnosticError, match="EVO348 organism and train are both frozen"):
        evo.Search(tiny, freeze=("organism", "train"))
    with pytest.raises(TypeError, match=r"no field \['generation'\]; it has generations, population"):
        evo.Search(tiny, generation=1)
    with pytest.raises(TypeError, match="at least one document"):
        evo.Search()
