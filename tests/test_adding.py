"""ADDING.md: its worked example is a whole package, and it says where kinds of every role go."""

from __future__ import annotations

import math
import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import torch

import evo
from evo.base.streams import Stream
from evo.blocks.flow import Flow
from evo.compiler.organism import Organism
from evo.dsl.index import KINDS
from evo.dsl.tree import specs
from evo.evolution.mutate import mutate
from evo.tasks.base import open_task
from evo.training.causality import find_leak
from evo.training.loop import Trainer

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "ADDING.md").read_text()
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"# (evo_average/\w+\.py)\n")


def blocks(language: str) -> list[str]:
    """The page's code blocks in a language."""
    return [text for found, text in BLOCK.findall(PAGE) if found == language]


@pytest.fixture
def document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, install: Callable[[Mapping[str, str]], None]
) -> Iterator[Path]:
    """The page's document, with the page's package installed."""
    (tmp_path / "evo_average").mkdir()
    (tmp_path / "evo_average" / "__init__.py").touch()
    for text in blocks("python"):
        name = NAMED.match(text)
        assert name, text
        (tmp_path / name[1]).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    (toml,), (yaml,) = blocks("toml"), blocks("yaml")
    install(tomllib.loads(toml)["project"]["entry-points"]["evo.kinds"])
    path = tmp_path / "averaging.yaml"
    path.write_text(yaml)
    yield path
    for name in [name for name in sys.modules if name.partition(".")[0] == "evo_average"]:
        del sys.modules[name]


def model_of(path: Path) -> Organism:
    """The built organism in float64."""
    return evo.build(path).double()


def test_the_example_is_valid_and_planned(document: Path) -> None:
    """The document has no fault and no warning; its plan counts the parameters that are built."""
    plan = evo.plan(document)
    assert plan.weights["stages.body.0.mixer.v"].shape == (48, 32)
    assert plan.parameters == sum(parameter.numel() for parameter in evo.build(document).parameters())


def test_the_example_trains(document: Path) -> None:
    """Two steps begin at about 8 bits a byte and move every parameter."""
    settings = evo.load(document).train
    model = evo.build(document)
    before = {path: p.detach().clone() for path, p in model.named_parameters()}
    loss = Trainer(model, open_task(settings.task, ROOT), settings).run()
    assert 4.0 < loss / math.log(2) < 9.0
    assert all(not torch.equal(before[path], p) for path, p in model.named_parameters())


def test_the_example_keeps_the_contract(document: Path) -> None:
    """It does not leak, step by step equals the whole, and packed documents do not meet."""
    model = model_of(document)
    assert find_leak(model) is None
    tokens = torch.randint(256, (2, 12), generator=torch.Generator().manual_seed(0))
    whole = model(tokens)
    state, parts = model.initial_state(), []
    for part in tokens.split([5, 1, 6], dim=1):
        logits, state = model.extend(part, state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole)
    average = dict(model.named_blocks())["stages.body.0.mixer"]
    x_BTD = torch.randn(2, 12, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    segments_BT = torch.tensor([[0] * 7 + [1] * 5] * 2)
    packed = average(x_BTD, Flow(segments_BT=segments_BT))
    torch.testing.assert_close(packed[:, 7:], average(x_BTD[:, 7:], Flow()))


def test_mutation_reaches_the_example(document: Path) -> None:
    """Some of many children of an organism without it have it."""
    stranger = evo.apply(evo.diff(document, ROOT / "examples" / "minimal.yaml"), document)
    children = (mutate(stranger, Stream(seed).child("mutate")).document for seed in range(200))
    assert any(spec.kind == "average" for child in children for _, spec in specs(child))


def test_every_role_has_a_row() -> None:
    """The table goes through the roles of the index, in any order, and through the operators."""
    rows = re.findall(r"^\| \*\*([\w ]+)\*\* \|", PAGE, re.MULTILINE)
    assert sorted(rows) == sorted([*KINDS, "mutation operator"])


def test_every_file_and_class_in_the_table_exists() -> None:
    """Paths are there below the sources or the tests, and classes are classes of the library."""
    table = "\n".join(line for line in PAGE.splitlines() if line.startswith("|"))
    paths = re.findall(r"`((?:\w+/)+(?:\w+\.py)?)`", table)
    classes = set(re.findall(r"`([A-Z]\w+[a-z])`", table)) - {"None"}
    assert len(paths) > 20
    assert len(classes) > 15
    assert [path for path in paths if not any((ROOT / top / path).exists() for top in ("src/evo", "tests"))] == []
    source = "\n".join(path.read_text() for path in (ROOT / "src" / "evo").rglob("*.py"))
    assert [name for name in sorted(classes) if f"\nclass {name}" not in source] == []
