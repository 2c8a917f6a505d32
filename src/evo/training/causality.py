"""The causality probe: no output may depend on a later input or on another row, in values and in gradients.

A search that minimises loss selects exactly the blocks that leak, so every candidate is probed before it trains, and
again with its trained weights. What is probed is what training and scoring run: from tokens to logits, at their length,
batch, precision and mode, hence on their kernels. One pass asks about many positions: each row has a cut of its own.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from evo.base.streams import Stream
from evo.blocks.base import Block
from evo.blocks.flow import Flow
from evo.compiler.kernels import use_kernels
from evo.compiler.organism import Organism
from evo.kernels.fused.support import REFERENCE
from evo.training.cuts import behind, dense_cuts, spread_cuts, telling_cuts
from evo.training.device import autocast
from evo.training.moves import differentiable, moved, untouched
from evo.training.reading_apart import reading_apart
from evo.training.score import Scored
from evo.training.stepwise import EXACT_TOLERANCE, Call, mismatch, noted_calls

TOLERANCE = 1e-4
"""Relative to the largest value: above the rounding of sums taken in another order, far below any real influence."""
HALF_TOLERANCE = 4e-3
"""The same in bfloat16: one rounding. What hides below it shows in the pass in float32."""
HALF_ROUNDING = 1e-1
"""What roundings in bfloat16 may come to where all outputs are computed together, as by Fourier transforms. An
influence between the two, in values alone, is one if the same rows show it in float32 too."""
ROUNDING = 1e-3
"""What roundings in float32 may come to there, behind products of many. One that is none in float64 is a rounding."""
STEPWISE_TOLERANCE = 1e-2
"""Between two algorithms for one block in float32, whose products may keep ten bits on a GPU."""
STEPWISE_ROWS = 2
MOST_LOGITS = 2**28
"""Rows of a pass are left out, down to two, where there would be more values; training never holds its logits."""
FEWEST_PAIRED = 8
"""Rows of a batch of which each pair of a training pass may have one cut: enough of them to see one another."""
FEWEST_SCORED_CUTS = 3
"""Of the rows that were scored: where fewer are scored at once, they are probed several times."""

MEMORY = "memory"

SEED_0 = Stream(0)


@dataclass(frozen=True)
class Leak:
    """Outputs before position `cut` of a row changed, or had gradients, with inputs from `cut` on or of other rows.

    in_values, in_gradients: the largest influence relative to the largest value; not finite where a number is not.
    probe: the pass that saw it: training, scoring, float32; decoding, where a block's whole form is not its
    step-by-step form; or memory, where the same tokens give other outputs the second time. across_rows: it came from
    another row. block: the path of the block, if decoding saw it.
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
        if not self.is_finite:
            return f"outputs before token {self.cut}, or their gradients, are no finite numbers"
        if self.block:
            return f"outputs of {self.block} from token {self.cut} on depend on later inputs: one at a time they differ"
        if self.probe == MEMORY:
            return f"outputs at token {self.cut} depend on what was scored before: the same tokens again give others"
        if self.across_rows:
            return f"outputs before token {self.cut} depend on another row of the batch"
        return f"outputs before token {self.cut} depend on later inputs"


@dataclass(frozen=True)
class Pass:
    """How the model is run: as what, in which mode and precision.

    has_gradients: gradients are asked for. is_paired: each row stands beside itself with other later inputs, so that
    one pass does for two. Values then show what a row sees of its own later inputs, not what all rows see alike, which
    gradients do.
    """

    name: str
    is_training: bool
    precision: str
    has_gradients: bool = False
    is_paired: bool = False

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
    scored: Scored | None = None,
    every_cut: bool = False,
    flow: Callable[[], Flow] = Flow,
    given: int = 0,
) -> Leak | None:
    """The first leak found, or None. The model, its gradients and torch's generators are left as they were.

    A model that was not scored is probed with every weight moved and every zero replaced, so that no gain of zero, no
    branch that starts at zero and no grown tap hides anything; one that was, with its weights as they are.

    Args:
        stream: draws the cuts, the tokens and the moves; one a candidate.
        batch: rows of a pass, of which there are always two at least; tokens: its length, the context by default.
        precision: `train.precision`. In bfloat16 a pass in float32 is added.
        scored: a batch whose logits count in the score, which are held against those of other later inputs.
        every_cut: ask about every position, instead of some in each part of the sequence.
        flow: makes the flow of a training pass: how weights meet their inputs there.
        given: tokens at the start that are not predicted and may be read both ways: no cut is among them.
    """
    probe = _Probe(
        model, stream, max(batch, 2), tokens or model.plan.context, precision, scored, every_cut, flow, given
    )
    if model.plan.vocab < 2:
        return None
    with untouched(model), differentiable(model.embedding.weight):
        if scored is not None:
            return probe.first_leak()
        with moved(model, stream.child("moves")):
            leak = probe.first_leak()
        if leak is None or leak.is_finite:
            return leak
        return probe.first_leak()


@dataclass(frozen=True)
class _Case:
    """The rows of a pass, each with its cut.

    tokens_BT, changed_BT: int64 on the CPU, the same before the cut and different everywhere from it on. is_early_BT:
    before the cut. known_V: the tokens that stand before a cut, and nowhere behind one unless the text was scored.
    """

    cuts: list[int]
    tokens_BT: Tensor
    changed_BT: Tensor
    is_early_BT: Tensor
    known_V: Tensor
    generator: torch.Generator


@dataclass(frozen=True)
class _Probe:
    model: Organism
    stream: Stream
    batch: int
    tokens: int
    precision: str
    scored: Scored | None
    every_cut: bool
    flow: Callable[[], Flow]
    given: int

    @property
    def device(self) -> torch.device:
        return self.model.embedding.weight.device

    def passes(self) -> list[Pass]:
        """As training runs, and as scoring does. What is said of a score is asked of what was scored; a model that was
        not is run in float32 last, where no rounding hides anything, and with few rows in more passes."""
        is_paired, is_large = not self.every_cut, self.batch >= FEWEST_PAIRED
        has_gradients = self.scored is None or self.every_cut
        training = Pass("training", True, self.precision, has_gradients, is_paired and is_large)
        if self.scored is not None:
            return [training, Pass("scoring", False, self.scored.precision)]
        is_half = training.tolerance(self.device) > TOLERANCE
        last = Pass("float32" if is_half else "scoring", False, "fp32", is_paired=is_paired)
        is_left_out = not is_half or (is_large and is_paired)
        middle = [] if is_left_out else [replace(last, name="scoring", precision=self.precision)]
        return [training, *middle, last]

    def first_leak(self) -> Leak | None:
        passes, calls = self.passes(), dict[Block, Call]()
        for index, run in enumerate(passes):
            is_last = run is passes[-1] and self.scored is None
            with ExitStack() as stack:
                if is_last:
                    calls = stack.enter_context(noted_calls(self.model))
                for cuts in self._cuts(index, len(passes), run):
                    leak = self._leak_in(run, self._case(run, cuts))
                    if leak is not None:
                        return leak
        leak = self._decoding(calls)
        return self._memory() if leak is None and self.scored is None else leak

    def _cuts(self, index: int, count: int, run: Pass) -> list[list[int]]:
        """The cuts of each batch of a pass, a row each."""
        stream = self.stream.child(run.name, "cuts")
        return [[behind(cut, self.given) for cut in cuts] for cuts in self._any_cuts(index, count, run, stream)]

    def _any_cuts(self, index: int, count: int, run: Pass, stream: Stream) -> list[list[int]]:
        rows, tokens = self._shape(run)
        if self.every_cut:
            return dense_cuts(rows, tokens)
        scored = self._scored_in(run)
        if scored is None:
            return [spread_cuts(rows, tokens, index, count, stream)]
        certainty_BT, groups = scored.certainty_BT().numpy(), -(-FEWEST_SCORED_CUTS // rows)
        spread = [spread_cuts(rows, tokens, part, groups, stream.child(part)) for part in range(groups)]
        return [telling_cuts(certainty_BT, cuts, stream.child("telling", part)) for part, cuts in enumerate(spread)]

    def _scored_in(self, run: Pass) -> Scored | None:
        """What was scored, in the pass that asks about it."""
        return None if run.is_training else self.scored

    def _shape(self, run: Pass) -> tuple[int, int]:
        """How many rows with a cut there are, and of how many tokens."""
        if (scored := self._scored_in(run)) is not None:
            return len(scored.tokens_BT), scored.tokens_BT.shape[1]
        rows = max(2, min(self.batch, MOST_LOGITS // (self.tokens * self.model.plan.vocab)))
        return rows // 2 if run.is_paired else rows, self.tokens

    def _case(self, run: Pass, cuts: list[int]) -> _Case:
        vocab, scored = self.model.plan.vocab, self._scored_in(run)
        generator = torch.Generator().manual_seed(self.stream.child(run.name, *cuts[:2]).integer())
        is_early_BT = torch.arange(self._shape(run)[1]) < torch.tensor(cuts)[:, None]
        known_V = torch.randperm(vocab, generator=generator) < (vocab + 1) // 2
        tokens_BT = _tokens(known_V, is_early_BT, generator) if scored is None else scored.tokens_BT.cpu()
        steps_BT = torch.randint(1, vocab, tokens_BT.shape, generator=generator)
        changed_BT = torch.where(is_early_BT, tokens_BT, (tokens_BT + steps_BT) % vocab)
        return _Case(cuts, tokens_BT, changed_BT, is_early_BT, known_V, generator)

    def _leak_in(self, run: Pass, case: _Case) -> Leak | None:
        """A leak that one batch shows, with the row that shows it best."""
        in_values_B, in_gradients_B = self._influences(run, case)
        limit = run.tolerance(self.device)
        is_leak_B = ~((in_values_B <= limit) & (in_gradients_B <= limit))
        if not bool(is_leak_B.any()) or self._is_rounding(run, case, in_values_B, in_gradients_B):
            return None
        row = int(torch.where(is_leak_B, in_values_B.nan_to_num(math.inf) + in_gradients_B.nan_to_num(), -1.0).argmax())
        in_values, in_gradients = float(in_values_B[row]), float(in_gradients_B[row])
        is_across = self._is_across(run, case, row, in_values)
        return Leak(case.cuts[row], in_values, in_gradients, run.name, is_across)

    def _is_rounding(self, run: Pass, case: _Case, in_values_B: Tensor, in_gradients_B: Tensor) -> bool:
        """Whether small influences are gone in float32, where they were in bfloat16, or in float64."""
        limit = run.tolerance(self.device)
        if not bool((in_gradients_B <= limit).all()):
            return False
        exact = Pass("float32", run.is_training, "fp32")
        if limit > TOLERANCE:
            if not bool((in_values_B <= HALF_ROUNDING).all()):
                return False
            in_values_B = self._values(exact, case)
            if bool((in_values_B <= TOLERANCE).all()):
                return True
        if not bool((in_values_B <= ROUNDING).all()):
            return False
        doubled = replace(self, model=copy.deepcopy(self.model).double())
        use_kernels(doubled.model, REFERENCE, batch=self.batch, tokens=self.tokens)
        try:
            return bool((doubled._values(exact, case) <= EXACT_TOLERANCE).all())
        except RuntimeError:  # a block that has no arithmetic in float64: what was seen stands
            return False

    def _values(self, run: Pass, case: _Case) -> Tensor:
        """(B,) on the CPU: of later inputs and of other rows, in values."""
        logits_BTV, changed_BTV = (self._logits(run, rows_BT) for rows_BT in (case.tokens_BT, case.changed_BT))
        return _in_values(logits_BTV.detach(), changed_BTV.detach(), case.is_early_BT)

    def _influences(self, run: Pass, case: _Case) -> tuple[Tensor, Tensor]:
        """(B,) and (B,) on the CPU: of later inputs and of other rows, in values and in gradients."""
        if run.is_paired:
            pairs_BT = torch.stack((case.tokens_BT, case.changed_BT), 1).flatten(0, 1)
            logits_BTV, changed_BTV = self._logits(run, pairs_BT).unflatten(0, (-1, 2)).unbind(1)
        else:
            changed_BTV = self._logits(run, case.changed_BT)
            logits_BTV = self._first_logits(run, case)  # last: a captured step's flow renews what a graph has saved
        in_values_B = _in_values(logits_BTV.detach(), changed_BTV.detach(), case.is_early_BT)
        if not run.has_gradients:
            return in_values_B, torch.zeros(len(case.cuts))
        return in_values_B, self._in_gradients(run, case, logits_BTV)

    def _is_across(self, run: Pass, case: _Case, row: int, in_values: float) -> bool:
        """Whether the early outputs of a row change, and do not if only its own later inputs do."""
        own_BT = case.tokens_BT.clone()
        own_BT[row] = case.changed_BT[row]
        logits_BTV, all_BTV, own_BTV = (
            self._logits(run, rows_BT).detach() for rows_BT in (case.tokens_BT, case.changed_BT, own_BT)
        )
        of_all, of_own = (float(_in_values(logits_BTV, x, case.is_early_BT)[row]) for x in (all_BTV, own_BTV))
        return max(in_values, of_all) > run.tolerance(self.device) >= of_own

    def _first_logits(self, run: Pass, case: _Case) -> Tensor:
        scored = self._scored_in(run)
        return self._logits(run, case.tokens_BT) if scored is None else _exact(scored.logits_BTV.to(self.device))

    def _logits(self, run: Pass, tokens_BT: Tensor) -> Tensor:
        """(B, T, V) float32 or float64, with its graph if the pass has gradients. Draws are the same every time."""
        self.model.train(run.is_training)
        torch.random.default_generator.manual_seed(0)
        if self.device.type == "cuda":
            with torch.cuda.device(self.device):
                torch.cuda.manual_seed(0)
        is_trained_so = run.is_training and run.precision == self.precision
        flow = reading_apart(self.flow() if is_trained_so else Flow(), self.model)
        with torch.set_grad_enabled(run.is_training), autocast(self.device, run.precision):
            return _exact(self.model(tokens_BT.to(self.device), flow))

    def _in_gradients(self, run: Pass, case: _Case, logits_BTV: Tensor) -> Tensor:
        """(B,) on the CPU: gradients of each row's early outputs for embeddings of what stands only at later inputs.

        All rows at once; one by one only where that shows something.
        """
        weights_BT = torch.randn(case.tokens_BT.shape, generator=case.generator) * case.is_early_BT
        weights_V = torch.randn(len(case.known_V), generator=case.generator) * case.known_V
        seen_BT = torch.einsum("btv,v->bt", logits_BTV, weights_V.to(logits_BTV))
        seen_BT, known_V = seen_BT * weights_BT.to(seen_BT), case.known_V.to(self.device)
        whole = self._gradient_ratio(seen_BT.sum(), known_V)
        if whole <= run.tolerance(self.device):
            return torch.full((len(seen_BT),), whole)
        return torch.tensor([self._gradient_ratio(seen_T.sum(), known_V) for seen_T in seen_BT])

    def _gradient_ratio(self, seen: Tensor, known_V: Tensor) -> float:
        weight = self.model.embedding.weight
        (gradient_VD,) = torch.autograd.grad(seen, weight, retain_graph=True, allow_unused=True)
        if gradient_VD is None:
            return 0.0
        largest_V = gradient_VD.abs().amax(1)
        return float(largest_V[~known_V].max() / largest_V.max().clamp_min(1e-30))

    def _decoding(self, calls: Mapping[Block, Call]) -> Leak | None:
        """A block whose whole form is not its step-by-step form, which cannot see what has not come."""
        cut = int(self.stream.child("decoding").numpy().integers(1, max(2, self.tokens - 1)))
        found = mismatch(calls, STEPWISE_ROWS, behind(cut, self.given), STEPWISE_TOLERANCE)
        return None if found is None else Leak(found.start, found.difference, 0.0, "decoding", block=found.path)

    def _memory(self) -> Leak | None:
        """Outputs for the same tokens that differ the second time: held-out text is scored more than once, so a model
        that keeps what it has seen between calls would know it."""
        run = Pass(MEMORY, False, "fp32")
        generator = torch.Generator().manual_seed(self.stream.child(MEMORY).integer())
        tokens_BT = torch.randint(self.model.plan.vocab, (STEPWISE_ROWS, self.tokens), generator=generator)
        first_BTV, second_BTV = (self._logits(run, tokens_BT) for _ in range(2))
        change_T = (second_BTV - first_BTV).abs().amax((0, 2)) / first_BTV.abs().max().clamp_min(1e-30)
        is_off_T = ~(change_T <= TOLERANCE)
        return Leak(int(is_off_T.int().argmax()), float(change_T.max()), 0.0, MEMORY) if bool(is_off_T.any()) else None


def _tokens(known_V: Tensor, is_early_BT: Tensor, generator: torch.Generator) -> Tensor:
    """(B, T) int64: known tokens at early places, all others at later ones, so that embeddings tell them apart."""
    early, late = known_V.nonzero().flatten(), (~known_V).nonzero().flatten()
    early_BT, late_BT = (
        choice[torch.randint(len(choice), is_early_BT.shape, generator=generator)] for choice in (early, late)
    )
    return torch.where(is_early_BT, early_BT, late_BT)


def _exact(logits_BTV: Tensor) -> Tensor:
    """In float32 or float64."""
    return logits_BTV.to(torch.promote_types(logits_BTV.dtype, torch.float32))


def _in_values(logits_BTV: Tensor, changed_BTV: Tensor, is_early_BT: Tensor) -> Tensor:
    """(B,) on the CPU: the largest change of an early output, relative to the largest logit."""
    is_late_BT = ~is_early_BT.to(logits_BTV.device)
    change_BT = (changed_BTV - logits_BTV).abs().amax(-1).masked_fill(is_late_BT, 0.0)
    return (change_BT.amax(1) / logits_BTV.abs().max().clamp_min(1e-30)).float().cpu()
