"""The lazy index of kinds: role -> kind -> the spec class, named by string so that only the kinds used are imported.

A new kind of block is a folder under `evo/blocks/` and one row here, or an entry point of another package in the group
`evo.kinds`, named `role.kind`.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evo.dsl.spec import Spec

KINDS: dict[str, dict[str, str]] = {
    "mixer": {
        "attention": "evo.blocks.attention.spec:AttentionSpec",
        "convolution": "evo.blocks.convolution.spec:ConvolutionSpec",
        "recurrence": "evo.blocks.recurrence.spec:RecurrenceSpec",
    },
    "ffn": {
        "dense": "evo.blocks.feedforward.spec:DenseSpec",
        "gated": "evo.blocks.feedforward.spec:GatedSpec",
        "none": "evo.blocks.feedforward.spec:NoFeedForwardSpec",
    },
    "norm": {
        "layer": "evo.blocks.norm.spec:LayerNormSpec",
        "rms": "evo.blocks.norm.spec:RMSNormSpec",
    },
    "position": {
        "alibi": "evo.blocks.position.spec:AlibiSpec",
        "learned": "evo.blocks.position.spec:LearnedSpec",
        "none": "evo.blocks.position.spec:NoPositionSpec",
        "rope": "evo.blocks.position.spec:RopeSpec",
    },
    "scaling": {
        "linear": "evo.blocks.position.scaling:LinearScaling",
        "ntk": "evo.blocks.position.scaling:NtkScaling",
        "yarn": "evo.blocks.position.scaling:YarnScaling",
    },
    "stencil": {
        "full": "evo.blocks.attention.stencils:FullStencil",
        "window": "evo.blocks.attention.stencils:WindowStencil",
    },
    "stage": {
        "blocks": "evo.blocks.stages.layers.spec:BlocksSpec",
    },
    "task": {
        "bytes": "evo.tasks.bytes.spec:BytesSpec",
    },
    "optimizer": {
        "adamw": "evo.optimizers.adamw.spec:AdamWSpec",
        "lion": "evo.optimizers.lion.spec:LionSpec",
        "muon": "evo.optimizers.muon.spec:MuonSpec",
    },
    "schedule": {
        "constant": "evo.dsl.schedules:ConstantSchedule",
        "cosine": "evo.dsl.schedules:CosineSchedule",
        "wsd": "evo.dsl.schedules:WsdSchedule",
    },
    "cooling": {
        "cosine": "evo.dsl.coolings:CosineCooling",
        "geometric": "evo.dsl.coolings:GeometricCooling",
        "linear": "evo.dsl.coolings:LinearCooling",
        "reheating": "evo.dsl.coolings:ReheatingCooling",
    },
    "fidelity": {
        "single": "evo.dsl.fidelity:SingleFidelity",
    },
}

FORMS: dict[str, dict[str, str]] = {
    "mixer": {"parallel": "evo.blocks.parallel.spec:ParallelSpec"},
}
"""Composites, told apart by their one key instead of by `kind`: `mix: {parallel: [...]}`."""

DEFAULT_KIND = {"stage": "blocks"}
"""Roles whose `kind` may be left out."""


def kinds(role: str) -> dict[str, str]:
    """The kinds of a role, built in and installed, in alphabetical order."""
    return dict(sorted({**KINDS[role], **_installed().get(role, {})}.items()))


def is_kind(role: str, kind: str) -> bool:
    """Whether the role has that kind; looks at installed packages only for kinds that are not built in."""
    return kind in KINDS[role] or kind in _installed().get(role, {})


@cache
def kind_class(role: str, kind: str) -> type[Spec]:
    """The spec class of a kind. Raises KeyError for an unknown one."""
    target = KINDS[role].get(kind)
    return _load(target if target else kinds(role)[kind])


@cache
def form_class(role: str, key: str) -> type[Spec]:
    """The spec class of a composite form. Raises KeyError for an unknown one."""
    return _load(FORMS[role][key])


def _load(target: str) -> type[Spec]:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


@cache
def _installed() -> dict[str, dict[str, str]]:
    from importlib.metadata import entry_points  # slow to import, and most documents name built-in kinds only

    found: dict[str, dict[str, str]] = {}
    for point in entry_points(group="evo.kinds"):
        role, _, kind = point.name.partition(".")
        found.setdefault(role, {})[kind] = point.value
    return found
