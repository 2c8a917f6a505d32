"""Which rule updates which weight: decided by what a weight declares, and never by its name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from evo.compiler.check import require_valid
from evo.compiler.resolve import resolve
from evo.dsl.document import from_data
from evo.dsl.index import kind_class, kinds
from evo.dsl.plan import Init, Weight
from evo.optimizers.rule import Rule
from evo.optimizers.spec import OptimizerSpec

NAMES = ["embed2", "positions", "unembed", "readout", "embedder", "lm_head", "embedding_", "norm"]
MIX = [
    {"kind": "attention", "heads": 2, "sink_logit": True},
    {"kind": "convolution", "size": 9},
    {"kind": "recurrence", "heads": 2, "update": "outer", "bonus": True},
    {"parallel": [{"kind": "attention", "heads": 2}, {"kind": "convolution"}]},
]


def weights(name: str = "body", tied: bool = False) -> dict[str, Weight]:
    """The weights of an organism that has every sort of them, its first stage called by a name."""
    stages = [{"name": name, "repeat": 4, "mix": MIX}, {"name": "top", "mix": MIX[0], "from": [name, "embedding"]}]
    organism = {"width": 16, "context": 24, "position": {"kind": "learned"}, "readout": {"tie": tied}, "stages": stages}
    return resolve(require_valid(from_data({"evo": 1, "organism": organism})).organism).weights


def spec(kind: str, **settings: Any) -> OptimizerSpec:
    """An optimizer's spec, its defaults changed by some settings."""
    made = kind_class("optimizer", kind)(**settings)
    assert isinstance(made, OptimizerSpec)
    return made


def decayed(rules: dict[str, Rule]) -> set[str]:
    """The paths whose rule shrinks them."""
    return {path for path, rule in rules.items() if rule.weight_decay}  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", kinds("optimizer"))
def test_every_weight_has_one_rule(kind: str) -> None:
    """The rules of a plan are those of its paths."""
    assert spec(kind).assign(weights()).keys() == weights().keys()


@pytest.mark.parametrize("kind", kinds("optimizer"))
@pytest.mark.parametrize("name", NAMES)
def test_names_do_not_matter(kind: str, name: str) -> None:
    """A stage may be called like a table or a readout; its weights keep their rules."""
    plain, renamed = spec(kind).assign(weights()), spec(kind).assign(weights(name))
    back = {path.replace(f"stages.{name}.", "stages.body."): rule for path, rule in renamed.items()}
    assert back == plain


@pytest.mark.parametrize("kind", kinds("optimizer"))
def test_what_decays(kind: str) -> None:
    """Maps and taps decay; tables and all that is one number a channel do not, in however many dimensions."""
    found, rules = weights(), spec(kind).assign(weights())
    ends = {path.rpartition(".")[2] for path in decayed(dict(rules))}
    assert {"q", "k", "v", "o", "gate", "up", "down"} < ends
    assert "readout.weight" in decayed(dict(rules))
    assert {path for path, weight in found.items() if weight.axes == ("channel", "taps")} <= decayed(dict(rules))
    kept = {path for path, weight in found.items() if len(weight.shape) == 2} - decayed(dict(rules))
    assert {path.rpartition(".")[2] for path in kept} == {"weight", "position", "merge", "gains", "bonus"}
    assert {path for path in kept if path.endswith("weight")} == {"embedding.weight"}
    assert not any(len(found[path].shape) == 1 for path in decayed(dict(rules)))


@pytest.mark.parametrize("kind", kinds("optimizer"))
def test_a_tied_embedding_never_decays(kind: str) -> None:
    """A table that is the readout too stays a table."""
    assert "embedding.weight" not in decayed(dict(spec(kind).assign(weights(tied=True))))


def test_what_muon_takes() -> None:
    """The matrices inside the network; not tables, readout, taps (however many), gains, or a map to one gate a head."""
    found = weights()
    rules = spec("muon").assign(found)
    taken = {path for path, rule in rules.items() if type(rule).__name__ == "Muon"}
    assert taken == {path for path, weight in found.items() if weight.group == "matrix" and min(weight.shape) >= 8}
    left = {path for path, weight in found.items() if weight.group == "matrix"} - taken
    assert {found[path].name for path in left} == {"decay"}


STACKS = {
    "experts": Weight("up", (4, 32, 16), Init("normal", 1.0), ("stack", "out", "in"), "matrix"),
    "gates": Weight("gate", (4, 2, 16), Init("normal", 1.0), ("stack", "out", "in"), "matrix"),
    "gains": Weight("gains", (16, 16), Init("normal", 1.0), ("stack", "channel")),
}


@pytest.mark.parametrize("kind", kinds("optimizer"))
def test_a_stack_is_what_its_parts_are(kind: str) -> None:
    """A stack of matrices decays as a matrix does, and Muon takes it; a stack of vectors is vectors."""
    rules = dict(spec(kind).assign(STACKS))
    assert decayed(rules) == {"experts", "gates"}
    if kind == "muon":
        assert [type(rules[path]).__name__ for path in STACKS] == ["Muon", "AdamW", "AdamW"]


def test_settings_reach_their_groups() -> None:
    """Muon's matrices have `lr`, all else `adamw_lr`; a decay of zero leaves AdamW one group."""
    assert {rule.lr for rule in spec("muon", lr=0.5, adamw_lr=0.25).assign(weights()).values()} == {0.5, 0.25}
    assert len(set(spec("adamw", weight_decay=0.0).assign(weights()).values())) == 1


@pytest.mark.parametrize("kind", kinds("optimizer"))
def test_what_an_update_multiplies(kind: str) -> None:
    """The products that a step's compute counts for an update are those that torch counts in one."""
    found = {**weights(), **STACKS}
    own = spec(kind)
    rules = own.assign(found)
    with FlopCounterMode(display=False) as counter:
        for path, weight in found.items():
            parameter, gradient = (torch.ones(weight.shape) for _ in range(2))
            rules[path].step([parameter], [gradient], [rules[path].init(parameter)], 0.1)
    assert own.step_flops(found) == counter.get_total_flops()
