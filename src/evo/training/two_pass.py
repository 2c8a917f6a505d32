"""Two passes over a prompt: the first finds which experts' adapters suit it, the second writes with them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.base.streams import Stream
from evo.compiler.organism import Organism
from evo.dsl.plan import AdapterPlan
from evo.training.checkpoint import Checkpoint

ROUNDS, DRAWS, ELITES = 8, 16, 4
"""Of the cross-entropy method: rounds, mixtures drawn in each, and how many of these the next round is drawn around."""
FIRST_SPREAD = 0.3
"""The standard deviation of the first round's shares."""
LEAST_TOKENS = 2


class Experts:
    """Trainings of one organism's adapters from the same frozen weights, of which any weighted sum is one too.

    Args:
        checkpoints: two or more.

    Raises:
        DiagnosticError: they do not go together, or their adapters are not of a kind that can be summed (EVO528).
    """

    def __init__(self, model: Organism, checkpoints: Sequence[Checkpoint]) -> None:
        self.model = model
        first, *others = checkpoints
        _require_sums(model)
        for other in others:
            _require_alike(model, first, other)
        self.own = [{path: one.weights[path] for path in sorted(model.plan.trained)} for one in checkpoints]

    @torch.no_grad()
    def adapt(self, text: Sequence[int], mixes: bool, stream: Stream) -> tuple[float, ...]:
        """The share of each expert that makes a text of tokens likely; the model has them from then on.

        Transformer² (Sun et al. 2025, 2501.06252, section 3.3): z' = sum_k share_k z_k. What is judged is the text's
        mean cross-entropy, which needs no labels.

        Args:
            mixes: shares of all by the cross-entropy method (few-shot adaptation), not the one that is best (dispatch).

        Raises:
            DiagnosticError: there is too little text to judge by (EVO528).
        """
        if len(text) < LEAST_TOKENS:
            raise _refused("the text holds nothing to predict", "give a longer --prompt, or --samples")
        self.model.eval()
        tokens_1T = torch.tensor([list(text)], device=next(self.model.parameters()).device)
        single = list(torch.eye(len(self.own)).double())
        best = min(single, key=lambda shares_K: self._loss(shares_K, tokens_1T))
        if mixes:
            best = self._searched(best, single, tokens_1T, stream)
        self._take(best)
        return tuple(best.tolist())

    def _searched(self, best: Tensor, single: list[Tensor], tokens_1T: Tensor, stream: Stream) -> Tensor:
        """The best mixture of all rounds, of which the first has each expert alone in it."""
        generator = torch.Generator().manual_seed(stream.child("mixtures").integer())
        mean_K, spread_K = torch.stack(single).mean(0), torch.full_like(best, FIRST_SPREAD)
        lowest = self._loss(best, tokens_1T)
        for _ in range(ROUNDS):
            noise_NK = torch.randn(DRAWS, len(mean_K), generator=generator, dtype=torch.float64)
            drawn = list(mean_K + spread_K * noise_NK)
            losses = [self._loss(shares_K, tokens_1T) for shares_K in drawn]
            order = sorted(range(DRAWS), key=losses.__getitem__)
            if losses[order[0]] < lowest:
                best, lowest = drawn[order[0]], losses[order[0]]
            elite_NK = torch.stack([best, *(drawn[index] for index in order[:ELITES])])
            mean_K, spread_K = elite_NK.mean(0), elite_NK.std(0, unbiased=False)
        return best

    def _loss(self, shares_K: Tensor, tokens_1T: Tensor) -> float:
        self._take(shares_K)
        logits_TV = self.model(tokens_1T[:, :-1])[0].float()
        loss = float(F.cross_entropy(logits_TV, tokens_1T[0, 1:]))
        return loss if loss == loss else float("inf")  # what is no number is the worst

    def _take(self, shares_K: Tensor) -> None:
        for path in self.own[0]:
            mixed = sum(share * one[path] for share, one in zip(shares_K.tolist(), self.own, strict=True))
            assert isinstance(mixed, Tensor)
            self.model.get_parameter(path).copy_(mixed)


def _require_sums(model: Organism) -> None:
    plans = [plan for stage in model.plan.stages for _, plan in stage.named_blocks(stage.name)]
    adapters = [plan for plan in plans if isinstance(plan, AdapterPlan)]
    if not adapters or not all(plan.sums for plan in adapters):
        help = "`evo train base.yaml --set 'organism.adapters={kind: svf}' --from base.safetensors` makes an expert"
        raise _refused("experts are sums of adapters' gains, which this organism does not have", help)


def _require_alike(model: Organism, first: Checkpoint, other: Checkpoint) -> None:
    if other.document.organism != first.document.organism:
        raise _refused("experts are adapters of one organism, and these are of two", "`evo diff` shows what differs")
    frozen = first.weights.keys() - model.plan.trained
    if not all(torch.equal(first.weights[path], other.weights[path]) for path in frozen):
        raise _refused("experts start from the same frozen weights, and these do not", "train both `--from` one file")


def _refused(message: str, help: str) -> DiagnosticError:
    return DiagnosticError([Diagnostic("EVO528", message, None, help)])
