"""Spec classes that are parts of kinds: no kinds themselves, and no sections of a document."""

from __future__ import annotations

from evo.blocks.attention.factored import FactorsSpec
from evo.blocks.attention.head_maps import HeadMapsSpec
from evo.blocks.attention.head_shares import HeadSharesSpec
from evo.blocks.attention.layer_mix import LayerMixSpec
from evo.blocks.attention.mixing import ComposeSpec
from evo.blocks.attention.span import SpanSpec
from evo.blocks.attention.taps import TapsSpec
from evo.blocks.attention.token_values import TokenValuesSpec
from evo.blocks.experts.narrow import NarrowSpec
from evo.blocks.experts.router import RouterSpec
from evo.blocks.experts.spec import SharedSpec
from evo.blocks.feedforward.spec import UnitTapsSpec
from evo.blocks.mlstm.wide import WideSpec
from evo.dsl.spec import Spec

PARTS: list[type[Spec]] = [
    RouterSpec,
    NarrowSpec,
    SharedSpec,
    TapsSpec,
    FactorsSpec,
    HeadMapsSpec,
    TokenValuesSpec,
    LayerMixSpec,
    SpanSpec,
    WideSpec,
    UnitTapsSpec,
    HeadSharesSpec,
    ComposeSpec,
]
