"""The causality probe: no output may depend on a later input or on another row, in values and in gradients.

A search that minimises loss selects exactly the blocks that leak, so every candidate is probed before it trains, and
again with its trained weights. What is probed is what training and scoring run: from tokens to logits, at their length,
batch, precision and mode, hence on their kernels. One pass asks about many positions: each row has a cut of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from evo.base.streams import Stream
from evo.compiler.organism import Organism
from evo.training.cuts import dense_cuts, spread_cuts
from evo.training.device import autocast
from evo.training.stepwise import mismatch

TOLERANCE = 1e-4
"""Relative to the largest value: above the rounding of sums taken in another order, far below any real influence."""
HALF_TOLERANCE = 4e-3
"""The same in bfloat16: one rounding. What hides below it shows in the pass in float32. Honest models measure 0."""
STEPWISE_TOLERANCE = 1e-2
"""Between two algorithms for one block in float32, whose products may keep ten bits on a GPU."""
MOVE = 0.25
"""By how much weights that are not zero are moved, relative to their root mean square."""
MOST_LOGITS = 2**28
"""Rows of a pass are left out, down to two, where there would be more values; training never holds its logits."""


SEED_0 = Stream(0)


@dataclass(frozen=True)
class Leak:
    """Outputs before position `cut` of a row changed, or had gradients, with inputs from `cut` on or of other rows.

    in_values, in_gradients: the largest influence relative to the largest value; not finite where a number is not.
    probe: the pass that saw it: training, scoring, float32, or decoding, where a block's whole form is not its
    step-by-step form. across_rows: it came from another row. block: the path of the block, if decoding saw it.
    """

    cut: int
    in_values: float
    in_gradients: float
    probe: str = "training"
    across_rows: bool = False
    block: str = ""

    @property
    def is_finite(self) -> bool:
        """Whether both influences are finite numbers."""
        return math.isfinite(self.in_values) and math.isfinite(self.in_gradients)

    def __str__(self) -> str:
        if self.block:
            return f"outputs of {self.block} from token {self.cut} on depend on later inputs: one at a time they differ"
        if self.across_rows:
            return f"outputs before token {self.cut} depend on another row of the batch"
        return f"outputs before token {self.cut} depend on later inputs"


@dataclass(frozen=True)
class Pass:
    """How the model is run: as what, in which mode and precision, and whether gradients are asked for."""

    name: str
    is_training: bool
    precision: str
    has_gradients: bool

    def tolerance(self, device: torch.device) -> float:
        """What an influence may measure."""
        with autocast(device, self.precision):
            return HALF_TOLERANCE if torch.is_autocast_enabled(device.type) else TOLERANCE


def find_leak(
    model: Organism,
    stream: Stream = SEED_0,
    *,
    batch: int = 4,
    tokens: int | None = None,
    precision: str = "bf16",
    text_BT: Tensor | None = None,
    is_moved: bool = True,
    every_cut: bool = False,
) -> Leak | None:
    """The first leak found, or None. The model, its gradients and torch's generators are left as they were.

    Args:
        stream: draws the cuts, the tokens and the moves; one a candidate.
        batch: rows of a pass, of which there are always two at least; tokens: its length, the context by default.
        precision: `train.precision`. In bfloat16 a pass in float32 is added.
        text_BT: (B, T) int64, what the pass for scoring reads; random tokens by default.
        is_moved: probe with every weight moved and every zero replaced, so that no gain of zero, no branch that starts
            at zero and no grown tap hides anything; False for trained weights as they are.
        every_cut: ask about every position, instead of some in each part of the sequence.
    """
    probe = _Probe(model, stream, max(batch, 2), tokens or model.plan.context, precision, text_BT, every_cut)
    if model.plan.vocab < 2:
        return None
    with _untouched(model):
        if is_moved:
            with _moved(model, stream.child("moves")):
                leak = probe.first_leak(also_float32=True)
            if leak is None or leak.is_finite:
                return leak
        return probe.first_leak(also_float32=is_moved)


@dataclass(frozen=True)
class _Probe:
    model: Organism
    stream: Stream
    batch: int
    tokens: int
    precision: str
    text_BT: Tensor | None
    every_cut: bool

    def first_leak(self, also_float32: bool) -> Leak | None:
        device = self.model.embedding.weight.device
        passes = [Pass("training", True, self.precision, True), Pass("scoring", False, self.precision, False)]
        if also_float32 and passes[0].tolerance(device) > TOLERANCE:
            passes.append(Pass("float32", False, "fp32", True))
        for index, run in enumerate(passes):
            for cuts in self._cuts(index, len(passes), run):
                leak = self._leak_in(run, cuts)
                if leak is not None:
                    return leak
        return self._decoding()

    def _cuts(self, index: int, count: int, run: Pass) -> list[list[int]]:
        """The cuts of each batch of a pass, a row each."""
        stream = self.stream.child(run.name, "cuts")
        rows = self._rows(run)
        if self.every_cut:
            return dense_cuts(rows, self.tokens)
        return [spread_cuts(rows, self.tokens, index, count, stream)]

    def _rows(self, run: Pass) -> int:
        if run.name == "scoring" and self.text_BT is not None:
            return max(2, len(self.text_BT))
        return max(2, min(self.batch, MOST_LOGITS // (self.tokens * self.model.plan.vocab)))

    def _leak_in(self, run: Pass, cuts: list[int]) -> Leak | None:
        """A leak that one batch shows, with the row that shows it best."""
        vocab, device = self.model.plan.vocab, self.model.embedding.weight.device
        generator = torch.Generator().manual_seed(self.stream.child(run.name, *cuts[:2]).integer())
        cuts_B1 = torch.tensor(cuts)[:, None]
        is_early_BT = torch.arange(self.tokens) < cuts_B1
        known_V = torch.randperm(vocab, generator=generator) < (vocab + 1) // 2
        tokens_BT = _tokens(known_V, is_early_BT, generator)
        if run.name == "scoring" and self.text_BT is not None:
            tokens_BT = self.text_BT.cpu().repeat(2, 1)[: len(cuts)]
        steps_BT = torch.randint(1, vocab, tokens_BT.shape, generator=generator)
        changed_BT = torch.where(is_early_BT, tokens_BT, (tokens_BT + steps_BT) % vocab)
        weights_BT = torch.randn(tokens_BT.shape, generator=generator) * is_early_BT
        weights_V = torch.randn(vocab, generator=generator) * known_V

        logits_BTV = self._logits(run, tokens_BT)
        in_gradients_B = torch.zeros(len(cuts))
        if run.has_gradients:
            seen_BT = torch.einsum("btv,v->bt", logits_BTV, weights_V.to(logits_BTV))
            in_gradients_B = self._in_gradients(seen_BT * weights_BT.to(seen_BT), known_V.to(device), run)
        logits_BTV = logits_BTV.detach()
        in_values_B = _in_values(logits_BTV, self._logits(run, changed_BT).detach(), is_early_BT.to(device))
        limit = run.tolerance(device)
        is_leak_B = ~((in_values_B <= limit) & (in_gradients_B <= limit))
        if not bool(is_leak_B.any()):
            return None
        row = int(torch.where(is_leak_B, in_values_B.nan_to_num(math.inf) + in_gradients_B.nan_to_num(), -1.0).argmax())
        own_BT = tokens_BT.clone()
        own_BT[row] = changed_BT[row]
        own_B = _in_values(logits_BTV, self._logits(run, own_BT).detach(), is_early_BT.to(device))
        is_across = float(in_values_B[row]) > limit and float(own_B[row]) <= limit
        return Leak(cuts[row], float(in_values_B[row]), float(in_gradients_B[row]), run.name, is_across)

    def _logits(self, run: Pass, tokens_BT: Tensor) -> Tensor:
        """(B, T, V) float32 or float64, with its graph if the pass has gradients. Draws are the same every time."""
        device = self.model.embedding.weight.device
        self.model.train(run.is_training)
        torch.random.default_generator.manual_seed(0)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(0)
        with torch.set_grad_enabled(run.has_gradients), autocast(device, run.precision):
            logits_BTV = self.model(tokens_BT.to(device))
        return logits_BTV.to(torch.promote_types(logits_BTV.dtype, torch.float32))

    def _in_gradients(self, seen_BT: Tensor, known_V: Tensor, run: Pass) -> Tensor:
        """(B,) on the CPU: gradients of each row's early outputs for embeddings of what stands only at later inputs.

        All rows at once; one by one only where that shows something.
        """
        whole = self._gradient_ratio(seen_BT.sum(), known_V)
        if whole <= run.tolerance(known_V.device):
            return torch.full((len(seen_BT),), whole)
        return torch.tensor([self._gradient_ratio(seen_T.sum(), known_V) for seen_T in seen_BT])

    def _gradient_ratio(self, seen: Tensor, known_V: Tensor) -> float:
        weight = self.model.embedding.weight
        (gradient_VD,) = torch.autograd.grad(seen, weight, retain_graph=True, allow_unused=True)
        if gradient_VD is None:
            return 0.0
        largest_V = gradient_VD.abs().amax(1)
        return float(largest_V[~known_V].max() / largest_V.max().clamp_min(1e-30))

    def _decoding(self) -> Leak | None:
        """A block whose whole form is not its step-by-step form, which cannot see what has not come."""
        rows = torch.randint(
            self.model.plan.vocab, (2, self.tokens), generator=torch.Generator().manual_seed(self.stream.integer())
        )
        cut = int(self.stream.child("decoding").numpy().integers(1, max(2, self.tokens - 1)))
        self.model.eval()
        found = mismatch(self.model, rows.to(self.model.embedding.weight.device), cut, STEPWISE_TOLERANCE)
        return None if found is None else Leak(found.start, found.difference, 0.0, "decoding", block=found.path)


def _tokens(known_V: Tensor, is_early_BT: Tensor, generator: torch.Generator) -> Tensor:
    """(B, T) int64: known tokens at early places, all others at later ones, so that embeddings tell them apart."""
    early, late = known_V.nonzero().flatten(), (~known_V).nonzero().flatten()
    early_BT, late_BT = (
        choice[torch.randint(len(choice), is_early_BT.shape, generator=generator)] for choice in (early, late)
    )
    return torch.where(is_early_BT, early_BT, late_BT)


def _in_values(logits_BTV: Tensor, changed_BTV: Tensor, is_early_BT: Tensor) -> Tensor:
    """(B,) on the CPU: the largest change of an early output, relative to the largest logit."""
    change_BT = (changed_BTV - logits_BTV).abs().amax(-1).masked_fill(~is_early_BT, 0.0)
    return (change_BT.amax(1) / logits_BTV.abs().max().clamp_min(1e-30)).float().cpu()


@contextmanager
def _untouched(model: Organism) -> Iterator[None]:
    """Put mode, buffers and generators back at the end."""
    device, was_training = model.embedding.weight.device, model.training
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.enable_grad():
        try:
            yield
        finally:
            model.train(was_training)
            _put_back(buffers)


@contextmanager
def _moved(model: Organism, stream: Stream) -> Iterator[None]:
    """Every weight moved by a share of its tensor's root mean square, zeros replaced by draws of that size."""
    before = [(parameter, parameter.detach().clone()) for parameter in model.parameters()]
    generator = torch.Generator().manual_seed(stream.integer())
    try:
        with torch.no_grad():
            for parameter, _ in before:
                draws = torch.randn(parameter.shape, generator=generator).to(parameter)
                parameter.add_(draws * _move_sizes(parameter))
        yield
    finally:
        _put_back(before)


def _move_sizes(weight: Tensor) -> Tensor:
    """By how much each number moves. A tensor of nothing but zeros gets what a linear map or a gain starts with."""
    is_zero = weight == 0
    count = (~is_zero).sum()
    fallback = weight.shape[-1] ** -0.5 if weight.ndim > 1 else 0.5
    rms = (weight.square().sum() / count.clamp_min(1)).sqrt()
    size = torch.where(count == 0, torch.full_like(rms, fallback), rms)
    return torch.where(is_zero, size, MOVE * size)


@torch.no_grad()
def _put_back(saved: Sequence[tuple[Tensor, Tensor]]) -> None:
    for tensor, value in saved:
        tensor.copy_(value)
