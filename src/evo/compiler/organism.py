"""The built organism: embedding, a graph of stages, readout; in parallel and step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.adapters.module import Adapted
from evo.blocks.ahead.module import Ahead, Ends, Trunk
from evo.blocks.base import Block, Norm, compute_dtype
from evo.blocks.cache.policy import EVERYTHING, CachePolicy
from evo.blocks.flow import Flow, State, projected_as
from evo.blocks.residual import Residual
from evo.blocks.stages.stage import Stage
from evo.compiler.ends import Embedding, Make, Readout
from evo.compiler.plan import Plan, exit_name
from evo.dsl.spec import INPUT, TOKENS
from evo.kernels.dispatch import AUTO
from evo.kernels.fused import cross_entropy, embed, linear_cross_entropy, soft_capped


@dataclass(frozen=True)
class OrganismState(State):
    """What its blocks kept of the first `seen` tokens, by path and visit; empty before the first token."""

    blocks: Mapping[tuple[str, int], State] = field(default_factory=dict)
    seen: int = 0

    def before(self, latest: int) -> OrganismState | None:
        """The state before the latest tokens; None where a block's does not say that any more."""
        found = {key: state.without(latest, self.seen) for key, state in self.blocks.items()}
        kept = {key: state for key, state in found.items() if state is not None}
        return OrganismState(kept, self.seen - latest) if len(kept) == len(found) else None


@dataclass(frozen=True)
class Piece:
    """What one pass of decoding made of T tokens. flow: the pass. last: the stream behind the last stage."""

    tokens_BT: Tensor
    logits_BTV: Tensor
    flow: Flow
    last: Residual

    def first(self, count: int) -> Piece:
        """What it made of the first tokens."""
        spare = self.tokens_BT.shape[1] - count
        if not spare:
            return self
        # keys and values among the signals begin with those of earlier passes: the spare ones are the latest
        signals = {name: x[:, : x.shape[1] - spare] for name, x in self.flow.signals.items()}
        last = Residual(self.last.value()[:, :count])
        flow = replace(self.flow, signals=signals)
        return Piece(self.tokens_BT[:, :count], self.logits_BTV[:, :count], flow, last)


@dataclass(frozen=True)
class Losses:
    """What training minimises: the task's loss, and the auxiliary losses of blocks by name, already weighed."""

    task: Tensor
    auxiliary: Mapping[str, Tensor]

    @property
    def total(self) -> Tensor:
        """The sum of all, a float32 scalar."""
        total = self.task
        for value in self.auxiliary.values():
            total = total + value
        return total


class Stages(nn.Module):
    """The stages under their own names, whatever they are called (`training`, `keys`)."""

    def __init__(self, stages: Mapping[str, Stage]) -> None:
        super().__init__()
        for name, stage in stages.items():
            self._modules[name] = stage

    def train(self, mode: bool = True) -> Self:
        """As nn.Module's, which would trip over a child called `training`."""
        self.__dict__["training"] = mode
        for child in self.children():
            child.train(mode)
        return self

    def __getitem__(self, name: str) -> Stage:
        stage = self._modules[name]
        assert isinstance(stage, Stage)
        return stage


class Organism(nn.Module):
    """One model. The keys of its state dict are the paths of `plan.weights`; `plan` says what each is used for.

    Passes take a `Flow`, made anew where none is given: what rides along, and how weights meet their inputs.

    backend: which kernels run its embedding and its loss.
    """

    backend: str = AUTO

    def __init__(self, plan: Plan, make: Make) -> None:
        super().__init__()
        self.plan = plan
        self.embedding = Embedding(plan, make)
        self.stages = Stages({stage.name: _stage(make(stage)) for stage in plan.stages})
        self.final_norm = None if plan.final_norm is None else _norm(make(plan.final_norm))
        self.readout = Readout(plan, make)
        self.ahead = None if plan.ahead is None else _ahead(make(plan.ahead))
        for path, block in self.named_blocks():
            block.path = path
        stages = {stage.name: self.stages[stage.name] for stage in plan.stages}
        for block in self.modules():  # heads that predict further ahead are stages too
            if isinstance(block, Stage):
                block.borrow(stages)
        for path, parameter in self.named_parameters():
            parameter.requires_grad_(path in plan.trained)

    def named_blocks(self) -> Iterator[tuple[str, Block]]:
        """Every distinct block by dotted path, containers first."""
        for path, module in self.named_modules():
            if isinstance(module, Block):
                yield path, module

    def forward(self, tokens_BT: Tensor, flow: Flow | None = None) -> Tensor:
        """Logits for the token after each, (B, T) int64 -> (B, T, V)."""
        flow = Flow() if flow is None else flow
        return self.read(self.hidden(self.embed(tokens_BT, flow), flow), flow)

    def forward_embedded(self, x_BTD: Tensor, flow: Flow | None = None) -> Tensor:
        """The same from embeddings, (B, T, D) -> (B, T, V): what probes differentiate through."""
        flow = Flow() if flow is None else flow
        return self.read(self.hidden(x_BTD, flow), flow)

    def embed(self, tokens_BT: Tensor, flow: Flow | None = None) -> Tensor:
        """What enters the first stage, (B, T) int64 -> (B, T, D). Raises ValueError beyond learned positions."""
        flow = Flow() if flow is None else flow
        flow.signals[TOKENS] = tokens_BT
        x_BTE = embed(tokens_BT, self.embedding.weight, backend=self.backend)
        return flow.dropped(self.embedding.placed(x_BTE, flow), "embedding")

    def hidden(self, x_BTD: Tensor, flow: Flow | None = None) -> Tensor:
        """What the readout reads, (B, T, D) -> (B, T, D)."""
        flow = Flow() if flow is None else flow
        return self._normed(self._streamed(x_BTD, flow), flow)

    def _streamed(self, x_BTD: Tensor, flow: Flow) -> Residual:
        """The residual stream behind the last stage."""
        flow = self._adapting(flow)
        flow.signals[INPUT] = x_BTD
        last = Residual(x_BTD)
        for stage in self.plan.stages:
            last = self._run(self.stages[stage.name], flow)
            if stage is not self.plan.stages[-1]:
                flow.signals[stage.name] = last.value()
        return last

    def _normed(self, last: Residual, flow: Flow) -> Tensor:
        return last.value() if self.final_norm is None else last.normed(self.final_norm, flow)[1]

    def read(self, h_BTD: Tensor, flow: Flow | None = None) -> Tensor:
        """Logits, (..., D) -> (..., V), in the dtype of the readout's product; of a mixture, the logarithms of its
        probabilities."""
        flow = Flow() if flow is None else flow
        read = self.readout.read(h_BTD, flow)
        logits = soft_capped(self._logits(flow)(read.h, self._readout_form(), read.bias_V), self.plan.soft_cap)
        if read.log_share is None:
            return logits
        log_parts = F.log_softmax(logits.to(read.log_share.dtype), dim=-1)
        return (log_parts + read.log_share[..., None]).logsumexp(-2).to(logits.dtype)

    def losses(
        self, tokens_BT: Tensor, targets_BT: Tensor, weights_BT: Tensor | None = None, flow: Flow | None = None
    ) -> Losses:
        """The mean cross-entropy in nats of `targets_BT` as the tokens after `tokens_BT`, and the auxiliary losses.

        The pass is one of training: where its flow has no seed, 0 is it.

        Args:
            tokens_BT, targets_BT: (B, T) int64.
            weights_BT: (B, T) float32, how much each target counts in the mean, 0 for one that is ignored; None for all
                alike. A batch in which nothing counts has loss 0.

        Returns:
            Float32 scalars, with their graph.
        """
        flow = Flow() if flow is None else flow
        if flow.seed is None:
            flow = replace(flow, seed=torch.zeros((), dtype=torch.int64, device=tokens_BT.device))
        turns: list[tuple[Tensor, Tensor]] = []
        if self.plan.stages[-1].times_read > 1:
            flow = replace(flow, turns=turns)
        last = self._streamed(self.embed(tokens_BT, flow), flow)
        h_BTD = self._normed(last, flow)
        if turns:
            task = self._expected(turns, targets_BT, weights_BT, flow)
        else:
            task = self._cross_entropy(h_BTD, targets_BT, weights_BT, flow)
        if self.plan.z_loss:
            flow.add_loss("z", self._mean_square_of_sums(h_BTD, weights_BT, flow), self.plan.z_loss)
        for name in self.plan.exits:
            early_BTD = self._normed(Residual(flow.signals[name]), flow)
            loss = self._cross_entropy(early_BTD, targets_BT, weights_BT, flow)
            flow.add_loss(exit_name(name), loss, self.plan.exit_loss)
        if self.ahead is not None:
            self._add_losses_ahead(self.ahead, last, targets_BT, weights_BT, flow)
        return Losses(task, dict(flow.losses))

    def _cross_entropy(self, h_BTD: Tensor, targets_BT: Tensor, weights_BT: Tensor | None, flow: Flow) -> Tensor:
        """The mean cross-entropy of targets, from what stands before the readout."""
        weights_N = None if weights_BT is None else weights_BT.flatten()
        if self.plan.readout_mixture is not None:
            logits_NV = self.read(h_BTD, flow).flatten(0, 1)
            return cross_entropy(logits_NV, targets_BT.flatten(), weights_N=weights_N, backend=self.backend)
        read = self.readout.read(h_BTD, flow)
        return linear_cross_entropy(
            read.h.flatten(0, 1),
            self._readout_form(),
            targets_BT.flatten(),
            self.plan.soft_cap,
            bias_V=read.bias_V,
            weights_N=weights_N,
            project=self._logits(flow),
            backend=self.backend,
        )

    def _expected(
        self, turns: list[tuple[Tensor, Tensor]], targets_BT: Tensor, weights_BT: Tensor | None, flow: Flow
    ) -> Tensor:
        """The mean of the cross-entropies that targets have at each turn, by the chances to stop there.

        These learn from the losses, so each token's is made, of logits that are kept.
        """
        shares, losses = list[Tensor](), list[Tensor]()
        for s_BTD, share_BT in turns:
            logits_NV = self.read(self._normed(Residual(s_BTD), flow), flow).flatten(0, 1)
            wide_NV = logits_NV.to(compute_dtype(logits_NV))
            losses.append(F.cross_entropy(wide_NV, targets_BT.flatten(), reduction="none"))
            shares.append(share_BT.flatten())
        expected_N = (torch.stack(losses) * torch.stack(shares)).sum(0)
        if weights_BT is None:
            return expected_N.mean()
        weights_N = weights_BT.flatten()
        return (expected_N * weights_N).sum() / weights_N.sum().clamp_min(1e-30)

    def _add_losses_ahead(
        self, ahead: Ahead, last: Residual, targets_BT: Tensor, weights_BT: Tensor | None, flow: Flow
    ) -> None:
        """The loss of each token beyond the next, over the positions that have one in their own document."""
        stage = self.stages[self.plan.stages[-1].name]
        trunk = Trunk(self._inputs(stage, flow), last, lambda residual: self._normed(residual, flow))
        for places, h_BTD in enumerate(ahead.vectors(trunk, flow), start=1):
            weights = None if weights_BT is None else weights_BT[:, places:]
            if flow.segments_BT is not None:
                is_one_BT = flow.segments_BT[:, places:] == flow.segments_BT[:, :-places]
                weights = is_one_BT.float() if weights is None else weights * is_one_BT
            if weights is None and not h_BTD.shape[1]:  # nothing is so far on, and a mean of nothing is no number
                weights = h_BTD.new_zeros(h_BTD.shape[:2], dtype=torch.float32)
            loss = self._cross_entropy(h_BTD, targets_BT[:, places:], weights, flow)
            flow.add_loss(f"ahead_{places + 1}", loss, ahead.loss_weight)

    def loss(self, tokens_BT: Tensor, targets_BT: Tensor, weights_BT: Tensor | None = None) -> Tensor:
        """What training minimises, a float32 scalar: the task's loss and the auxiliary ones; see `losses`."""
        return self.losses(tokens_BT, targets_BT, weights_BT).total

    def initial_state(self) -> OrganismState:
        """The state before the first token."""
        return OrganismState()

    def extend(
        self, tokens_BT: Tensor, state: OrganismState, sample: int = 0, cache: CachePolicy = EVERYTHING
    ) -> tuple[Tensor, OrganismState]:
        """The next T >= 1 tokens after `state`: logits (B, T, V) and the state behind them; see `Flow`."""
        piece, state = self.passed(tokens_BT, state, sample, cache)
        return piece.logits_BTV, state

    def passed(
        self, tokens_BT: Tensor, state: OrganismState, sample: int = 0, cache: CachePolicy = EVERYTHING
    ) -> tuple[Piece, OrganismState]:
        """As `extend`, with what `drafts` reads."""
        flow = Flow(position=state.seen, states=state.blocks, sample=sample, cache=cache)
        last = self._streamed(self.embed(tokens_BT, flow), flow)
        logits_BTV = self.read(self._normed(last, flow), flow)
        seen = state.seen + tokens_BT.shape[1]
        return Piece(tokens_BT, logits_BTV, flow, last), OrganismState(flow.next_states, seen)

    def drafts(self, piece: Piece, token_B1: Tensor, places: int, state: OrganismState) -> tuple[Tensor, OrganismState]:
        """The tokens that `ahead` expects behind the one after a piece, (B, K) int64, and what its blocks keep.

        Args:
            piece: what has come since the last call, without a gap.
            token_B1: the token after it.
            places: how many are of use at most; K is no larger.
            state: of the last call; the initial one at first.
        """
        assert self.ahead is not None
        signals, at = dict(piece.flow.signals), piece.flow.position
        flow = self._adapting(Flow(signals, position=at, states=state.blocks, sample=piece.flow.sample))
        stage = self.stages[self.plan.stages[-1].name]
        trunk = Trunk(self._inputs(stage, flow), piece.last, lambda residual: self._normed(residual, flow))
        ends = Ends(
            lambda tokens_BT, position: self.embed(tokens_BT, Flow(position=position)),
            lambda h_BD: self.read(h_BD, flow).argmax(-1),
        )
        after_BT = torch.cat((piece.tokens_BT[:, 1:], token_B1), dim=1)
        found_BK = self.ahead.drafts(trunk, after_BT, places, ends, flow)
        return found_BK, OrganismState(flow.next_states, state.seen + piece.tokens_BT.shape[1])

    def _mean_square_of_sums(self, h_BTD: Tensor, weights_BT: Tensor | None, flow: Flow) -> Tensor:
        """The mean of log(sum exp logits)^2 over what counts; the logits are made once more for it."""
        logits_NV = self.read(h_BTD, flow).flatten(0, 1)
        squares_N = logits_NV.to(compute_dtype(logits_NV)).logsumexp(-1).square()
        if weights_BT is None:
            return squares_N.mean()
        weights_N = weights_BT.flatten()
        return (squares_N * weights_N).sum() / weights_N.sum().clamp_min(1e-30)

    def _adapting(self, flow: Flow) -> Flow:
        """The same pass, with adapters beside the maps that have one."""
        if not self.plan.is_adapted:
            return flow
        # looked up in each pass: weights may be exchanged between two (torch.func.functional_call)
        found = {weight: adapter for _, block in self.named_blocks() for weight, adapter in block.adapted()}
        return replace(flow, project=Adapted(flow.project, found), tells_weights_apart=True)

    def _run(self, stage: Stage, flow: Flow) -> Residual:
        return stage.run(self._inputs(stage, flow), flow)

    def _inputs(self, stage: Stage, flow: Flow) -> dict[str, list[Tensor]]:
        return {slot: [flow.signals[name] for name in names] for slot, names in stage.reads}

    def _readout_weight(self) -> nn.Parameter:
        return self.embedding.weight if self.readout.weight is None else self.readout.weight

    def _readout_form(self) -> Tensor:
        return self.readout.form(self._readout_weight())

    def _logits(self, flow: Flow) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
        """What makes logits of what is read, the form of the readout's weights, and a bias."""
        weight = self._readout_weight()

        def project(h: Tensor, form: Tensor, bias_V: Tensor | None) -> Tensor:
            if form is weight:
                return flow.project(h, weight, bias_V)
            return projected_as(flow.project, h, weight, form, bias_V, None)

        return project


def _stage(block: Block) -> Stage:
    if not isinstance(block, Stage):
        raise TypeError(f"{type(block).__name__} is not a stage")
    return block


def _ahead(block: Block) -> Ahead:
    if not isinstance(block, Ahead):
        raise TypeError(f"{type(block).__name__} predicts nothing")
    return block


def _norm(block: Block) -> Norm:
    if not isinstance(block, Norm):
        raise TypeError(f"{type(block).__name__} is not a norm")
    return block
