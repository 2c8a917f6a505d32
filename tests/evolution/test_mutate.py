"""Mutation: every child is valid, canonical, new, replayable, buildable, and really another candidate."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from parents import PARENTS, document, hybrid, stage

from evo.base.diagnostics import DiagnosticError
from evo.base.streams import Stream
from evo.compiler.build import build
from evo.compiler.check import check
from evo.compiler.resolve import resolve
from evo.data.corpus import split_corpus
from evo.dsl.canonical import content_hash, to_data, to_yaml
from evo.dsl.document import Document, from_data, load, parse
from evo.dsl.patch import apply, diff
from evo.evolution.frozen import Frozen
from evo.evolution.mutate import Child, NoChildError, differs, mutants, mutate, trains_otherwise
from evo.tasks.bytes.task import BytesTask
from evo.training.loop import DivergedError, Trainer

ROOT = Path(__file__).parents[2]
QUICK, MANY, ALL = 60, 150, 500
TEXT = split_corpus("bytes", np.random.Generator(np.random.Philox(0)).integers(0, 256, 8_000, dtype=np.uint8).tobytes())


def first() -> Document:
    """examples/first.yaml at a width that trains in no time."""
    data = to_data(load(ROOT / "examples" / "first.yaml").document)
    data["organism"].update({"width": 32, "context": 16})
    data["train"].update({"steps": 3, "batch": 2})
    return from_data(data).document


def require_sound(parent: Document, children: list[Child]) -> None:
    """Fail unless the children keep every promise that can be seen without training them."""
    hashes = {content_hash(parent), *(child.hash for child in children)}
    assert len(hashes) == len(children) + 1
    for child in children:
        text = to_yaml(child.document)
        loaded = parse(text)
        assert check(loaded) == []
        assert to_yaml(loaded.document) == text
        assert content_hash(loaded.document) == child.hash
        assert to_yaml(apply(child.patch, parent).document) == text
        assert to_yaml(apply(child.patch.invert(), child.document).document) == to_yaml(parent)
        assert child.patch
        assert child.operators
        assert differs(parent, resolve(parent.organism), child.document, resolve(child.document.organism))


@pytest.mark.parametrize("name", PARENTS)
def test_children_are_sound(name: str) -> None:
    """Children are valid without a warning, canonical, distinct, and replay from their patch, forwards and back."""
    parent = PARENTS[name]()
    require_sound(parent, list(mutants(parent, QUICK if name == "plain" else 20, 1)))


@pytest.mark.slow
def test_five_hundred_children_of_the_first_example() -> None:
    """`evo mutate examples/first.yaml --count 500 --seed 1` gives 500 sound children, of at least eight operators."""
    parent = load(ROOT / "examples" / "first.yaml").document
    children = list(mutants(parent, ALL, 1))
    require_sound(parent, children)
    assert len({name for child in children for name in child.operators}) >= 8


def fingerprint(made: Document) -> tuple[bytes, bytes]:
    """What a fresh model says of some text, and what training makes of its weights."""
    model = build(resolve(made.organism), 0)
    with torch.no_grad():
        logits = model(torch.arange(60, 76)[None]).numpy().tobytes()
    try:
        Trainer(model, BytesTask(lambda: TEXT), made.train).run()
    except DivergedError as error:
        return logits, str(error).encode()
    return logits, b"".join(parameter.detach().numpy().tobytes() for parameter in model.parameters())


def copies(parent: Document, count: int, seed: int) -> list[str]:
    """The patches of those children that compute and train exactly as their parent does."""
    own = fingerprint(parent)
    return [str(child.patch) for child in mutants(parent, count, seed) if fingerprint(child.document) == own]


def test_children_compute_or_train_otherwise() -> None:
    """A few children of the first example: none says and learns bit for bit what its parent does."""
    assert copies(first(), 12, 2) == []


@pytest.mark.slow
def test_many_children_compute_or_train_otherwise() -> None:
    """Children of the first example, scaled down: all build, none says and learns what its parent does."""
    assert copies(first(), MANY, 1) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", PARENTS)
def test_chains_stay_valid(name: str) -> None:
    """Twenty-five mutations in a row, each on the child before: every link is valid and builds in the end."""
    for seed in range(3):
        made = PARENTS[name]()
        for link in range(25):
            child = mutate(made, Stream(seed).child(link), accept=lambda child, plan: plan.parameters < 300_000)
            assert check(parse(to_yaml(child.document))) == []
            made = child.document
        fingerprint(made)


def test_draws_do_not_depend_on_hashing() -> None:
    """The same seed gives the same children in a process with another hash seed."""
    script = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); from parents import hybrid\n"
        "from evo.evolution.mutate import mutants\n"
        "print(json.dumps([[c.hash, str(c.patch), c.origins] for c in mutants(hybrid(), 12, 5, 3)]))"
    )
    command = [sys.executable, "-c", script, str(Path(__file__).parent)]
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    found = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    here = [[c.hash, str(c.patch), [list(row) for row in c.origins]] for c in mutants(hybrid(), 12, 5, 3)]
    assert json.loads(found.stdout) == here


def test_another_seed_gives_other_children() -> None:
    """Seeds name different sets of children; the same one the same."""
    one, again, two = ([child.hash for child in mutants(document(), 8, seed)] for seed in (0, 0, 1))
    assert one == again
    assert set(one) != set(two)


def test_acceptance_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """`accept` refuses children; when it refuses all, NoChildError says so."""
    limit = resolve(document().organism).parameters
    children = [mutate(document(), Stream(i), accept=lambda child, plan: plan.parameters < limit) for i in range(3)]
    assert all(resolve(child.document.organism).parameters < limit for child in children)
    monkeypatch.setattr("evo.evolution.mutate.TRIES", 20)
    with pytest.raises(NoChildError, match="no acceptable child in 20 draws"):
        mutate(document(), Stream(0), accept=lambda child, plan: False)


def test_what_is_frozen_is_not_tried() -> None:
    """Of a document of which little may change, a child of many mutations is found."""
    kept = Frozen(("organism",), [document()])
    for seed in range(3):
        child = mutate(document(), Stream(seed), mutations=5, frozen=kept)
        assert len(child.operators) == 5
        assert kept.allows(child.document)


def test_too_many_mutations_at_once_become_fewer() -> None:
    """`mutations` is the most that a child receives: where so many never fit together, fewer are made."""
    parent = load(ROOT / "examples" / "local_global.yaml").document
    children = list(mutants(parent, 1, 1, 30))
    assert all(1 <= len(child.operators) <= 30 for child in children)


def test_no_child_is_a_diagnostic(monkeypatch: pytest.MonkeyPatch) -> None:
    """A document without new neighbours is told by its code."""

    def none(*_: object, **__: object) -> None:
        raise NoChildError("no acceptable child")

    monkeypatch.setattr("evo.evolution.mutate.mutate", none)
    with pytest.raises(DiagnosticError, match="EVO622"):
        list(mutants(document(), 1, 0, 5))


def test_mutations_add_up() -> None:
    """A child of n mutations names n operators, and its patch leads from its parent in one go."""
    child = mutate(document(), Stream(3), mutations=4)
    assert len(child.operators) == 4
    assert diff(document(), child.document) == child.patch


def test_schedules_that_scale_nothing_otherwise_are_the_same() -> None:
    """A warm-up moved by less than a step trains the same and is no child; moved by one it is."""
    same, other = (document(train={"steps": 60, "schedule": {"kind": "wsd", "warmup": w}}) for w in (0.112, 0.14))
    base = document(train={"steps": 60, "schedule": {"kind": "wsd", "warmup": 0.111}})
    plan = resolve(base.organism)
    assert base.train != same.train
    assert not trains_otherwise(base.train, same.train, 60)
    assert not differs(base, plan, same, plan)
    assert trains_otherwise(base.train, other.train, 60)
    assert differs(base, plan, document(train={"steps": 60, "clip": None}), plan)


def test_small_scales_still_move_integers() -> None:
    """At the coldest, widths and counts still move by one step rather than not at all."""
    from evo.evolution.operators.genes import Number
    from evo.evolution.sites import sites

    parent, rng = document(stage("body", repeat=4)), Stream(0).numpy()
    (width,) = (site for site in sites(parent) if site.path == ("organism", "width"))
    moved = [Number().propose(parent, width, 0.01, rng) for _ in range(10)]
    assert {apply(p.patch, parent).document.organism.width for p in moved if p is not None} == {48}
    decay = document(train={"optimizer": {"kind": "adamw", "weight_decay": 0.0}})
    (site,) = (site for site in sites(decay) if site.path[-1] == "weight_decay")
    assert Number().propose(decay, site, 0.01, rng) is not None
