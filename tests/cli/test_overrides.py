"""`--set` and `extends`, as a person uses them."""

import importlib
import inspect
from pathlib import Path

import pytest

from commands import Evo
from evo.cli.commands import ROWS
from evo.dsl.document import load, parse

READERS = ("validate", "render", "diff", "apply", "explain", "train", "mutate", "measures", "evolve")
"""Commands that read a document. (`fmt` writes a file's own text, so it has nothing to set.)"""


@pytest.mark.parametrize("name", READERS)
def test_every_command_that_reads_a_document_takes_overrides(name: str):
    """By one option of one name."""
    function = getattr(importlib.import_module(ROWS[name].module), ROWS[name].attribute)
    assert "overrides" in inspect.signature(function).parameters


def test_overrides_reach_what_is_shown(evo: Evo, good: Path):
    """Later ones win; a wrong one is shown with a caret in its own text."""
    assert "width 128," in evo("explain", good, "--set", "organism.width=32", "--set", "organism.width=128").out
    outcome = evo("validate", good, "--set", "organism.width=65")
    assert (outcome.code, outcome.err.count("EVO300 2 heads do not divide the width 65")) == (1, 1)
    outcome = evo("validate", good, "--set", "train.steps=many")
    assert "--set:1:13: EVO202" in outcome.err
    assert "    1 | train.steps=many\n      |             ^~~~\n" in outcome.err
    assert evo("validate", good, "--set", "train.steps=many", "--json").json["errors"] == 1


def test_a_search_records_the_document_with_its_overrides(evo: Evo, good: Path, monkeypatch: pytest.MonkeyPatch):
    """What a run stores of a seed is whole: no override and no other file is needed to repeat it."""
    own = good.with_name("own.yaml")
    own.write_text("extends: good.yaml\ntrain: {batch: 2}\n")
    started = []
    monkeypatch.setattr("evo.cli.evolve.carry_out", lambda folder, settings, *rest: started.append(settings))
    options = ("--set", "train.steps=7", "--set", "evolve.population=3", "--device", "cpu")
    assert evo("evolve", own, *options, "--generations", 2).code == 0
    seed = parse(started[0].seeds[0]).document
    assert "extends" not in started[0].seeds[0]
    assert (seed.train.steps, seed.train.batch, seed.organism.width) == (7, 2, 64)
    assert (started[0].evolve.population, started[0].evolve.generations) == (3, 2)


def test_a_training_that_goes_on_takes_no_overrides(evo: Evo, tmp_path: Path):
    """A checkpoint has settings of its own: exit code 2."""
    outcome = evo("train", tmp_path / "checkpoint.safetensors", "--set", "train.batch=2")
    assert (outcome.code, "--set" in outcome.err) == (2, True)


def test_diff_apply_and_mutate_know_documents_that_extend(evo: Evo, good: Path, tmp_path: Path):
    """The patch between a document and one that extends it is what that one writes; children are whole."""
    own = good.with_name("own.yaml")
    own.write_text("extends: good.yaml\norganism: {stages: {body: {mix: {heads: 4}}}}\n")
    patch = evo("diff", good, own, "--patch").out
    assert "path: organism.stages.body.mix.heads" in patch
    (tmp_path / "p.yaml").write_text(patch)
    assert parse(evo("apply", tmp_path / "p.yaml", good).out).document == load(own).document
    assert evo("mutate", own, "--count", 2, "--out", tmp_path / "children").code == 0
    assert "extends" not in (tmp_path / "children" / "child_000.yaml").read_text()
    assert evo("fmt", own).out == ""
    assert evo("validate", own).code == 0
