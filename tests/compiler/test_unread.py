"""Settings that would change nothing, or could not work, are spoken against."""

from __future__ import annotations

from typing import Any

import pytest

from evo.compiler.check import check
from evo.dsl.document import from_data

ATTENTION = {"kind": "attention", "heads": 2}
RECURRENCE = {"kind": "recurrence", "heads": 2}
LINEAR = {**RECURRENCE, "update": "outer", "feature": "elu", "normalizer": "sum"}
LAYER = {"kind": "layer"}
CODE = {"name": "code", "kind": "latent", "heads": 2}
HARD = {
    "name": "hard",
    "kind": "dynamic_patches",
    "of": {"name": "s", "mix": RECURRENCE, "norm": {"kind": "rms", "place": "post"}},
    "patcher": {"kind": "entropy"},
    "norm": {"kind": "rms"},
}
TOLD = {"name": "told", "mix": ATTENTION, "norm": {"kind": "rms", "place": "post"}}


def codes(mix: Any, organism: dict[str, Any], **stage: Any) -> list[str]:
    """The codes of what the checks say of one stage of two layers."""
    body = {"width": 16, "stages": [{"name": "s", "repeat": 2, "mix": mix, **stage}], **organism}
    return [diagnostic.code for diagnostic in check(from_data({"evo": 1, "organism": body}))]


UNREAD = [
    ("a norm's place where stages have norms", ATTENTION, {"norm": {"kind": "rms", "place": "post"}}, {"norm": LAYER}),
    ("a norm where all end in post", ATTENTION, {"norm": LAYER}, {"norm": {"kind": "rms", "place": "post"}}),
    (
        "a stage's none over learned positions",
        ATTENTION,
        {"position": {"kind": "learned"}},
        {"position": {"kind": "none"}},
    ),
    ("a mixer's none over none", {**ATTENTION, "position": {"kind": "none"}}, {"position": {"kind": "none"}}, {}),
    ("a recurrence's none", {**RECURRENCE, "position": {"kind": "none"}}, {}, {}),
    ("an organism's position without attention", RECURRENCE, {"position": {"kind": "alibi"}}, {}),
]


@pytest.mark.parametrize(("mix", "organism", "stage"), [row[1:] for row in UNREAD], ids=[row[0] for row in UNREAD])
def test_unread_settings_are_named(mix: dict[str, Any], organism: dict[str, Any], stage: dict[str, Any]):
    """A setting that nothing reads gives EVO330."""
    assert "EVO330" in codes(mix, organism, **stage)


READ = [
    (ATTENTION, {"norm": LAYER}, {"norm": {"kind": "rms", "place": "sandwich"}}),
    ([ATTENTION, {**ATTENTION, "position": {"kind": "none"}}], {"position": {"kind": "alibi"}}, {}),
    (RECURRENCE, {"position": {"kind": "learned"}}, {}),
    ({**RECURRENCE, "position": {"kind": "rope"}}, {}, {}),
    ({"kind": "pool"}, {"position": {"kind": "alibi"}}, {}),
    (ATTENTION, {"position": {"kind": "alibi"}, "norm": LAYER, "stages": [CODE]}, {}),
    (ATTENTION, {"norm": LAYER, "ahead": {"kind": "sequential"}}, {"norm": {"kind": "rms", "place": "post"}}),
    (ATTENTION, {"norm": LAYER, "stages": [CODE, {**TOLD, "kv_add": "code"}]}, {}),
    (ATTENTION, {"position": {"kind": "alibi"}, "norm": LAYER, "stages": [HARD]}, {}),
]


@pytest.mark.parametrize(("mix", "organism", "stage"), READ)
def test_settings_that_are_read_pass(mix: Any, organism: dict[str, Any], stage: dict[str, Any]):
    """The final norm, encoders and modules ahead read the organism's norm; overrides that change something pass."""
    assert codes(mix, organism, **stage) == []


def test_a_bonus_breaks_a_sum():
    """A bonus may make the sum that normalizer sum divides by negative or zero."""
    assert codes(LINEAR, {}) == []
    assert codes({**LINEAR, "bonus": True}, {}) == ["EVO305"]


@pytest.mark.parametrize(
    ("mix", "stage", "code"),
    [
        ({"kind": "wkv6", "heads": 16}, {}, "EVO300"),
        ({"kind": "wkv7", "heads": 16}, {}, "EVO300"),
        ({"kind": "mlstm", "heads": 2, "value_dim": 1}, {}, "EVO300"),
        ({**RECURRENCE, "value_dim": 1, "normalizer": LAYER}, {}, "EVO303"),
        (ATTENTION, {"norm": {"kind": "layer", "groups": 16}}, "EVO303"),
    ],
)
def test_a_mean_of_one_channel_is_refused(mix: dict[str, Any], stage: dict[str, Any], code: str):
    """A norm that takes it away leaves nothing of the channel, and torch's would refuse a single token."""
    assert codes(mix, {}, **stage) == [code]


@pytest.mark.usefixtures("strangers")
def test_a_stranger_that_reads_the_position_is_believed():
    """A mixer of another package that takes its stage's position reads it: directly, named, and in any composite."""
    inherits, other = {"kind": "inheriting"}, {"kind": "convolution"}
    named = {"pseudopods": {"near": inherits}}
    for mix in (inherits, {"dispatch": [other, inherits]}, {"kind": "pair", "first": other, "second": "near"}):
        assert codes(mix, {"position": {"kind": "alibi"}, **(named if "pair" in mix.values() else {})}) == []
        assert codes(mix, named if "pair" in mix.values() else {}, position={"kind": "alibi"}) == []
    assert codes({"dispatch": [other, other]}, {"position": {"kind": "alibi"}}) == ["EVO330"]


@pytest.mark.usefixtures("strangers")
def test_a_stranger_that_sees_ahead_is_refused():
    """A mixer of another package that is not causal is EVO343 wherever it stands."""
    assert codes({"kind": "ahead"}, {}) == ["EVO343"]
    assert codes({"dispatch": [{"kind": "convolution"}, {"kind": "ahead"}]}, {}) == ["EVO343"]
