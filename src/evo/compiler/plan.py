"""The plan of a whole organism: what the cost model counts and the compiler builds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from evo.blocks.ahead.spec import AheadPlan
from evo.blocks.cache.policy import NONE, SUM_BYTES, TIPPING_ERROR, CachePolicy
from evo.dsl.layers import StagePlan
from evo.dsl.paths import AHEAD, stage_path
from evo.dsl.plan import AdapterPlan, BlockPlan, Cost, Weight, matmul_flops
from evo.dsl.spec import INPUT, TOKENS

PASSES = 3.0
"""Training FLOPs as a multiple of the forward pass's: the backward pass costs two of it (Kaplan et al. 2020, 2.1)."""


def exit_name(stage: str) -> str:
    """What the loss of a stage that is read out early is called."""
    return f"exit_{stage}"


@dataclass(frozen=True)
class Plan:
    """One organism with every dimension a concrete number.

    embedding_maps: from narrower vectors of tokens to the stream, with its bias and gains. norms_tokens: whether the
    embedding's norm stands before positions are added. projects_last: whether narrower vectors are projected after
    both. order: a block of fixed positions.
    readout_maps: what stands before and beside the readout: the transform with its bias, the maps of a mixture of
    softmaxes, and a bias and gains of logits. readout_mixture: how many softmaxes, and what their maps pass.
    readout_is_unit: whether rows of its weights are read as vectors of unit length.
    exits: the inner stages that training reads out too, the loss of each weighed by `exit_loss`.
    ahead: what training predicts besides the next token.
    """

    width: int
    vocab: int
    context: int
    tokens: Weight
    positions: Weight | None
    stages: tuple[StagePlan, ...]
    final_norm: BlockPlan | None
    readout: Weight | None
    soft_cap: float | None
    embedding_maps: tuple[Weight, ...] = ()
    embedding_scale: float | None = None
    embedding_norm: BlockPlan | None = None
    norms_tokens: bool = False
    projects_last: bool = False
    order: BlockPlan | None = None
    readout_maps: tuple[Weight, ...] = ()
    readout_act: str = ""
    readout_scale: float | None = None
    readout_mixture: tuple[int, str] | None = None
    readout_is_unit: bool = False
    readout_blocks: tuple[tuple[str, BlockPlan], ...] = ()
    exits: tuple[str, ...] = ()
    exit_loss: float = 0.0
    z_loss: float = 0.0
    ahead: AheadPlan | None = None

    @property
    def embedding(self) -> tuple[Weight, ...]:
        """The tables whose vectors enter the first stage, added up: of tokens, and of positions if there is one."""
        return (self.tokens,) if self.positions is None else (self.tokens, self.positions)

    @cached_property
    def weights(self) -> dict[str, Weight]:
        """Every distinct parameter tensor by dotted path: the keys of the built module's state dict."""
        named = {f"embedding.{weight.name}": weight for weight in (*self.embedding, *self.embedding_maps)}
        for path, block in self._top():
            named.update(block.named_weights(path))
        if self.readout is not None:
            named["readout.weight"] = self.readout
        return {**named, **{f"readout.{weight.name}": weight for weight in self.readout_maps}}

    @cached_property
    def trained(self) -> dict[str, Weight]:
        """The weights that training changes, by dotted path: those of adapters where there are any, else all that are
        not frozen."""
        adapters = {
            path: weight
            for prefix, block in self.named_blocks()
            if _is_alone(block)
            for path, weight in block.named_weights(prefix)
        }
        return adapters or {path: weight for path, weight in self.weights.items() if path not in self._frozen}

    @cached_property
    def _frozen(self) -> frozenset[str]:
        """The paths of weights that stay as they are."""
        blocks = ((prefix, block) for prefix, block in self.named_blocks() if block.is_frozen)
        return frozenset(path for prefix, block in blocks for path, _ in block.named_weights(prefix))

    @cached_property
    def is_adapted(self) -> bool:
        """Whether adapters are trained, and nothing else."""
        return any(_is_alone(block) for _, block in self.named_blocks())

    @cached_property
    def layers(self) -> dict[str, BlockPlan]:
        """The plan of every distinct layer of its stages by dotted path."""
        found = (named for stage in self.stages for named in stage.named_blocks(stage_path(stage.name)))
        return {path: block for path, block in found if block.is_layer}

    @cached_property
    def losses(self) -> tuple[str, ...]:
        """The names of the auxiliary losses that are added to the task's, in alphabetical order."""
        of_blocks = {name for _, block in self.named_blocks() for name in block.losses}
        return tuple(sorted({*of_blocks, *map(exit_name, self.exits), *(("z",) if self.z_loss else ())}))

    def unmet_inputs(self) -> Iterator[tuple[int, str, str]]:
        """What some block reads although nothing before it provides it: the stage's index, the block's path, a name."""
        known = {TOKENS, INPUT}
        for index, stage in enumerate(self.stages):
            for path, block in stage.named_blocks(stage_path(stage.name)):
                yield from ((index, path, name) for name in sorted(set(block.inputs) - known))
                known.update(block.outputs)
            known.add(stage.name)

    @property
    def max_positions(self) -> int | None:
        """The longest sequence it can read: its context, where positions are learned or a block ends; else None."""
        ends = self.positions is not None or any(block.ends_with_context for _, block in self.named_blocks())
        return self.context if ends else None

    def named_blocks(self) -> Iterator[tuple[str, BlockPlan]]:
        """Every distinct block by dotted path."""
        for path, block in self._top():
            yield from block.named_blocks(path)

    @cached_property
    def parameters(self) -> int:
        """The number of distinct parameters."""
        return sum(weight.count for weight in self.weights.values())

    @cached_property
    def flops_per_token(self) -> float:
        """Forward floating-point operations per token of training over a full context, readout included."""
        blocks = sum(block.flops for _, block in self._top())
        return blocks + matmul_flops(self.embedding_maps) + self.read_flops * (1 + self.further_reads)

    @property
    def read_flops(self) -> float:
        """The same of one readout."""
        softmaxes = 1 if self.readout_mixture is None else self.readout_mixture[0]
        return matmul_flops(self.readout_maps) + 2.0 * softmaxes * self.read_width * self.vocab

    @property
    def tokens_ahead(self) -> int:
        """How many tokens beyond the next training predicts."""
        return 0 if self.ahead is None else self.ahead.tokens

    @property
    def further_reads(self) -> int:
        """How often training reads out besides the last stage: for tokens ahead, behind inner stages, and between its
        turns."""
        return self.tokens_ahead + len(self.exits) + self.stages[-1].times_read - 1

    @property
    def training_flops_per_token(self) -> float:
        """Operations of a forward and a backward pass per token: no gradients are made of weights that stay."""
        frozen = sum(block.flops for _, block in self.named_blocks() if block.is_frozen)
        total = PASSES * self.flops_per_token - (PASSES - 1) * frozen
        if not self.is_adapted:
            return total
        kept = (block for block in self._running() if not _is_alone(block))
        spared = sum(min(block.cost.flops, matmul_flops(block.weights)) for block in kept)
        return total - spared - matmul_flops(self.embedding_maps) - self.read_flops

    @property
    def trained_parameters(self) -> int:
        """The number of parameters that training changes."""
        return sum(weight.count for weight in self.trained.values())

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights as they are kept while training: float32, but for maps that adapters keep smaller."""
        spared = sum(block.spared_bytes for _, block in self.named_blocks() if isinstance(block, AdapterPlan))
        return 4 * self.parameters - spared

    @property
    def cache_per_token(self) -> int:
        """Values that decoding keeps for every further token (growing caches only, windows included until full)."""
        return sum(block.cost.cache_growth for block in self._running())

    def cache_values(self, tokens: int) -> int:
        """Values kept while decoding after so many tokens: caches and states."""
        return sum(c.cache_per_token * c.kept(tokens, c.cache_limit) + c.state for c in self._keeping)

    @cached_property
    def _keeping(self) -> tuple[Cost, ...]:
        """Of each block that keeps something while decoding, its cost."""
        return tuple(b.cost for b in self._running() if b.cost.cache_per_token or b.cost.state)

    def cache_bytes(self, tokens: int, policy: CachePolicy, full: int = 2) -> int:
        """Bytes kept while decoding after so many tokens under a policy. full: of a value that is kept as it is."""
        if policy.store == NONE:
            return 0
        total = 0
        for block in self._running():
            cost = block.cost
            has_window = cost.cache_limit is None and bool(cost.cache_vectors) and "select" not in dict(block.children)
            limit = policy.limit if has_window else cost.cache_limit
            evicts = bool(cost.evicting_heads) and policy.evicting_limit is not None
            limit = policy.evicting_limit if evicts else limit
            kept = cost.kept(tokens, limit)
            whole = cost.cache_per_token
            if cost.cache_per_token and policy.store.packer:
                whole -= sum(cost.cache_vectors)
                total += policy.bytes_kept(cost.cache_vectors, kept)
            total += SUM_BYTES * cost.evicting_heads * kept if evicts else 0
            total += full * (whole * kept + cost.state)
        return total

    def tipped(self, policy: CachePolicy) -> tuple[str, ...]:
        """The kinds of its blocks that choose, where the policy rounds so coarsely that it may tip them."""
        if policy.store.error < TIPPING_ERROR or not any(block.cost.cache_vectors for block in self._running()):
            return ()
        return tuple(dict.fromkeys(block.kind for block in self._running() if block.chooses))

    @property
    def state(self) -> int:
        """Values of fixed size kept while decoding."""
        return sum(block.cost.state for block in self._running())

    @property
    def activations_per_token(self) -> int:
        """Values kept for the backward pass per token: an estimate that ignores what fusion saves."""
        running = [*self._running(), *(self.ahead.blocks() if self.ahead is not None else ())]
        layers = sum(block.is_layer for block in running)
        ends = (self.width + self.vocab) * (1 + self.further_reads)
        return sum(block.cost.activations for block in running) + self.width * (1 + layers) + ends

    @property
    def activations_between_layers(self) -> int:
        """What is left of them where layers are run again in the backward pass: one layer's are there at a time."""
        inside = [sum(part.cost.activations for part in layer.blocks()) for layer in self._running() if layer.is_layer]
        return self.activations_per_token - sum(inside) + max(inside, default=0)

    @property
    def read_width(self) -> int:
        """The width of what meets the readout's weights."""
        return self.tokens.shape[1] if self.readout is None else self.readout.shape[1]

    def _top(self) -> Iterator[tuple[str, BlockPlan]]:
        if self.order is not None:
            yield "embedding.order", self.order
        if self.embedding_norm is not None:
            yield "embedding.norm", self.embedding_norm
        for stage in self.stages:
            yield stage_path(stage.name), stage
        if self.final_norm is not None:
            yield "final_norm", self.final_norm
        yield from ((f"readout.{name}", block) for name, block in self.readout_blocks)
        if self.ahead is not None:
            yield AHEAD, self.ahead

    def _running(self) -> Iterator[BlockPlan]:
        """Every block inside the stages, as often as it runs on a token."""
        for stage in self.stages:
            yield from stage.blocks()


def _is_alone(block: BlockPlan) -> bool:
    """Whether it is trained while all else stays as it was."""
    return isinstance(block, AdapterPlan) and block.is_alone
