"""`evo mutate`, `evo evolve` and `evo resume`, as a person calls them."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import searches
import torch

from commands import Evo
from evo.compiler.check import check
from evo.dsl.canonical import content_hash
from evo.dsl.centroids import UniformCentroids
from evo.dsl.coolings import CosineCooling, GeometricCooling
from evo.dsl.document import load, parse
from evo.dsl.evolve import EvolveSpec, FitnessSpec, VerifySpec
from evo.dsl.operators import BanditOperators
from evo.dsl.selections import TournamentSelection
from evo.dsl.spec import spec_fields
from evo.dsl.tree import replaced
from evo.engines.pool import ProcessSpec
from evo.evolution import run
from evo.evolution.emitters.variation.spec import VariationSpec
from evo.evolution.settings import Settings
from evo.evolution.surrogates.ridge.spec import RidgeSpec
from evo.training.device import gpus_to_share


@pytest.fixture
def cfg(tmp_path: Path) -> Path:
    """A seed in a file, without the default's mutants that are probed first."""
    path = tmp_path / "tiny.yaml"
    path.write_text(searches.seed_document() + "evolve: {verify: {seeds: 1}, repeats: 1, centroids: {kind: uniform}}\n")
    return path


def test_mutate_writes_children_and_patches(tmp_path: Path, cfg: Path, evo: Evo) -> None:
    """Each child is a valid file whose hash is printed, and `evo apply` makes it of the parent and its patch."""
    code, out, _ = evo("mutate", cfg, "--count", 4, "--seed", 1, "--out", tmp_path / "c", "--json")
    rows = json.loads(out)["children"]
    assert code == 0
    assert len({row["hash"] for row in rows}) == 4
    for index, row in enumerate(rows):
        child = tmp_path / "c" / f"child_{index:03d}.yaml"
        assert content_hash(load(child).document) == row["hash"]
        assert check(load(child)) == []
        code, applied, _ = evo("apply", child.with_suffix(".patch.yaml"), cfg)
        assert (code, applied) == (0, child.read_text())
    code, out, _ = evo("mutate", cfg, "--count", 4, "--seed", 1)
    assert [line.split()[1] for line in out.splitlines() if line[:3].isdigit()] == [row["hash"][:12] for row in rows]


def test_evolve_and_resume(tmp_path: Path, cfg: Path, evo: Evo) -> None:
    """A run prints its table and verdicts; resuming a finished one reports the same; a second one needs --force."""
    out_dir = tmp_path / "run"
    options = ("--generations", 1, "--population", 2, "--seed", 0, "--workers", 0, "--device", "cpu", "--out", out_dir)
    code, out, _ = evo("evolve", cfg, *options, "--centroids", "fitted")
    assert code == 0
    assert out.splitlines()[0].split()[0] == "generation"
    assert "best variant: " in out
    assert "verdict: " in out
    assert {path.name for path in out_dir.iterdir()} == {
        ".lock", "run.yaml", "journal.sqlite", "search_report.json", "report.html", "gen_0000", "gen_0001"
    }  # fmt: skip
    report = json.loads((out_dir / "search_report.json").read_text())
    code, out, err = evo("resume", out_dir, "--json")
    resumed = json.loads(out)
    assert (code, resumed["command"]) == (0, "resume")
    assert "the run is finished" in err
    assert {key: resumed[key] for key in report} == report
    code, out, err = evo("evolve", cfg, *options)
    assert (code, out, err[:6]) == (1, "", "EVO601")
    code, _, err = evo("resume", tmp_path)
    assert (code, err[:6]) == (1, "EVO600")


def test_a_search_without_a_seed_that_trains(tmp_path: Path, cfg: Path, evo: Evo) -> None:
    """EVO500 for a text that is not there, exit code 1, and nothing is left behind."""
    cfg.write_text(searches.seed_document(task={"kind": "bytes", "corpus": "no.txt"}))
    code, out, _ = evo("evolve", cfg, "--workers", 0, "--out", tmp_path / "run", "--json")
    assert (code, json.loads(out)["error"][0]["code"]) == (1, "EVO500")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("option", [("--seed", 2**63), ("--generations", 10**6 + 1), ("--population", 10**5 + 1)])
def test_options_have_the_limits_of_their_fields(tmp_path: Path, cfg: Path, evo: Evo, option: tuple[str, int]) -> None:
    """An option that the document could not hold is refused by name before anything runs, exit code 1."""
    code, _, err = evo("evolve", cfg, *option, "--workers", 0, "--device", "cpu", "--out", tmp_path / "run")
    assert (code, err[:6]) == (1, "EVO203")
    assert f"{option[0]} stands for evolve.{option[0].strip('-')}" in err
    assert not (tmp_path / "run").exists()


def test_every_setting_has_an_option_that_wins(cfg: Path, evo: Evo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each field of `evolve` is reached by an option of its name: a run's settings are what the options say."""
    cfg.write_text(searches.seed_document() + "evolve: {cells: 3, fitness: {task: 0.5}, growth: 4.0}\n")
    started: list[Settings] = []
    monkeypatch.setattr("evo.cli.evolve.carry_out", lambda folder, settings, *rest: started.append(settings))
    given = {
        "generations": 3, "population": 2, "cells": 5, "crossover": 0.5, "mutations": 4, "growth": 3.0, "shrink": 0.25,
        "freeze": "[train, organism.width]", "centroids": "uniform", "thresholds": 0.5,
        "measures": "[attention_span, gradient_flow]",
        "tolerance": 0.5, "cooling": "{kind: geometric, start: 0.5}", "fitness": "{efficiency: 0}", "seed": 7,
        "emitters": "{kind: variation, selection: {kind: tournament, size: 3}}", "fidelity": "single",
        "engine": "process", "verify": "{seeds: 2}", "repeats": 4, "operators": "bandit",
        "surrogate": "{kind: ridge, pool: 3}", "keep_exact": 5,
    }  # fmt: skip
    assert {*given, "inherit"} == set(spec_fields(EvolveSpec))
    words = [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", value)]
    assert evo("evolve", cfg, *words, "--inherit", "--device", "cpu").code == 0
    assert evo("evolve", cfg, "--cooling", "cosine", "--device", "cpu").code == 0
    settings, other = started
    assert settings.evolve == EvolveSpec(
        generations=3, population=2, cells=5, crossover=0.5, mutations=4, growth=3.0, shrink=0.25, tolerance=0.5,
        inherit=True, cooling=GeometricCooling(start=0.5), fitness=FitnessSpec(efficiency=0.0), seed=7,
        emitters=(VariationSpec(selection=TournamentSelection(size=3)),), engine=ProcessSpec(),
        freeze=("train", "organism.width"), thresholds=0.5, centroids=UniformCentroids(),
        measures=("attention_span", "gradient_flow"),
        verify=VerifySpec(seeds=2), repeats=4, operators=BanditOperators(), surrogate=RidgeSpec(pool=3), keep_exact=5,
    )  # fmt: skip
    assert other.evolve == EvolveSpec(cells=3, fitness=FitnessSpec(task=0.5), growth=4.0, cooling=CosineCooling())


def test_options_that_are_no_yaml_or_no_kind(cfg: Path, evo: Evo) -> None:
    """Broken YAML is a wrong command line, exit code 2; an unknown kind is the field's own fault, exit code 1."""
    assert evo("evolve", cfg, "--fitness", "{task: 1").code == 2
    code, _, err = evo("evolve", cfg, "--cooling", "freezing", "--device", "cpu")
    assert code == 1
    assert "unknown cooling kind 'freezing'" in err
    assert "--cooling stands for evolve.cooling" in err


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity on this system")
def test_workers_are_as_many_as_cores_that_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's share of the cores counts, not the machine's number."""
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3})
    assert run.default_workers("cpu", []) == 1


def test_workers_share_a_gpu_as_cores_and_its_memory_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some compile and encode while others train; a child that finds no memory beside the others would be lost."""
    small = parse(searches.seed_document()).document
    large = replaced(small, {("train", "batch"): 2**20})
    monkeypatch.setattr(run, "cores", lambda: 12)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (80 * 2**30, 80 * 2**30))
    assert run.default_workers("cuda", [small]) == 6
    assert run.default_workers("cuda", [small, large]) == 1
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (7 * 2**30, 80 * 2**30))
    assert run.default_workers("cuda", [small]) == 3
    assert run.default_workers("mps", [small]) == 1
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert run.default_workers("cuda", [small]) == 6
    assert run.default_workers("cuda:1", [small]) == 3


def test_workers_are_dealt_out_among_the_gpus_that_may_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them, unless one is named: by their numbers, or as the variable says that hides others."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert gpus_to_share("cuda") == ("0", "1")
    assert gpus_to_share("cuda:1") == gpus_to_share("cpu") == ()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-7,-1,5")
    assert gpus_to_share("cuda") == ("3", "GPU-7")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert gpus_to_share("cuda") == ()


def test_a_run_may_be_the_working_folder(tmp_path: Path, cfg: Path, evo: Evo, monkeypatch: pytest.MonkeyPatch) -> None:
    """B07: `--out .` and `evo resume .` end with a report."""
    monkeypatch.chdir(tmp_path)
    options = ("--generations", 1, "--population", 1, "--workers", 0, "--device", "cpu")
    assert evo("evolve", cfg, *options, "--out", ".").code == 0
    assert (tmp_path / "report.html").is_file()
    assert evo("resume", ".").code == 0


def test_an_option_is_held_against_its_document(tmp_path: Path, cfg: Path, evo: Evo) -> None:
    """What the document could not say, such as a path to keep still at which nothing stands, no option says either."""
    code, _, err = evo("evolve", cfg, "--freeze", "[organism.nope]", "--device", "cpu", "--out", tmp_path / "r")
    assert (code, err[:6]) == (1, "EVO348")
    assert "--freeze stands for evolve.freeze" in err
    assert not (tmp_path / "r").exists()


def test_memory_is_limited_in_workers_alone(tmp_path: Path, cfg: Path, evo: Evo) -> None:
    """The limit of a process that holds the search itself would be none."""
    code, _, err = evo("evolve", cfg, "--workers", 0, "--max-memory", 1, "--device", "cpu", "--out", tmp_path / "r")
    assert (code, "--max-memory" in err) == (2, True)
    for option in ("--workers", "--max-memory"):
        code, _, err = evo("evolve", cfg, "--engine", "inline", option, 1, "--device", "cpu", "--out", tmp_path / "r")
        assert (code, option in err) == (2, True)
    assert not (tmp_path / "r").exists()


def test_a_seed_is_named_once(tmp_path: Path, cfg: Path, evo: Evo) -> None:
    """The same file again would be the same candidate, which was announced as two."""
    code, _, err = evo("evolve", cfg, cfg.parent / "." / cfg.name, "--device", "cpu", "--out", tmp_path / "r")
    assert (code, f"{cfg.name} is named twice" in err) == (2, True)
    assert not (tmp_path / "r").exists()


def test_weights_of_zero_are_refused_as_an_option_too(tmp_path: Path, cfg: Path, evo: Evo) -> None:
    """F27: `--fitness` with nothing but zeros is EVO345 before anything is written."""
    words = ("--fitness", "{task: 0, efficiency: 0, gradient: 0}", "--device", "cpu", "--out", tmp_path / "r")
    code, _, err = evo("evolve", cfg, *words)
    assert (code, err[:6]) == (1, "EVO345")
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_say_how_to_go_on(
    tmp_path: Path, cfg: Path, evo: Evo, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, status: int
) -> None:
    """SIGTERM ends a search as Ctrl-C does, with its own status."""

    def stopped(*_: object, **__: object) -> None:
        assert signal.getsignal(number) is not signal.SIG_DFL
        signal.raise_signal(number)

    monkeypatch.setattr(run, "start", stopped)
    outcome = evo("evolve", cfg, "--out", tmp_path / "r")
    assert outcome.code == status
    assert f"`evo resume {tmp_path / 'r'}` continues" in outcome.err
