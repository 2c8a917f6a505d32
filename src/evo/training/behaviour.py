"""Behaviour descriptors: five measures in [0, 1], defined for every kind of mixer.

They are read off a trained model on fixed held-out text. Span and locality come from the influence probe, the causality
probe read the other way round: how much an output depends on each earlier input, whatever mixer carries it.
"""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass

import torch
from torch import Tensor

from evo.base.streams import Stream
from evo.blocks.flow import Flow
from evo.compiler.organism import Organism
from evo.compiler.plan import Plan
from evo.dsl.spec import TOKENS
from evo.kernels.fused import cross_entropy
from evo.kernels.fused.project import project
from evo.kernels.fused.support import REFERENCE
from evo.kernels.grouped import Groups
from evo.kernels.structure import reach
from evo.tasks.base import Task

QUERIES = 16
NEAR_ZERO = 0.05


@dataclass(frozen=True)
class Measures:
    """Where a variant stands in the archive. Every field lies in [0, 1].

    attention_span: the mean distance of influence, as a share of the largest there could be: for each of some query
        positions t in the later half of a window, sum_s I(t,s) (t - s) / (t sum_s I(t,s)) over s < t, where I(t,s) is
        the norm of the gradient of a random projection of the logits at t with respect to the embedding at s. Early
        positions are not asked: their only neighbour is their farthest. 0 if no mixer reaches anywhere.
    activation_sparsity: the share of entries of at most 5 % of their tensor's root mean square, in what enters the
        projections that write to the residual stream (`o` of mixers, `down` of feed-forwards).
    gradient_flow: (4 + log10 g) / 3, clipped, where g is the geometric mean over layers of |gradient| / |weights|.
    memory_locality: the share of the influence from s < t that comes from the nearest 8 tokens.
    computational_intensity: (log10(i) - 1) / 1.5, clipped, where i is forward FLOPs per token over the bytes of
        activations kept per token (fp32), both by the plan.
    """

    attention_span: float
    activation_sparsity: float
    gradient_flow: float
    memory_locality: float
    computational_intensity: float

    def vector(self) -> tuple[float, ...]:
        """The values in the order of the fields."""
        return astuple(self)


MEASURES = tuple(Measures.__dataclass_fields__)


@dataclass(frozen=True)
class Behaviour:
    """The measures, and the gradient evenness that the fitness uses.

    gradient_evenness: the evenness of gradient flow: exp(entropy of the layers' shares of |gradient| / |weights|) /
        layers, in (0, 1]; 1 where every layer receives the same.
    """

    measures: Measures
    gradient_evenness: float


def behaviour(model: Organism, task: Task, context: int, seed: int) -> Behaviour:
    """Probe a model on the first held-out windows. Deterministic for a seed."""
    batch = next(iter(task.held_out(context, QUERIES * context, QUERIES))).to(next(model.parameters()).device)
    span, locality = _reach(influence(model, batch.inputs_BT[:1], seed))
    near_zero = NearZero(model)
    logits_NV = model(batch.inputs_BT, Flow(project=near_zero)).flatten(0, 1).float()
    weights_N = None if batch.weights_BT is None else batch.weights_BT.flatten()
    loss = cross_entropy(logits_NV, batch.targets_BT.flatten(), weights_N=weights_N, backend=REFERENCE)
    flows = _layer_flows(model, loss)
    measures = Measures(
        attention_span=span,
        activation_sparsity=near_zero.share(),
        gradient_flow=_clip((4 + _log_mean(flows)) / 3),
        memory_locality=locality,
        computational_intensity=intensity(model.plan),
    )
    return Behaviour(measures, evenness(flows))


def influence(model: Organism, tokens_1T: Tensor, seed: int) -> Tensor:
    """I (Q, T): how much a random projection of the logits at each query moves with each earlier input's embedding.

    One backward pass: the sequence is repeated Q times and row q is asked about its own position.
    """
    length = tokens_1T.shape[1]
    queries_Q = query_positions(length)
    if not len(queries_Q):
        return torch.zeros(0, length, dtype=torch.float64)
    generator = torch.Generator().manual_seed(Stream(seed).child("influence").integer())
    projection_QV = torch.randn(len(queries_Q), model.plan.vocab, generator=generator).to(tokens_1T.device)
    x_QTD = model.embed(tokens_1T).detach().repeat(len(queries_Q), 1, 1).requires_grad_(True)
    flow = Flow(signals={TOKENS: tokens_1T.expand(len(queries_Q), -1)})
    logits_QTV = model.forward_embedded(x_QTD, flow)
    rows = torch.arange(len(queries_Q), device=tokens_1T.device)
    asked = (logits_QTV[rows, queries_Q.to(tokens_1T.device)] * projection_QV).sum()
    (gradient_QTD,) = torch.autograd.grad(asked, x_QTD)
    positions_T = torch.arange(length)
    is_past_QT = positions_T < queries_Q[:, None]
    return gradient_QTD.norm(dim=-1).cpu().double() * is_past_QT


def query_positions(length: int) -> Tensor:
    """Up to 16 positions spread over the later half of a window, without the first position, which has no past."""
    first, last = max(1, length // 2), length - 1
    return torch.linspace(first, last, min(QUERIES, last - first + 1)).round().long()


def _reach(influence_QT: Tensor) -> tuple[float, float]:
    """(span, locality) of an influence matrix whose future and present are zero."""
    span_Q, near_Q = reach(influence_QT, query_positions(influence_QT.shape[1]))
    reached = ~span_Q.isnan()
    if not bool(reached.any()):
        return 0.0, 0.0
    return _clip(float(span_Q[reached].mean())), _clip(float(near_Q[reached].mean()))


class NearZero:
    """A `Project` that counts small entries in what enters the projections that write to the residual stream."""

    def __init__(self, model: Organism) -> None:
        weights = model.plan.weights
        self.watched = {id(p) for path, p in model.named_parameters() if weights[path].writes_residual}
        self.small, self.total = 0, 0

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None = None, groups: Groups | None = None) -> Tensor:
        return self.recast(x, weight, weight, bias, groups)

    def recast(self, x: Tensor, weight: Tensor, form: Tensor, bias: Tensor | None, groups: Groups | None) -> Tensor:
        """See `RecastingProject`."""
        if id(weight) in self.watched:
            seen = x.detach()
            self.small += int((seen.abs() <= NEAR_ZERO * seen.float().square().mean().sqrt()).sum())
            self.total += seen.numel()
        return project(x, form, bias, groups)

    def share(self) -> float:
        """The share of small entries; 0 if nothing was seen."""
        return self.small / self.total if self.total else 0.0


def _layer_flows(model: Organism, loss: Tensor) -> list[float]:
    """|gradient| / |weights| of each layer (layers that share weights count once)."""
    layers = model.plan.layers.items()
    layer_of = {f"{layer}{path}": layer for layer, plan in layers for path, _ in plan.named_weights("")}
    named = [(layer_of[path], p) for path, p in model.named_parameters() if path in layer_of and p.requires_grad]
    gradients = torch.autograd.grad(loss, [p for _, p in named], allow_unused=True)
    sums: dict[str, list[float]] = {}
    for (layer, parameter), gradient in zip(named, gradients, strict=True):
        pair = sums.setdefault(layer, [0.0, 0.0])
        pair[0] += 0.0 if gradient is None else float(gradient.float().square().sum())
        pair[1] += float(parameter.detach().square().sum())
    return [math.sqrt(g / w) if w > 0 else 0.0 for g, w in sums.values()]


def evenness(flows: list[float]) -> float:
    """exp(entropy of the shares) / count; 0 if all are zero or one is not finite."""
    total = sum(flows)
    if not total > 0 or not math.isfinite(total):
        return 0.0
    shares = [flow / total for flow in flows if flow > 0]
    return math.exp(-sum(share * math.log(share) for share in shares)) / len(flows)


def intensity(plan: Plan) -> float:
    """The computational intensity of a plan, in [0, 1]; see `Measures`."""
    return _clip((math.log10(max(plan.flops_per_token / (4 * plan.activations_per_token), 1.0)) - 1) / 1.5)


def _log_mean(flows: list[float]) -> float:
    return sum(math.log10(max(flow, 1e-12)) for flow in flows) / len(flows) if flows else -12.0


def _clip(value: float) -> float:
    return min(max(value, 0.0), 1.0) if value == value else 0.0
