"""Leaks that hide from a probe of fresh weights, short rows, single rows, float32 or few cuts: none gets through."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny_models import MIXERS, document, model, task
from torch import Tensor, nn

from evo.base.diagnostics import DiagnosticError
from evo.base.streams import Stream
from evo.blocks.attention.module import Attention
from evo.blocks.base import Block
from evo.blocks.convolution import module as convolution
from evo.blocks.flow import Flow
from evo.compiler import organism as compiled
from evo.compiler.build import initial_weights
from evo.compiler.organism import Organism
from evo.compiler.resolve import resolve
from evo.compiler.transplant import transplant
from evo.dsl.document import Document
from evo.kernels.fused.project import project
from evo.training.causality import Leak, find_leak
from evo.training.cuts import dense_cuts, spread_cuts, telling_cuts
from evo.training.loop import Trainer
from evo.training.run import TrainingRun
from evo.training.score import Scored, score_held_out
from evo.training.setup import LeakError, make_trainer, verified_scores

LONG = 128
See = Callable[[Tensor], Tensor]


class Leaky(Block):
    """A mixer put in place of another; what it adds may be scaled by a gain that starts at zero."""

    def __init__(self, inner: Block, see: See, has_gain: bool) -> None:
        nn.Module.__init__(self)
        self.inner, self.see, self.has_state = inner, see, False
        self.gain = nn.Parameter(torch.zeros(())) if has_gain else 1.0

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """What the mixer gives, and the leak."""
        return self.inner(x_BTD, flow) + self.gain * self.see(x_BTD)


def plant(network: Organism, see: See, has_gain: bool = False) -> Organism:
    """The model with a leak in its second layer."""
    layer = network.stages["body"].child("1")
    layer._modules["mixer"] = Leaky(layer.child("mixer"), see, has_gain)
    return network


def only(applies: Callable[[Tensor], bool], see: See) -> See:
    """A leak where something holds of the input, and nothing elsewhere."""
    return lambda x: see(x) if applies(x) else 0 * x


def ahead(x_BTD: Tensor) -> Tensor:
    """The next token."""
    return F.pad(x_BTD[:, 1:], (0, 0, 0, 1))


def between(first: int, last: int) -> See:
    """The next token, at some outputs only."""
    return lambda x: ahead(x) * ((torch.arange(x.shape[1]) >= first) & (torch.arange(x.shape[1]) < last))[None, :, None]


def is_half(x_BTD: Tensor) -> bool:
    """Whether products are in bfloat16 there."""
    return torch.is_autocast_enabled(x_BTD.device.type)


def scored_batch(network: Organism, tokens: int = 2000, precision: str = "bf16") -> Scored:
    """The first batch of a model's score."""
    return score_held_out(network, task(), network.plan.context, tokens=tokens, precision=precision).first


HIDDEN: dict[str, See] = {
    "only in long sequences": only(lambda x: x.shape[1] > 80, ahead),
    "only from position 80 on": between(80, LONG),
    "only in batches of several rows": only(lambda x: len(x) > 1, ahead),
    "the next row": lambda x: x.roll(-1, 0),
    "the next row, at later positions": lambda x: x.roll((-1, 1), (0, 1)),
    "the row before, but for the first": lambda x: F.pad(x[:-1], (0, 0, 0, 0, 1, 0)),
    "the row after, but for the last": lambda x: F.pad(x[1:], (0, 0, 0, 0, 0, 1)),
    "the mean of the batch": lambda x: x.mean(0, keepdim=True).expand_as(x),
    "only under autocast": only(is_half, ahead),
    "only in float32": only(lambda x: not is_half(x), ahead),
    "a stretch of a sixth of the outputs": between(24, 46),
    "another stretch": between(66, 88),
    "the last outputs": between(LONG - 24, LONG),
    "only with gradients": only(lambda x: torch.is_grad_enabled(), ahead),
    "only without gradients": only(lambda x: not torch.is_grad_enabled(), ahead),
}


ACROSS = [name for name in HIDDEN if name.startswith(("the next row", "the row", "the mean"))]


@pytest.mark.parametrize("batch", [4, 16])
@pytest.mark.parametrize("name", HIDDEN)
def test_hidden_leaks_are_found(name: str, batch: int) -> None:
    """Whatever a leak hides behind, it is found, and the record says where."""
    leak = find_leak(plant(model(context=LONG), HIDDEN[name]), batch=batch)
    assert leak is not None
    assert 0 < leak.cut <= LONG
    assert leak.across_rows == (name in ACROSS)


@pytest.mark.parametrize("batch", [4, 16])
def test_a_model_that_hides_nothing_is_not_accused(batch: int) -> None:
    """What is planted is seen because of what it does."""
    assert find_leak(plant(model(context=LONG), torch.zeros_like), batch=batch) is None


@pytest.mark.parametrize("size", [3e-4, 3e-3])
def test_small_leaks_are_no_roundings(size: float) -> None:
    """What is as small as roundings and stays in float64 is found."""
    leak = find_leak(plant(model(context=LONG), lambda x: size * ahead(x)), precision="fp32")
    assert leak is not None
    assert leak.in_values < 50 * size


def test_two_rows_show_both_directions() -> None:
    """With two rows each reads the other in one of the passes."""
    for see in (lambda x: F.pad(x[:-1], (0, 0, 0, 0, 1, 0)), lambda x: F.pad(x[1:], (0, 0, 0, 0, 0, 1))):
        leak = find_leak(plant(model(context=LONG), see), batch=1, precision="fp32")
        assert leak is not None
        assert leak.across_rows


def test_a_gain_of_zero_hides_nothing() -> None:
    """A branch that starts at zero is probed as if it had begun to learn, in values and in gradients."""
    for see in (ahead, lambda x: x.mean(1, keepdim=True) - x.mean(1, keepdim=True).detach() + 0 * x):
        network = plant(model(), see, has_gain=True)
        assert find_leak(network) is not None
        assert not network.get_parameter("stages.body.1.mixer.gain").any()
        assert find_leak(network, scored=scored_batch(network)) is None
    assert find_leak(plant(model(), torch.zeros_like, has_gain=True)) is None


def test_taps_that_grew_hide_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A convolution whose new taps look ahead, and start at zero, is found in the child that grew them."""

    def mirrored(x_BTD: Tensor, weight_DW: Tensor, **rest: Any) -> tuple[Tensor, Tensor]:
        width = weight_DW.shape[1]
        x_BDT = F.pad(x_BTD.transpose(1, 2), (0, width - 1))
        y_BDT = F.conv1d(x_BDT, weight_DW.flip(1)[:, None], groups=x_BTD.shape[2])
        return y_BDT.transpose(1, 2), x_BTD[:, :0]

    monkeypatch.setattr(convolution, "short_convolution", mirrored)
    parent, child = (document({"kind": "convolution", "size": size}) for size in (1, 3))
    weights = initial_weights(resolve(parent.organism), 0)
    grown, _ = transplant(resolve(child.organism), 0, weights)
    assert make_trainer(parent, task(), "cpu", weights).step == 0
    with pytest.raises(LeakError, match="depend on later inputs"):
        make_trainer(child, task(), "cpu", grown)


def test_a_leak_before_the_first_block_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe starts at tokens, so an embedding that looks ahead is found."""
    plain = compiled.embed

    def leaking(tokens_BT: Tensor, table_VD: Tensor, **options: Any) -> Tensor:
        x_BTD = plain(tokens_BT, table_VD, **options)
        return x_BTD + ahead(x_BTD)

    monkeypatch.setattr(compiled, "embed", leaking)
    assert find_leak(model()) is not None


class Memory:
    """What stood next where the same had been seen before, in any call without gradients."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def __call__(self, x_BTD: Tensor) -> Tensor:
        """What is known to come next; zeros where nothing is."""
        if torch.is_grad_enabled():
            return 0 * x_BTD
        known_ND = torch.cat([torch.full_like(x_BTD[0, :2], 9.0), *self.seen])
        self.seen += list(x_BTD)
        distance_BTN = (x_BTD[:, :, None] - known_ND[:-1]).abs().amax(-1)
        nearest_BT = distance_BTN.argmin(-1)
        return known_ND[1:][nearest_BT] * (distance_BTN.amin(-1) < 1e-4)[..., None]


@pytest.mark.parametrize("batch", [4, 16])
def test_what_is_kept_between_scores_is_found(batch: int) -> None:
    """Held-out text is scored while training goes on, and again at its end: a model may not know it from before."""
    leak = find_leak(plant(model(), Memory()), batch=batch)
    assert leak is not None
    assert leak.probe == "memory"
    assert "depend on what was scored before" in str(leak)
    assert find_leak(plant(model(), torch.zeros_like), batch=batch) is None


def planted_everywhere(monkeypatch: pytest.MonkeyPatch, see: See) -> None:
    """Make every attention leak."""
    plain = Attention.forward
    monkeypatch.setattr(Attention, "forward", lambda self, x, flow: plain(self, x, flow) + see(x))


@pytest.mark.parametrize("is_seen", [True, False])
def test_what_trains_is_what_is_probed(monkeypatch: pytest.MonkeyPatch, is_seen: bool) -> None:
    """A leak in the kernel for the very batch, length and precision of the training is found, and no other is run."""
    shape = (3, 20) if is_seen else (3, 21)
    planted_everywhere(
        monkeypatch, only(lambda x: x.shape[:2] == shape and is_half(x) and torch.is_grad_enabled(), ahead)
    )
    made = document(train={"batch": 3, "context": 20, "precision": "bf16"})
    if not is_seen:
        assert make_trainer(made, task(), "cpu").step == 0
        return
    with pytest.raises(LeakError) as caught:
        make_trainer(made, task(), "cpu")
    assert caught.value.leak.probe == "training"


@pytest.fixture
def turned(monkeypatch: pytest.MonkeyPatch) -> Document:
    """A document whose models begin to leak while they train."""
    leaks = False
    planted_everywhere(monkeypatch, only(lambda x: leaks, ahead))
    plain = Trainer.run

    def run(self: Trainer, *args: Any, **options: Any) -> float:
        nonlocal leaks
        loss = plain(self, *args, **options)
        leaks = True
        return loss

    monkeypatch.setattr(Trainer, "run", run)
    monkeypatch.setattr("evo.training.run.HELD_OUT_TOKENS", 500)
    return document()


def test_trained_weights_are_probed_again(turned: Document) -> None:
    """What only trained weights show is found after training, on the text that is scored and on random tokens."""
    trainer = make_trainer(turned, task(), "cpu")
    verified_scores(trainer, turned, task(), 500)
    trainer.run()
    with pytest.raises(LeakError, match="depend on later inputs"):
        verified_scores(trainer, turned, task(), 500)


def test_train_gives_no_score_for_a_model_that_came_to_leak(turned: Document, tmp_path: Path) -> None:
    """`evo train` ends with EVO520 instead of a score."""
    with pytest.raises(DiagnosticError, match="EVO520 this organism leaks"):
        TrainingRun.open(turned, tmp_path, tmp_path / "out", "cpu").carry_out(None, 10)


@pytest.mark.parametrize("at", [1, 30, 77, 126])
def test_a_leak_that_pays_is_found_at_one_output(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Four rows of 128 outputs have two cuts; one of them stands behind the output that is oddly certain."""
    network, plain = model(context=LONG), Organism.forward

    def leaking(self: Organism, tokens_BT: Tensor, flow: Flow | None = None) -> Tensor:
        is_next_BTV = F.pad(F.one_hot(tokens_BT[:, 1:], self.plan.vocab), (0, 0, 0, 1))
        is_there_T = torch.arange(tokens_BT.shape[1]) == at
        return plain(self, tokens_BT, flow) + 20.0 * is_next_BTV * is_there_T[:, None]

    assert find_leak(network, scored=scored_batch(network, tokens=4 * LONG)) is None
    monkeypatch.setattr(Organism, "forward", leaking)
    first = scored_batch(network, tokens=4 * LONG)
    assert first.tokens_BT.shape == (4, LONG)
    leak = find_leak(network, Stream(at), scored=first)
    assert leak is not None
    assert (leak.cut, leak.probe) == (at + 1, "scoring")


def test_what_all_rows_see_alike_is_found_in_what_was_scored() -> None:
    """The mean of the batch, without gradients only: all rows of what was scored are held against other neighbours."""
    network = plant(
        model(context=LONG),
        only(lambda x: not torch.is_grad_enabled(), lambda x: x.mean(0, keepdim=True).expand_as(x)),
    )
    leak = find_leak(network, scored=scored_batch(network))
    assert leak is not None
    assert (leak.probe, leak.across_rows) == ("scoring", True)


@pytest.mark.parametrize("is_training", [True, False])
def test_a_leak_where_weights_meet_inputs_in_training_is_found(is_training: bool) -> None:
    """The passes of training run with the flow that its steps have, those of scoring with their own."""

    def leaking(x: Tensor, *weights: Any) -> Tensor:
        return project(ahead(x) + x if x.ndim == 3 else x, *weights)

    network = model()
    leak = find_leak(network, flow=lambda: Flow(project=leaking)) if is_training else find_leak(network)
    assert (leak is not None) == is_training
    assert leak is None or leak.probe == "training"


def test_telling_cuts_stand_behind_odd_certainty() -> None:
    """The first at a position that stands out in all rows, the second in its own row; rows without a cut stay so."""
    certainty_BT = np.random.Generator(np.random.Philox(0)).uniform(-4, -2, (6, 64))
    certainty_BT[:, 40], certainty_BT[2, [5, 6, 7, 8, 9, 10]] = -1.0, 0.0
    cuts = telling_cuts(certainty_BT, [0, 20, 30, 50, 60, 64], Stream(0))
    assert (cuts[0], cuts[5]) == (0, 64)
    assert cuts[1] == 41
    assert cuts[2] in (6, 7, 8, 9, 10, 11)
    assert cuts[3] == 50
    assert 1 <= cuts[4] <= 63
    assert telling_cuts(certainty_BT[:, :1], [0, 1], Stream(0)) == [0, 1]


def test_a_whole_form_that_is_no_step_by_step_form_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block with a state gives at once what it gives in pieces; the record names one that does not."""
    plain = Attention.forward
    monkeypatch.setattr(Attention, "forward", lambda self, x, flow: 1.1 * plain(self, x, flow))
    leak = find_leak(model())
    assert leak is not None
    assert (leak.probe, leak.block) == ("decoding", "stages.body.0.mixer")
    assert "stages.body.0.mixer" in str(leak)


def test_weights_that_are_no_numbers_once_moved_accuse_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where moved weights overflow, the weights as they are decide."""
    monkeypatch.setattr("evo.training.moves.MOVE", 1e38)
    assert find_leak(model()) is None
    assert find_leak(plant(model(), ahead)) is not None


@pytest.mark.parametrize("mixer", MIXERS)
def test_every_cut_accuses_nobody(mixer: str) -> None:
    """The dense probe finds no leak in honest blocks, and one at a single output that a sparse one may miss."""
    assert find_leak(model(MIXERS[mixer]), every_cut=True) is None
    for at in (0, 11, 22):
        assert find_leak(plant(model(MIXERS[mixer]), between(at, at + 1)), every_cut=True) is not None


def test_small_vocabularies_contexts_and_batches_are_probed() -> None:
    """A vocabulary of two tokens, a context of one or two, and a batch of one have rows and cuts as well."""
    for settings in ({"context": 1}, {"context": 2}, {"context": 3}):
        for batch in (1, 2, 3, 5):
            assert find_leak(model(**settings), batch=batch) is None
            assert find_leak(plant(model(**settings), lambda x: x.roll(1, 0)), batch=batch) is not None
    for batch in (1, 4):
        assert find_leak(plant(model(context=2), ahead), batch=batch) is not None


@pytest.mark.parametrize("rows", [2, 3, 4, 7, 32])
@pytest.mark.parametrize("tokens", [1, 2, 5, 128])
def test_cuts_cover_the_sequence(rows: int, tokens: int) -> None:
    """Spread cuts lie within the rows, leave no wide gap and differ by stream; dense ones are all there are."""
    passes = [spread_cuts(rows, tokens, index, 3, Stream(0).child(index)) for index in range(3)]
    assert all(len(cuts) == rows and min(cuts) >= 0 and max(cuts) <= tokens for cuts in passes)
    inner = rows - 2 if rows >= 4 else rows
    found = sorted({0, tokens, *(cut for cuts in passes for cut in cuts)})
    assert max(b - a for a, b in pairwise(found)) <= 2 * (tokens + 1) / (3 * inner) + 2
    dense = [cut for cuts in dense_cuts(rows, tokens) for cut in cuts if cut]
    assert sorted(dense) == list(range(1, tokens))
    assert all(len(cuts) == rows for cuts in dense_cuts(rows, tokens))


def test_a_candidate_has_cuts_of_its_own() -> None:
    """Other streams cut elsewhere."""
    one, two = (spread_cuts(8, 128, 0, 2, Stream(0).child(name)) for name in ("one", "two"))
    assert one != two


def test_a_leak_says_what_it_is() -> None:
    """Four sentences: no number, a later input, another row, another form."""
    assert "no finite numbers" in str(Leak(3, float("nan"), 0.0))
    assert str(Leak(3, 1.0, 0.0)) == "outputs before token 3 depend on later inputs"
    assert str(Leak(3, 1.0, 0.0, across_rows=True)) == "outputs before token 3 depend on another row of the batch"
    assert "outputs of stages.body.0.mixer from token 3 on" in str(Leak(3, 1.0, 0.0, block="stages.body.0.mixer"))
