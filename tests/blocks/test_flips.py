"""Every field of the language is built: changing it changes the network, or is spoken against."""

from __future__ import annotations

from typing import Any

import pytest
from block_variants import CONVOLUTION, LATENT, OUTER, RECURRENCE, document, stage
from ffn_variants import ROUTED
from flip_focus import FOCUS
from flip_hosts import ELSEWHERE, FLOW, JUDGED_THERE, NO_FLIP_OF_THEIR_OWN
from flip_parts import PARTS
from flip_recurrences import RECURRENCES
from flip_selections import SELECTIONS
from flips import dead_flips, without_effect

from evo.dsl import index
from evo.dsl.organism import EmbeddingSpec, OrganismSpec, ReadoutSpec, TransformSpec
from evo.dsl.spec import Spec, spec_fields

ATTENTION = {"kind": "attention", "heads": 2}
RMS, LAYER = {"kind": "rms"}, {"kind": "layer"}
LORA = {"kind": "lora", "rank": 2, "on": ["q", "up"]}
LLAMA3 = {"kind": "llama3", "factor": 3.0, "original": 20, "low": 1.0, "high": 6.0}
LONGROPE = {"kind": "longrope", "factors": [1.0, 2.0, 3.0, 4.0]}
YARN = {"kind": "yarn", "factor": 4.0, "original": 700}


def _window(size: int, sinks: int) -> dict[str, Any]:
    return {**ATTENTION, "stencil": {"kind": "window", "size": size, "sinks": sinks}}


HOSTS: dict[str, dict[str, Any]] = {
    **FLOW,
    **SELECTIONS,
    **RECURRENCES,
    "plain": {"stages": [stage("body", ATTENTION, repeat=2)]},
    "dressed": {
        "stages": [
            stage(
                "body",
                {**_window(6, 2), "kv_heads": 1, "qk_norm": "rms", "soft_cap": 2.0, "sink_logit": True, "bias": True},
                ffn={"kind": "dense", "bias": True},
                norm={"kind": "layer", "place": "sandwich"},
                position={"kind": "rope", "dims": 4},
            )
        ],
        "readout": {"tie": False, "soft_cap": 5.0, "unit": True},
    },
    "yarn": {
        "width": 64,
        "context": 2048,
        "position": {"kind": "rope", "scaling": YARN},
        "stages": [stage("body", {"kind": "attention", "heads": 1}, ffn={"kind": "none"})],
    },
    "yarn by context": {
        "width": 64,
        "context": 2048,
        "position": {"kind": "rope", "scaling": {"kind": "yarn", "factor": 4.0}},
        "stages": [stage("body", {"kind": "attention", "heads": 1}, ffn={"kind": "none"})],
    },
    "options": {
        "stages": [
            stage(
                "body",
                {
                    **ATTENTION,
                    "gate": "channel",
                    "value_dim": 4,
                    "scale": 0.2,
                    "clip": 0.6,
                    "qk_norm": {"kind": "rms", "groups": 2, "eps": 0.1},
                    "v_norm": {"kind": "l2", "eps": 0.1, "gain": True},
                    "inner_norm": {"kind": "layer", "eps": 0.1, "gain": "heads"},
                    "bias": ["q", "gate", "gate_heads"],
                    "temperature": {"slope": 0.3, "period": 4},
                    "persistent": 2,
                },
                ffn={"kind": "gated", "hidden": 12, "act": {"kind": "clipped", "limit": 0.5}, "inner_norm": RMS},
                norm={"kind": "rms", "groups": 2},
            )
        ],
    },
    "pairs": {
        "stages": [
            stage(
                "body",
                [{**ATTENTION, "differ": 0.4, "kv_to": "both"}, {**ATTENTION, "kv_from": "both"}],
                repeat=2,
                ffn=[{"kind": "dense", "act": {"kind": "xielu"}}, {"kind": "gated", "act": {"kind": "top_gauss"}}],
            ),
            stage(
                "top",
                {**ATTENTION, "values": "keys", "qk_norm": "rms"},
                ffn={"kind": "gated", "act": {"kind": "soft_capped"}},
                norm={"kind": "l2"},
            ),
        ],
    },
    "linear": {
        "position": {"kind": "rope", "scaling": {"kind": "linear", "factor": 2.0}},
        "stages": [stage("body", ATTENTION, ffn={"kind": "gated", "bias": True, "act": "gelu"})],
    },
    "ntk": {
        "position": {"kind": "rope", "scaling": {"kind": "ntk", "factor": 2.0}},
        "stages": [stage("body", ATTENTION, norm={"kind": "rms", "place": "post"})],
    },
    "learned": {
        "position": {"kind": "learned"},
        "stages": [stage("body", ATTENTION, norm={"kind": "layer", "bias": False})],
    },
    "latent": {
        "stages": [
            stage("a", {**LATENT, "q_rank": 6, "bias": True, "scale": 0.4, "position": {"kind": "none"}}),
            stage("b", {**LATENT, "rope_dim": 4, "norm": {"kind": "l2"}, "gate": "head", "rope_norm": RMS}),
            stage("c", {**LATENT, "q_rank": 6, "q_from": "both", "gate": "channel", "gate_from": "q"}),
        ]
    },
    "ends": {
        "embedding": {"width": 12, "bias": True, "gain": True, "scale": 3.0, "norm": LAYER},
        "position": {"kind": "sinusoid", "offset": 1},
        "readout": {
            "bias": True,
            "gain": True,
            "scale": 0.5,
            "z_loss": 0.01,
            "transform": {"act": "gelu", "norm": LAYER},
        },
        "stages": [stage("body", ATTENTION)],
    },
    "structured": {"stages": [stage("body", CONVOLUTION, ffn={"kind": "structured", "hidden": 24, "bias": True})]},
    "structured, gated": {
        "stages": [stage("body", CONVOLUTION, ffn={"kind": "structured", "form": "low_rank", "rank": 4, "gate": True})]
    },
    "formed": {
        "stages": [
            stage("a", {"formed": ATTENTION, "on": ["q", "v"], "blocks": 2}, ffn={"kind": "none"}),
            stage("b", {"formed": CONVOLUTION, "form": "low_rank", "rank": 3}, ffn={"kind": "none"}),
        ]
    },
    "kan": {"stages": [stage("body", CONVOLUTION, ffn={"kind": "kan", "hidden": 12})]},
    "kan of gaussians": {"stages": [stage("body", CONVOLUTION, ffn={"kind": "kan", "basis": "gaussian"})]},
    "early ends": {
        "readout": {"exits": {"after": ["low", "middle"]}},
        "stages": [stage(name, CONVOLUTION, ffn={"kind": "none"}) for name in ("low", "middle", "top")],
    },
    "mixed ends": {
        "readout": {"mixture": {"count": 3}, "soft_cap": 2.0},
        "stages": [stage("body", ATTENTION)],
    },
    "other ends": {
        "embedding": {"width": 10, "norm": RMS, "norm_first": True, "project_last": True},
        "position": {"kind": "learned"},
        "readout": {"tie": False, "transform": {"act": "relu", "width": 12}},
        "stages": [stage("body", ATTENTION)],
    },
    "turns": {
        "stages": [
            stage("a", {**ATTENTION, "position": {"kind": "rope", "dims": 4, "at": "last", "scaling": LLAMA3}}),
            stage("b", {**ATTENTION, "position": {"kind": "rope", "scaling": LONGROPE, "pairs": "neighbours"}}),
            stage("c", {**ATTENTION, "position": {"kind": "rope", "scaling": {"kind": "proportional", "share": 0.6}}}),
            stage("d", {"kind": "attention", "heads": 3, "head_dim": 4, "position": {"kind": "alibi"}}),
        ],
    },
    "biases": {
        "stages": [
            stage(
                "a", {**ATTENTION, "position": {"kind": "buckets", "buckets": 8, "furthest": 16}}, ffn={"kind": "none"}
            ),
            stage("b", {**ATTENTION, "position": {"kind": "queried", "rank": 3, "extent": 6}}, ffn={"kind": "none"}),
            stage("c", {**ATTENTION, "position": {"kind": "xl"}}, ffn={"kind": "none"}),
            stage("g", {**ATTENTION, "position": {"kind": "relative", "furthest": 4}}, ffn={"kind": "none"}),
            stage("e", {**ATTENTION, "position": {"kind": "kerple"}}, ffn={"kind": "none"}),
            stage("f", {**ATTENTION, "position": {"kind": "fire", "hidden": 4, "threshold": 4}}, ffn={"kind": "none"}),
            stage("d", {**ATTENTION, "position": {"kind": "rope", "decay": 20.0}}, ffn={"kind": "none"}),
        ],
    },
    "no position": {"position": {"kind": "none"}, "stages": [stage("body", ATTENTION)]},
    "delta": {"stages": [stage("body", RECURRENCE)]},
    "retention": {
        "stages": [
            stage(
                "body",
                {
                    **OUTER,
                    "decay": "head",
                    "feature": "identity",
                    "conv": 0,
                    "key_dim": 4,
                    "value_dim": 6,
                    "position": {"kind": "rope"},
                },
            )
        ],
    },
    "linear attention": {
        "stages": [stage("body", {**OUTER, "decay": "none", "feature": "elu", "normalizer": "sum", "gate": "none"})]
    },
    "bonus": {
        "stages": [stage("body", {**OUTER, "decay": "channel", "feature": "identity", "bonus": True, "conv": 2})]
    },
    "conditioned": {
        "stages": [
            stage("a", {"conditioned": ATTENTION, "segment": 4, "hidden": 8}),
            stage("b", {"conditioned": CONVOLUTION, "by": "lora", "source": "a", "at": "x", "rank": 2}),
        ]
    },
    "lora": {"stages": [stage("body", ATTENTION)], "adapters": {**LORA, "four_bits": {"block": 6}}},
    "svf": {"stages": [stage("body", ATTENTION)], "adapters": {"kind": "svf", "on": ["q", "up"]}},
    "convolution": {"stages": [stage("body", {**CONVOLUTION, "gate": False, "act": "silu"})]},
    "named": {
        "pseudopods": {"near": _window(5, 1), "fast": CONVOLUTION},
        "stages": [stage("body", ["near", {"parallel": ["near", "fast", RECURRENCE]}], repeat=3)],
    },
    "selective scan": {"width": 64, "stages": [stage("body", {"kind": "selective_scan", "state": 4})]},
    "selective scan, normed": {
        "stages": [
            stage("body", {"kind": "selective_scan", "inner": 24, "rank": 2, "bias": True, "inner_norm": RMS}),
        ]
    },
    "memory": {
        "stages": [
            stage("body", {"kind": "memory", "heads": 2, "dim": 4, "depth": 2, "chunk": 6}, ffn={"kind": "none"})
        ]
    },
    "product": {
        "stages": [
            stage("body", {"product": [{"kind": "convolution"}, {"kind": "rg_lru", "heads": 2}]}, ffn={"kind": "none"}),
            stage("map", {"product": [{"kind": "linear"}, CONVOLUTION], "norm": "none"}, ffn={"kind": "none"}),
        ]
    },
    "rg_lru": {"stages": [stage("body", {"kind": "rg_lru", "heads": 2, "inner": 24})]},
    "wkv": {"stages": [stage("body", {"kind": "wkv"}, ffn={"kind": "channel_mix"})]},
    "wkv, wide": {"stages": [stage("body", {"kind": "wkv", "inner": 24}, ffn={"kind": "channel_mix", "hidden": 24})]},
    "block, dilated": {
        "stages": [
            stage("a", {**ATTENTION, "stencil": {"kind": "block", "size": 5}}),
            stage("b", {**ATTENTION, "stencil": {"kind": "dilated", "size": 3, "dilation": 3}}),
        ]
    },
    "ring": {"stages": [stage("a", {**ATTENTION, "stencil": {"kind": "ring", "size": 2, "period": 6}})]},
    "mamba2": {
        "stages": [
            stage(
                "body",
                {
                    **OUTER,
                    "decay": {"kind": "token", "least": 0.002, "most": 0.01},
                    "feature": "identity",
                    "key_heads": 1,
                    "write": "step",
                    "skip": True,
                    "conv_bias": True,
                    "scale": 1.0,
                    "gate_at": "before",
                    "normalizer": {"kind": "rms", "groups": 1},
                },
            )
        ]
    },
    "lightning": {
        "stages": [
            stage(
                "body",
                {
                    **OUTER,
                    "decay": {"kind": "head", "rates": "alibi", "scale": 0.5},
                    "feature": "identity",
                    "conv": 0,
                    "act": "silu",
                    "gate_rank": 2,
                    "normalizer": {"kind": "rms", "groups": 1},
                },
            )
        ]
    },
    "kda": {
        "stages": [
            stage("body", {**RECURRENCE, "decay": {"kind": "channel", "form": "softplus"}, "beta_range": 2.0}),
            stage("more", {**OUTER, "decay": {"kind": "channel", "form": "bounded", "bound": 1.0}}),
        ]
    },
    "gla": {
        "stages": [
            stage("body", {**OUTER, "conv": 0, "decay": {"kind": "channel", "rank": 2}}),
            stage("more", {**OUTER, "conv": 0, "decay": {"kind": "token", "form": "logsigmoid"}}),
        ]
    },
    "wkv6": {"width": 80, "stages": [stage("body", {"kind": "wkv6", "heads": 2}, ffn={"kind": "none"})]},
    "wkv7": {
        "width": 80,
        "stages": [
            stage("a", {"kind": "wkv7", "heads": 2, "first_values": "give"}, ffn={"kind": "none"}),
            stage("b", {"kind": "wkv7", "heads": 2, "first_values": "take"}, ffn={"kind": "none"}),
        ],
    },
    "link slots": {"stages": [stage("body", {"kind": "link_slots", "heads": 2, "slots": 6, "top": 2})]},
    "hyena": {"stages": [stage("body", {"kind": "hyena", "shift": 0.05, "hidden": 8}, ffn={"kind": "none"})]},
    "pools": {
        "stages": [
            stage("a", {"kind": "pool", "slots": 4, "alive": 2}, ffn={"kind": "none"}),
            stage("b", {"kind": "pool", "slots": 2, "of": CONVOLUTION}, ffn={"kind": "none"}),
        ]
    },
    "experts": {"stages": [stage("body", CONVOLUTION, ffn=ROUTED)]},
    "experts, grouped": {
        "stages": [
            stage(
                "body",
                CONVOLUTION,
                ffn={
                    **ROUTED,
                    "count": 8,
                    "shared": [{"gate": "routed"}],
                    "router": {
                        "score": "sigmoid",
                        "groups": 4,
                        "top_groups": 2,
                        "eps": 0.1,
                        "z_loss": 0.1,
                        "capacity": 0.5,
                    },
                },
            )
        ]
    },
    "experts, shared": {
        "stages": [
            stage(
                "body",
                CONVOLUTION,
                ffn={
                    **ROUTED,
                    "identity": 1,
                    "latent": 32,
                    "router": {"rivals": 0.5},
                    "shared": [{"ffn": ROUTED, "gate": "sigmoid"}, {}],
                },
            )
        ]
    },
    "experts choose": {"stages": [stage("body", CONVOLUTION, ffn={**ROUTED, "router": {"choose": "each_expert"}})]},
}


@pytest.mark.slow
@pytest.mark.parametrize("host", HOSTS)
def test_no_field_is_dead(host: str):
    """Flipping any field changes what is computed, or what one training step makes of it, or gives a diagnostic."""
    found = dead_flips(document(**HOSTS[host]), FOCUS.get(host, ""))
    dead = [flip for flip in found if f"{flip.owner}.{flip.field}" not in ELSEWHERE]
    assert not dead, "\n".join(map(str, dead))


def spec_classes() -> list[type[Spec]]:
    """Every spec class below `organism`."""
    found: list[type[Spec]] = [OrganismSpec, EmbeddingSpec, ReadoutSpec, TransformSpec]
    found += PARTS
    inner = ("mixer", "ffn", "act", "norm", "decay", "position", "scaling", "stencil", "select")
    for role in (*inner, "stage", "ahead", "adapter", "streams"):
        found += [index.kind_class(role, kind) for kind in index.kinds(role)]
    return [cls for cls in found if cls.__name__ not in JUDGED_THERE]


@pytest.mark.slow
def test_every_field_changes_some_network():
    """No field of any class is merely spoken against: some flip of it builds another network."""
    fields = {(cls.__name__, key) for cls in spec_classes() for key in spec_fields(cls)}
    assert without_effect((document(**host) for host in HOSTS.values()), fields - NO_FLIP_OF_THEIR_OWN) == set()


def test_a_planted_dead_field_is_found(monkeypatch: pytest.MonkeyPatch):
    """The search for dead fields finds one that is parsed and not built, and only that."""
    monkeypatch.setitem(index.KINDS["mixer"], "planted", "planted:PlantedSpec")
    found = dead_flips(document([stage("body", {"kind": "planted", "size": 3})]))
    names = {f"{flip.owner}.{flip.field}" for flip in found}
    assert names - set(ELSEWHERE) == {"PlantedSpec.ignored", "PlantedSpec.strength"}
