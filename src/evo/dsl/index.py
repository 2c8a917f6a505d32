"""The lazy index of kinds: role -> kind -> the spec class, named by string so that only the kinds used are imported.

A new kind of block is a folder under `evo/blocks/` and one row here, or an entry point of another package in the group
`evo.kinds`, named `role.kind`. Installed packages are looked at only for a kind that is not built in, or for all of
them.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import TYPE_CHECKING

from evo.base.diagnostics import Diagnostic, DiagnosticError, suggestion

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from evo.dsl.spec import Spec

KINDS: dict[str, dict[str, str]] = {
    "mixer": {
        "attention": "evo.blocks.attention.spec:AttentionSpec",
        "chain": "evo.blocks.chain.spec:ChainSpec",
        "compressive": "evo.blocks.compressive.spec:CompressiveSpec",
        "conditioned": "evo.blocks.conditioned.spec:ConditionedSpec",
        "convolution": "evo.blocks.convolution.spec:ConvolutionSpec",
        "cross_attention": "evo.blocks.cross_attention.spec:CrossAttentionSpec",
        "dynamic_convolution": "evo.blocks.dynamic_convolution.spec:DynamicConvolutionSpec",
        "ema": "evo.blocks.ema.spec:EmaSpec",
        "engram": "evo.blocks.engram.spec:EngramSpec",
        "formed": "evo.blocks.formed.spec:FormedSpec",
        "gated_attention": "evo.blocks.gated_attention.spec:GatedAttentionSpec",
        "gated_memory": "evo.blocks.gated_memory.spec:GatedMemorySpec",
        "gated_scan": "evo.blocks.gated_scan.spec:GatedScanSpec",
        "gated_slots": "evo.blocks.gated_slots.spec:GatedSlotsSpec",
        "hyena": "evo.blocks.hyena.spec:HyenaSpec",
        "joined": "evo.blocks.joined.spec:JoinedSpec",
        "mlstm": "evo.blocks.mlstm.spec:MLSTMSpec",
        "latent": "evo.blocks.latent.spec:LatentSpec",
        "link_slots": "evo.blocks.link_slots.spec:LinkSlotsSpec",
        "memory": "evo.blocks.memory.spec:MemorySpec",
        "parallel": "evo.blocks.parallel.spec:ParallelSpec",
        "path_attention": "evo.blocks.path_attention.spec:PathAttentionSpec",
        "pool": "evo.blocks.pool.spec:PoolSpec",
        "product": "evo.blocks.product.spec:ProductSpec",
        "recurrence": "evo.blocks.recurrence.spec:RecurrenceSpec",
        "rg_lru": "evo.blocks.rg_lru.spec:RGLRUSpec",
        "rnn": "evo.blocks.rnn.spec:RnnSpec",
        "route": "evo.blocks.route.spec:RouteSpec",
        "selective_scan": "evo.blocks.selective_scan.spec:SelectiveScanSpec",
        "spatial": "evo.blocks.spatial.spec:SpatialSpec",
        "state_space": "evo.blocks.state_space.spec:StateSpaceSpec",
        "wkv": "evo.blocks.wkv.spec:WKVSpec",
        "wkv6": "evo.blocks.wkv6.spec:WKV6Spec",
        "wkv7": "evo.blocks.wkv7.spec:WKV7Spec",
    },
    "ffn": {
        "channel_mix": "evo.blocks.wkv.spec:ChannelMixSpec",
        "dense": "evo.blocks.feedforward.spec:DenseSpec",
        "experts": "evo.blocks.experts.spec:ExpertsSpec",
        "gated": "evo.blocks.feedforward.spec:GatedSpec",
        "kan": "evo.blocks.kan.spec:KanSpec",
        "linear": "evo.blocks.linear.spec:LinearSpec",
        "none": "evo.blocks.feedforward.spec:NoFeedForwardSpec",
        "product_keys": "evo.blocks.product_keys.spec:ProductKeysSpec",
        "structured": "evo.blocks.structured.spec:StructuredSpec",
        "token_table": "evo.blocks.token_table.spec:TokenTableSpec",
    },
    "act": {
        "clipped": "evo.blocks.activation.spec:ClippedSpec",
        "leaky_relu": "evo.blocks.activation.pointwise.spec:LeakyReluSpec",
        "learned_silu": "evo.blocks.activation.pointwise.spec:LearnedSiluSpec",
        "pointwise": "evo.blocks.activation.pointwise.spec:PointwiseSpec",
        "polynomial": "evo.blocks.activation.powers.spec:PolynomialSpec",
        "rational": "evo.blocks.activation.powers.spec:RationalSpec",
        "soft_capped": "evo.blocks.activation.spec:SoftCappedSpec",
        "top_gauss": "evo.blocks.activation.spec:TopGaussSpec",
        "xielu": "evo.blocks.activation.spec:XieluSpec",
    },
    "adapter": {
        "lora": "evo.blocks.adapters.spec:LoraSpec",
        "svf": "evo.blocks.adapters.spec:SvfSpec",
    },
    "norm": {
        "gated": "evo.blocks.norm.gated.spec:GatedNormSpec",
        "l2": "evo.blocks.norm.spec:L2NormSpec",
        "layer": "evo.blocks.norm.spec:LayerNormSpec",
        "rms": "evo.blocks.norm.spec:RMSNormSpec",
        "scaled": "evo.blocks.norm.scaled.spec:ScaledNormSpec",
        "squashed": "evo.blocks.norm.squashed.spec:SquashedNormSpec",
    },
    "position": {
        "alibi": "evo.blocks.position.spec:AlibiSpec",
        "buckets": "evo.blocks.position.relative:BucketsSpec",
        "contextual": "evo.blocks.position.contextual:ContextualSpec",
        "fire": "evo.blocks.position.relative:FireSpec",
        "kerple": "evo.blocks.position.relative:KerpleSpec",
        "learned": "evo.blocks.position.spec:LearnedSpec",
        "none": "evo.blocks.position.spec:NoPositionSpec",
        "polar": "evo.blocks.position.polar:PolarSpec",
        "queried": "evo.blocks.position.relative:QueriedSpec",
        "relative": "evo.blocks.position.relative:RelativeSpec",
        "rope": "evo.blocks.position.spec:RopeSpec",
        "sinusoid": "evo.blocks.position.spec:SinusoidSpec",
        "xl": "evo.blocks.position.relative:TransformerXLSpec",
    },
    "scaling": {
        "linear": "evo.blocks.position.scaling:LinearScaling",
        "llama3": "evo.blocks.position.scaling:Llama3Scaling",
        "longrope": "evo.blocks.position.scaling:LongRopeScaling",
        "ntk": "evo.blocks.position.scaling:NtkScaling",
        "proportional": "evo.blocks.position.scaling:ProportionalScaling",
        "yarn": "evo.blocks.position.scaling:YarnScaling",
    },
    "decay": {
        "channel": "evo.blocks.recurrence.decays:ChannelDecay",
        "head": "evo.blocks.recurrence.decays:HeadDecay",
        "learned": "evo.blocks.recurrence.decays:LearnedDecay",
        "token": "evo.blocks.recurrence.decays:TokenDecay",
    },
    "stencil": {
        "block": "evo.blocks.attention.stencils:BlockStencil",
        "dilated": "evo.blocks.attention.stencils:DilatedStencil",
        "full": "evo.blocks.attention.stencils:FullStencil",
        "prefix": "evo.blocks.attention.stencils:PrefixStencil",
        "ring": "evo.blocks.attention.stencils:RingStencil",
        "window": "evo.blocks.attention.stencils:WindowStencil",
    },
    "select": {
        "blocks": "evo.blocks.select.indexed:BlocksSelect",
        "compressed": "evo.blocks.select.spec:CompressedSelect",
        "means": "evo.blocks.select.spec:MeansSelect",
        "nearest": "evo.blocks.select.spec:NearestSelect",
        "pooled": "evo.blocks.select.pooled.spec:PooledSelect",
        "shared": "evo.blocks.select.indexed:SharedSelect",
        "tokens": "evo.blocks.select.indexed:TokensSelect",
        "values": "evo.blocks.select.spec:ValuesSelect",
        "whole_blocks": "evo.blocks.select.pooled.whole:WholeBlocksSelect",
    },
    "stage": {
        "blocks": "evo.blocks.stages.layers.spec:BlocksSpec",
        "recast": "evo.blocks.stages.recast.spec:RecastSpec",
        "adapted": "evo.blocks.stages.adapted.spec:AdaptedSpec",
        "chunks": "evo.blocks.stages.chunks.spec:ChunksSpec",
        "cycles": "evo.blocks.stages.cycles.spec:CyclesSpec",
        "depths": "evo.blocks.stages.depths.spec:DepthsSpec",
        "dynamic_patches": "evo.blocks.stages.dynamic_patches.spec:DynamicPatchesSpec",
        "latent": "evo.blocks.stages.latent.spec:LatentStageSpec",
        "layers": "evo.blocks.stages.layers.written:LayersSpec",
        "memory_tokens": "evo.blocks.stages.memory_tokens.spec:MemoryTokensSpec",
        "ngrams": "evo.blocks.stages.ngrams.spec:NgramsSpec",
        "patches": "evo.blocks.stages.patches.spec:PatchesSpec",
        "segments": "evo.blocks.stages.segments.spec:SegmentsSpec",
        "weights_of": "evo.blocks.stages.weights_of.spec:WeightsOfSpec",
        "loop": "evo.blocks.stages.loop.spec:LoopSpec",
    },
    "patcher": {
        "entropy": "evo.blocks.stages.dynamic_patches.patchers.spec:EntropySpec",
        "every": "evo.blocks.stages.dynamic_patches.patchers.spec:EverySpec",
        "space": "evo.blocks.stages.dynamic_patches.patchers.spec:SpaceSpec",
    },
    "ahead": {
        "parallel": "evo.blocks.ahead.spec:ParallelAheadSpec",
        "sequential": "evo.blocks.ahead.spec:SequentialAheadSpec",
    },
    "streams": {
        "altup": "evo.blocks.streams.altup.spec:AltUpStreams",
        "attended": "evo.blocks.streams.attended.spec:AttendedStreams",
        "channels": "evo.blocks.streams.channels.spec:ChannelStreams",
        "dense": "evo.blocks.streams.dense.spec:DenseStreams",
        "dual": "evo.blocks.streams.spec:DualStreams",
        "gated": "evo.blocks.streams.gated.spec:GatedStreams",
        "gates": "evo.blocks.streams.spec:GatesStreams",
        "fractions": "evo.blocks.streams.fractions.spec:FractionStreams",
        "hyper": "evo.blocks.streams.spec:HyperStreams",
        "sinkhorn": "evo.blocks.streams.spec:SinkhornStreams",
    },
    "layer": {
        "sublayers": "evo.blocks.stages.layers.sublayers:SublayersSpec",
    },
    "gain": {
        "depth": "evo.blocks.stages.layers.gains:DepthGain",
        "learned": "evo.blocks.stages.layers.gains:LearnedGain",
        "rest": "evo.blocks.stages.layers.gains:RestGain",
    },
    "task": {
        "bytes": "evo.tasks.bytes.spec:BytesSpec",
        "combined": "evo.tasks.combined.spec:CombinedSpec",
        "compression": "evo.tasks.compression.spec:CompressionSpec",
        "fuzzy_recall": "evo.tasks.recall.spec:FuzzyRecallSpec",
        "memorization": "evo.tasks.memorization.spec:MemorizationSpec",
        "mqar": "evo.tasks.mqar.spec:MqarSpec",
        "noisy_recall": "evo.tasks.recall.spec:NoisyRecallSpec",
        "parity": "evo.tasks.parity.spec:ParitySpec",
        "passkey": "evo.tasks.passkey.spec:PasskeySpec",
        "recall": "evo.tasks.recall.spec:RecallSpec",
        "selective_copy": "evo.tasks.selective_copy.spec:SelectiveCopySpec",
        "sine": "evo.tasks.sine.spec:SineSpec",
        "tokens": "evo.tasks.tokens.spec:TokensSpec",
        "xor": "evo.tasks.xor.spec:XorSpec",
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
    "rates": {
        "mup": "evo.dsl.rates:MaximalUpdateRates",
        "spectral": "evo.dsl.rates:SpectralRates",
    },
    "budget": {
        "flops": "evo.dsl.budget:FlopsBudget",
        "tokens": "evo.dsl.budget:TokensBudget",
    },
    "life": {
        "annealed": "evo.slime.spec:AnnealedLifeSpec",
    },
    "cooling": {
        "cosine": "evo.dsl.coolings:CosineCooling",
        "geometric": "evo.dsl.coolings:GeometricCooling",
        "linear": "evo.dsl.coolings:LinearCooling",
        "reheating": "evo.dsl.coolings:ReheatingCooling",
    },
    "centroids": {
        "fitted": "evo.dsl.centroids:FittedCentroids",
        "uniform": "evo.dsl.centroids:UniformCentroids",
    },
    "emitter": {
        "aging": "evo.evolution.emitters.aging.spec:AgingSpec",
        "archive_improvement": "evo.evolution.emitters.variation.spec:ArchiveImprovementSpec",
        "crossover": "evo.evolution.emitters.variation.spec:CrossoverSpec",
        "growth": "evo.evolution.emitters.growth.spec:GrowthSpec",
        "immigrants": "evo.evolution.emitters.immigrants.spec:ImmigrantsSpec",
        "mutation": "evo.evolution.emitters.variation.spec:MutationSpec",
        "novelty": "evo.evolution.emitters.variation.spec:NoveltySpec",
        "random": "evo.evolution.emitters.random.spec:RandomSpec",
        "variation": "evo.evolution.emitters.variation.spec:VariationSpec",
    },
    "operators": {
        "bandit": "evo.dsl.operators:BanditOperators",
        "fixed": "evo.dsl.operators:FixedOperators",
        "q_learning": "evo.dsl.operators:QLearningOperators",
    },
    "surrogate": {
        "gradient_norm": "evo.evolution.surrogates.proxies.spec:GradientNormSpec",
        "linear_ucb": "evo.evolution.surrogates.linear_ucb.spec:LinearUCBSpec",
        "ridge": "evo.evolution.surrogates.ridge.spec:RidgeSpec",
        "synflow": "evo.evolution.surrogates.proxies.spec:SynflowSpec",
    },
    "tracker": {
        "mlflow": "evo.training.trackers.spec:MlflowSpec",
        "opentelemetry": "evo.training.trackers.spec:OpenTelemetrySpec",
        "tensorboard": "evo.training.trackers.spec:TensorBoardSpec",
        "wandb": "evo.training.trackers.spec:WandbSpec",
    },
    "selection": {
        "curiosity": "evo.dsl.selections:CuriositySelection",
        "improvement": "evo.dsl.selections:ImprovementSelection",
        "lexicase": "evo.dsl.selections:LexicaseSelection",
        "novelty": "evo.dsl.selections:NoveltySelection",
        "pareto": "evo.dsl.selections:ParetoSelection",
        "tournament": "evo.dsl.selections:TournamentSelection",
        "uniform": "evo.dsl.selections:UniformSelection",
    },
    "engine": {
        "inline": "evo.engines.inline:InlineSpec",
        "process": "evo.engines.pool:ProcessSpec",
        "ray": "evo.engines.cluster:RaySpec",
    },
    "fidelity": {
        "asha": "evo.dsl.rungs:AshaFidelity",
        "hurdles": "evo.dsl.rungs:HurdlesFidelity",
        "hyperband": "evo.dsl.rungs:HyperbandFidelity",
        "single": "evo.dsl.fidelity:SingleFidelity",
    },
}

UNIONS = {"block": ("mixer", "ffn")}
"""Roles that are made of others: what may stand in a sublayer."""

DEFAULT_KIND = {"stage": "blocks", "layer": "sublayers"}
"""Roles whose `kind` may be left out."""


def kinds(role: str) -> list[str]:
    """The kinds of a role, built in and installed, in alphabetical order."""
    return sorted({kind for member in members(role) for kind in (*KINDS[member], *installed().get(member, {}))})


def members(role: str) -> tuple[str, ...]:
    """The roles that a union is made of; any other role alone."""
    return UNIONS.get(role, (role,))


def tagged(role: str) -> list[str]:
    """Those that are told apart by their `kind` key."""
    return [kind for kind in kinds(role) if not kind_class(role, kind).is_keyed]


def keyed(role: str) -> list[str]:
    """Those that are told apart by the one key of their name, as in `{parallel: [...]}`."""
    return [kind for kind in kinds(role) if kind_class(role, kind).is_keyed]


def is_kind(role: str, kind: str) -> bool:
    """Whether the role has that kind."""
    return any(kind in KINDS[member] or kind in installed().get(member, {}) for member in members(role))


@cache
def kind_class(role: str, kind: str) -> type[Spec]:
    """The spec class of a kind.

    Raises:
        KeyError: the role has no such kind.
        DiagnosticError: an installed package offers what is no kind (EVO212).
    """
    for member in members(role):
        target = KINDS[member].get(kind)
        if target is not None:
            module, _, name = target.partition(":")
            return getattr(importlib.import_module(module), name)
    found = [installed()[member][kind] for member in members(role) if kind in installed().get(member, {})]
    if not found:
        raise KeyError(kind)
    return _load(found[0])


def _load(point: EntryPoint) -> type[Spec]:
    try:
        cls = point.load()
    except (ImportError, AttributeError) as error:
        raise DiagnosticError([_fault(point, f"cannot be loaded: {error}")]) from error
    if getattr(cls, "kind", None) != point.name.partition(".")[2]:
        raise DiagnosticError([_fault(point, f"is {point.value}, whose `kind` is another")])
    return cls


@cache
def installed() -> dict[str, dict[str, EntryPoint]]:
    """The entry points of installed packages, by role and kind.

    Raises DiagnosticError with all that cannot be kinds (EVO212).
    """
    from importlib.metadata import entry_points  # slow to import, and most documents name built-in kinds only

    found: dict[str, dict[str, EntryPoint]] = {}
    faults: list[Diagnostic] = []
    for point in sorted(entry_points(group="evo.kinds"), key=lambda point: (point.name, point.value)):
        role, _, kind = point.name.partition(".")
        other = found.get(role, {}).get(kind)
        if role not in KINDS:
            help = f"{suggestion(role, KINDS)}known roles: {', '.join(KINDS)}"
            faults.append(_fault(point, f"names no role: there is no '{role}'", help))
        elif not kind:
            faults.append(_fault(point, "names no kind", f"name it {role}.KIND"))
        elif kind in KINDS[role]:
            faults.append(_fault(point, f"clashes with the {role} kind '{kind}' of evo itself"))
        elif rival := next((role for role in _beside(role) if kind in {**KINDS[role], **found.get(role, {})}), None):
            faults.append(_fault(point, f"clashes with the {rival} kind '{kind}': both may stand in one place"))
        elif other is not None and other.value != point.value:
            faults.append(_fault(point, f"clashes with the same kind of {_package(other)}"))
        else:
            found.setdefault(role, {})[kind] = point
    if faults:
        raise DiagnosticError(faults)
    return found


def _beside(role: str) -> tuple[str, ...]:
    """The other roles that a role stands in one place with."""
    return tuple(member for union in UNIONS.values() if role in union for member in union if member != role)


def _fault(point: EntryPoint, message: str, help: str | None = None) -> Diagnostic:
    help = help or "update or uninstall that package, or ask its authors to choose another name"
    return Diagnostic("EVO212", f"the entry point '{point.name}' of {_package(point)} {message}", None, help)


def _package(point: EntryPoint) -> str:
    return f"package '{point.dist.name}'" if point.dist else "an installed package"
