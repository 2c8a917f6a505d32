"""Organisms whose fields are flipped: those that shape the flow between layers and stages."""

from __future__ import annotations

from typing import Any

from block_variants import CONVOLUTION, OUTER, RECURRENCE, stage
from flip_choices import CHOICES
from flip_heads import HEADED
from flip_segments import REPEATED, SEGMENTED

ATTENTION = {"kind": "attention", "heads": 2}
RMS, LAYER = {"kind": "rms"}, {"kind": "layer"}

FLOW: dict[str, dict[str, Any]] = {
    "graph": {
        "norm": {"kind": "layer"},
        "stages": [
            stage("a", ATTENTION),
            stage("b", CONVOLUTION, **{"from": "embedding"}),
            stage("c", ATTENTION, **{"from": ["a", "b"]}, repeat=3, share=True),
        ],
    },
    "written layers": {
        "stages": [
            {
                "name": "c",
                "layers": {
                    "sublayers": [
                        {"parallel": [{"block": CONVOLUTION}, {"block": CONVOLUTION, "late": 1}]},
                        {"block": CONVOLUTION, "norm": {"in": RMS}},
                    ]
                },
            },
            {"name": "a", "repeat": 2, "layers": {"sublayers": [{"block": ATTENTION, "norm": {"in": RMS}}]}},
            {
                "name": "b",
                "repeat": 2,
                "layers": {"sublayers": [{"block": ATTENTION, "gain": 0.75}]},
                "norm_end": LAYER,
            },
        ],
    },
    "values, taps": {
        "stages": [
            stage("a", {**ATTENTION, "values_to": "first", "taps": {"on": ["q", "v"]}}, ffn={"kind": "none"}),
            stage("b", {**ATTENTION, "values_from": "first", "forget": True}, ffn={"kind": "none"}),
            stage("c", {**ATTENTION, "taps": {"on": ["q", "k"], "mix": 2, "bias": True}}, ffn={"kind": "none"}),
        ]
    },
    "values of tokens": {
        "stages": [
            stage("a", {**ATTENTION, "token_values": {"gate": "head", "reads": 5, "to": "rows"}}, ffn={"kind": "none"}),
            stage("b", {**ATTENTION, "subtract": True, "token_values": {"from": "rows"}}, ffn={"kind": "none"}),
        ]
    },
    "recast": {
        "stages": [
            {"name": "a", "kind": "recast", "of": stage("b", CONVOLUTION)},
            {"name": "c", "kind": "recast", "of": stage("d", CONVOLUTION), "on": ["x"], "from": ["embedding", "a"]},
        ]
    },
    "gated memory": {
        "stages": [
            stage(
                "a",
                {"kind": "selective_scan", "inner": 24, "state": 2, "rank": 2, "reading_to": "m"},
                ffn={"kind": "none"},
            ),
            stage("b", {"kind": "gated_memory", "of": "m", "inner": 24}, ffn={"kind": "none"}),
            stage("c", {"kind": "gated_memory", "of": "m", "inner": 24, "norm": RMS}, ffn={"kind": "none"}),
        ]
    },
    "mixes of layers": {
        "stages": [
            stage("a", {**ATTENTION, "mix_layers": {"to": "one"}}, ffn={"kind": "none"}),
            stage("b", {**ATTENTION, "mix_layers": {"to": "two", "of": "one"}}, ffn={"kind": "none"}),
            stage("c", {**ATTENTION, "mix_layers": {"of": ["one", "two"], "apart": True}}, ffn={"kind": "none"}),
        ]
    },
    "gated attention": {
        "stages": [
            stage("a", {"kind": "gated_attention", "inner": 24, "dim": 6}, ffn={"kind": "none"}),
            stage(
                "b",
                {"kind": "gated_attention", "dim": 4, "averages": 2, "steps": True, "position": {"kind": "rope"}},
                ffn={"kind": "none"},
            ),
        ]
    },
    "dynamic convolutions": {
        "stages": [
            stage("a", {"kind": "dynamic_convolution", "heads": 2, "rank": 4}, ffn={"kind": "none"}),
            stage("b", {"kind": "dynamic_convolution", "by": "learned", "inner": 24}, ffn={"kind": "none"}),
        ]
    },
    "taps of units": {
        "stages": [
            stage("a", CONVOLUTION, ffn={"kind": "gated", "hidden": 8, "gain": 2.0, "taps": {"size": 3}}),
            stage("b", CONVOLUTION, ffn={"kind": "dense", "hidden": 8, "gain": 2.0, "taps": {"residual": False}}),
        ]
    },
    **HEADED,
    **CHOICES,
    "chain": {"stages": [stage("body", {"chain": [{**CONVOLUTION, "maps": False}, CONVOLUTION]})]},
    "recurrences": {
        "stages": [
            stage("a", {**RECURRENCE, "writes": 2, "conv": 0}, ffn={"kind": "none"}),
            stage("b", {**OUTER, "conv": 0, "decay": "channel", "keys": "decay"}, ffn={"kind": "none"}),
            stage("c", {**OUTER, "conv": 0, "decay": {"kind": "learned"}, "feature": "identity"}, ffn={"kind": "none"}),
        ]
    },
    "token tables": {
        "stages": [
            stage("a", CONVOLUTION, ffn={"kind": "token_table", "channels": 8, "embedded": RMS}),
            stage("b", CONVOLUTION, ffn={"kind": "token_table", "channels": 8, "scale": 2.0}),
        ]
    },
    "engram": {
        "stages": [
            stage(
                "a",
                {"kind": "engram", "rows": 20, "heads": 2, "dim": 3, "conv": 2, "end": 3, "place": 1},
                ffn={"kind": "none"},
                streams={"kind": "hyper", "count": 2},
            ),
        ]
    },
    "spatial": {
        "stages": [
            stage("a", {"kind": "spatial", "heads": 2}, ffn={"kind": "none"}),
            stage("b", {"kind": "spatial", "inner": 24, "norm": {"kind": "layer"}}, ffn={"kind": "none"}),
            stage("c", {"kind": "spatial", "weigh": "softmax", "keys": True, "rank": 3}, ffn={"kind": "none"}),
            stage("d", {"kind": "spatial", "by": "distance", "normed": True}, ffn={"kind": "none"}),
        ]
    },
    "powers": {
        "stages": [
            stage("a", CONVOLUTION, ffn={"kind": "dense", "hidden": 8, "act": {"kind": "polynomial"}}),
            stage("b", CONVOLUTION, ffn={"kind": "gated", "hidden": 8, "act": {"kind": "rational"}}),
        ]
    },
    "pointwise": {
        "stages": [
            stage("a", CONVOLUTION, ffn={"kind": "dense", "hidden": 8, "act": {"kind": "pointwise", "of": "elu"}}),
            stage("b", CONVOLUTION, ffn={"kind": "gated", "hidden": 8, "act": {"kind": "leaky_relu"}}),
            stage("c", CONVOLUTION, ffn={"kind": "gated", "hidden": 8, "act": {"kind": "learned_silu"}}),
        ]
    },
    "product keys": {
        "stages": [
            stage("a", CONVOLUTION, ffn={"kind": "product_keys", "keys": 6, "heads": 2, "top": 3, "dim": 8}),
            stage("b", CONVOLUTION, ffn={"kind": "product_keys", "keys": 6, "top": 3, "dim": 8, "of": "neurons"}),
        ]
    },
    "heads ahead": {"ahead": {"kind": "parallel", "tokens": 2}, "stages": [stage("a", CONVOLUTION)]},
    "modules ahead": {"ahead": {"kind": "sequential", "tokens": 2}, "stages": [stage("a", CONVOLUTION)]},
    "streams": {
        "stages": [
            stage("a", CONVOLUTION, repeat=2, streams={"kind": "hyper", "count": 2}),
            stage("b", CONVOLUTION, streams={"kind": "hyper", "count": 2, "dynamic": False}),
            stage("c", CONVOLUTION, streams={"kind": "gates", "count": 2}),
            stage("d", CONVOLUTION, streams={"kind": "sinkhorn", "count": 2, "iterations": 2}),
            stage("g", CONVOLUTION, streams={"kind": "gated"}),
            stage("l", CONVOLUTION, streams={"kind": "fractions", "eps": 0.1}),
            stage("i", CONVOLUTION, repeat=2, streams={"kind": "dense", "rank": 3, "eps": 0.1}),
            stage("k", ATTENTION, repeat=2, streams={"kind": "dense", "ways": "qkv"}),
            stage("j", CONVOLUTION, repeat=2, streams={"kind": "attended", "eps": 0.1}),
            stage("h", CONVOLUTION, streams={"kind": "channels", "count": 2, "rank": 3}),
            stage("f", CONVOLUTION, streams={"kind": "altup", "count": 2, "aside": 1, "eps": 0.1}),
            {
                "name": "e",
                "layers": {"sublayers": [{"block": CONVOLUTION}]},
                "streams": {"kind": "dual", "norm": {**RMS, "eps": 0.1}},
            },
        ]
    },
    "alibi": {
        "position": {"kind": "alibi"},
        "stages": [
            stage(
                "body",
                {"kind": "attention", "heads": 2, "mix_scores": {"before": 2, "queries": 2, "keys": 3, "after": 2}},
            )
        ],
    },
    "gated norms": {
        "stages": [
            stage("a", CONVOLUTION, norm={"kind": "gated", "norm": RMS, "rank": 2}),
            stage("b", CONVOLUTION, norm={"kind": "layer"}),
            stage("c", CONVOLUTION, norm={"kind": "squashed"}),
            stage("d", CONVOLUTION, norm={"kind": "scaled", "norm": RMS}),
        ],
    },
    "weights of others": {
        "stages": [
            stage("a", CONVOLUTION),
            stage("b", CONVOLUTION, **{"from": ["embedding", "a"]}),
            {"name": "c", "weights_of": "b", "from": ["a", "b"], "adapters": {"kind": "lora", "rank": 2}},
        ],
    },
    "adapters of uses": {
        "stages": [
            stage("a", CONVOLUTION),
            {"name": "b", "kind": "adapted", "of": stage("c", CONVOLUTION), "from": ["embedding", "a"]},
            {"name": "d", "weights_of": "b", "adapters": {"kind": "lora", "rank": 2}},
            {"name": "e", "layers": {"sublayers": [{"block": {"joined": CONVOLUTION, "to": "a", "by": "sum"}}]}},
            {"name": "f", "layers": {"sublayers": [{"block": {"joined": {"kind": "linear", "rank": 2}, "norm": RMS}}]}},
            {"name": "h", "layers": {"sublayers": [{"block": {"kind": "linear", "norm": LAYER}}]}},
            stage("g", {"kind": "selective_scan", "heads": 2, "rank": 2, "conv": 0}, ffn={"kind": "linear"}),
        ],
    },
    "norms everywhere": {
        "norm": {"kind": "rms"},
        "stages": [stage("a", CONVOLUTION, norm={"kind": "layer"}), stage("b", CONVOLUTION, norm={"kind": "layer"})],
    },
}

SLOW: dict[str, dict[str, Any]] = {
    "codes": {
        "stages": [
            stage("a", CONVOLUTION),
            {"name": "code", "kind": "latent", "heads": 2, "bits": 4, "free_bits": 0.1},
            stage("b", ATTENTION, **{"from": "a"}, kv_add="code"),
            {
                "name": "c",
                "from": ["a", "b"],
                "kv_add": ["code", "a"],
                "repeat": 2,
                "norm_end": LAYER,
                "layers": {"sublayers": [{"block": ATTENTION, "norm": {"in": RMS}}]},
            },
        ],
    },
    "route": {"stages": [stage("body", {"route": [ATTENTION, CONVOLUTION]}, ffn={"kind": "none"})]},
    "chunks": {
        "stages": [
            stage("a", CONVOLUTION),
            {"name": "b", "kind": "chunks", "of": stage("c", CONVOLUTION), "size": 3.0, "ratio_loss": 1.0},
            {"name": "d", "kind": "chunks", "of": stage("e", CONVOLUTION), "width": 24, "from": ["a", "b"]},
        ],
    },
    "patches": {
        "stages": [
            {"name": "a", "kind": "patches", "of": stage("b", CONVOLUTION), "size": 4, "width": 24},
            stage("c", CONVOLUTION, **{"from": ["embedding", "a"]}),
            {"name": "d", "kind": "patches", "of": stage("e", CONVOLUTION), "size": 3, "from": ["a", "c"]},
        ],
    },
    "dynamic patches": {
        "stages": [
            {
                "name": "a",
                "kind": "dynamic_patches",
                "of": stage("b", CONVOLUTION),
                "size": 4,
                "kv_heads": 2,
                "norm": LAYER,
            },
            stage("c", {"kind": "cross_attention", "source": "a", "heads": 2}, **{"from": "embedding"}),
            {
                "name": "d",
                "kind": "dynamic_patches",
                "of": stage("e", CONVOLUTION),
                "size": 3,
                "patcher": {"kind": "entropy", "of": stage("f", CONVOLUTION), "width": 8},
                "width": 24,
                "from": ["a", "c"],
            },
        ],
    },
    **SEGMENTED,
    **REPEATED,
    "ngrams": {
        "stages": [
            {"name": "a", "kind": "ngrams", "sizes": [2, 3], "rows": 50},
            stage("b", CONVOLUTION),
            {"name": "c", "kind": "ngrams", "sizes": [4], "rows": 50, "functions": 2, "from": ["a", "b"]},
        ],
    },
}
"""Those that take long: `test_flips_of_flow.py` judges them."""

JUDGED_THERE = frozenset(
    [
        "RouteSpec",
        "LatentStageSpec",
        "LoopSpec",
        "CyclesSpec",
        "ChunksSpec",
        "DepthsSpec",
        "PatchesSpec",
        "DynamicPatchesSpec",
        "EntropySpec",
        "SpaceSpec",
        "EverySpec",
        "CrossAttentionSpec",
        "MemoryTokensSpec",
        "SegmentsSpec",
        "NgramsSpec",
    ]
)
"""The classes whose fields they flip."""
NOT_BY_ITSELF = {
    ("LatentStageSpec", "name"),
    ("LoopSpec", "of"),
    ("CyclesSpec", "of"),
    ("CyclesSpec", "slow"),
    ("ChunksSpec", "of"),
    ("DepthsSpec", "of"),
    ("DepthsSpec", "picks_to"),  # a name that another reads it by
    ("PatchesSpec", "of"),
    ("DynamicPatchesSpec", "of"),
    ("EntropySpec", "of"),
    ("CrossAttentionSpec", "source"),
    ("MemoryTokensSpec", "of"),
    ("SegmentsSpec", "of"),
}
"""Names that others read, or that are read, and stages that are flipped inside."""
SOMETIMES = {"LoopSpec.spread", "EntropySpec.threshold"}
"""May leave the times that one step draws as they are; may pass no entropy of the few tokens here."""

ELSEWHERE = {
    "OrganismSpec.context": "the length of training sequences; here, learned positions and YaRN",
    "ExpertsSpec.top": "with `top_p`, tokens may need fewer experts",
    "RouterSpec.capacity": "a limit acts where an expert reaches it, which depends on the tokens",
    "EngramSpec.rows": "a function has as many rows as the next prime says",
    "AttentionSpec.clip": "a bound that what is bounded may never reach",
    "Llama3Scaling.original": "may move no wave of the few pairs here from one part to another",
    "ClippedSpec.limit": "a bound that what is bounded may never reach",
}
"""Fields whose flips may leave one organism's function as it is: they also act where this suite does not look."""

NO_FLIP_OF_THEIR_OWN = {
    ("AttentionSpec", "causal"),
    ("ConditionedSpec", "at"),
    ("ExpertsSpec", "router"),
    ("HeadSharesSpec", "router"),
    ("AttentionSpec", "kv_to"),
    ("AttentionSpec", "values_to"),
    ("TokenValuesSpec", "to"),
    ("LayerMixSpec", "to"),
    ("GatedMemorySpec", "inner"),
    ("GatedMemorySpec", "of"),
    ("RecurrenceSpec", "reading_to"),
    ("SelectiveScanSpec", "reading_to"),
    ("NarrowSpec", "to"),
    ("RouterSpec", "logits_to"),
    ("TokensSelect", "to"),
    ("SharedSelect", "of"),
    ("PrefixStencil", "size"),
    ("AdaptedSpec", "name"),
    ("AdaptedSpec", "of"),
    ("RecastSpec", "of"),
    ("AdaptedSpec", "adapters"),
    ("JoinedSpec", "to"),
    ("WeightsOfSpec", "weights_of"),
    ("WeightsOfSpec", "from"),
    ("LayersSpec", "layers"),
    ("OrganismSpec", "layers"),
    ("LongRopeScaling", "factors"),
    ("OrganismSpec", "embedding"),
    ("OrganismSpec", "pseudopods"),
    ("ReadoutSpec", "transform"),
    ("ReadoutSpec", "mixture"),
    ("ReadoutSpec", "exits"),
    ("OrganismSpec", "readout"),
    ("BlocksSpec", "kv_add"),
    ("LayersSpec", "kv_add"),
    ("RouterSpec", "causal"),
}
"""False is refused while the one task predicts bytes (test_contract builds it); a name that nobody or others read; the
others are flipped inside."""
