"""The causality probe: it finds planted leaks of every sort, and accuses no causal block."""

from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from tiny_models import CONTEXT, MIXERS, document, model, perturbed
from torch import Tensor

from evo.blocks.base import Block
from evo.blocks.convolution import module as convolution
from evo.blocks.flow import Flow
from evo.blocks.link_slots.module import LinkSlots
from evo.compiler.build import build
from evo.compiler.check import check
from evo.compiler.organism import Organism
from evo.compiler.resolve import resolve
from evo.dsl.document import from_data
from evo.training.causality import find_leak
from evo.training.stepwise import Call, Mismatch, mismatch


@pytest.mark.parametrize("size", [0.0, 0.3])
@pytest.mark.parametrize("mixer", MIXERS)
def test_causal_blocks_are_not_accused(mixer: str, size: float) -> None:
    """Fresh or with large weights, no registered mixer is said to leak."""
    assert find_leak(perturbed(model(MIXERS[mixer]), size)) is None


@pytest.mark.parametrize(
    "organism",
    [
        {"position": {"kind": "learned"}},
        {"norm": {"kind": "layer", "place": "post"}},
        {"readout": {"mixture": {"count": 2}}},
        {"readout": {"mixture": {"count": 2}, "unit": True, "gain": True}},
        {"readout": {"unit": True}},
    ],
)
def test_causal_organisms_are_not_accused(organism: dict[str, Any]) -> None:
    """Learned positions, other norms and mixed softmaxes are causal as well, and so is a context of one token."""
    assert find_leak(model(**organism)) is None
    assert find_leak(model(context=1)) is None


def test_attention_without_a_mask_is_found() -> None:
    """`causal: false`, built by the compiler past the check that refuses it, leaks in values and gradients."""
    data = {"width": 16, "context": CONTEXT, "stages": [{"name": "s", "mix": {**MIXERS["attention"], "causal": False}}]}
    leak = find_leak(build(resolve(from_data({"evo": 1, "organism": data}).document.organism), 0))
    assert leak is not None
    assert leak.in_values > 1e-3
    assert leak.in_gradients > 1e-3


def test_a_convolution_padded_on_both_sides_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A convolution with `padding="same"` leaks by one token, which is enough."""

    def same(x_BTD: Tensor, weight_DW: Tensor, **rest: Any) -> tuple[Tensor, Tensor]:
        y_BDT = F.conv1d(x_BTD.transpose(1, 2), weight_DW[:, None], padding=1, groups=x_BTD.shape[2])
        return y_BDT.transpose(1, 2), x_BTD[:, :0]

    mix = {"kind": "convolution", "size": 3}
    assert find_leak(model(mix)) is None
    monkeypatch.setattr(convolution, "short_convolution", same)
    assert find_leak(model(mix)) is not None


class Leaky(Block):
    """A mixer put in place of another, with a future of its own."""

    def __init__(self, inner: Block, leak: Any) -> None:
        torch.nn.Module.__init__(self)
        self.inner, self.leak, self.has_state = inner, leak, False

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """What the mixer gives, and the leak."""
        return self.inner(x_BTD, flow) + self.leak(x_BTD)


def planted(leak: Any, network: Organism | None = None) -> Organism:
    """A model whose second layer leaks."""
    network = model() if network is None else network
    layer = network.stages["body"].child("1")
    layer._modules["mixer"] = Leaky(layer.child("mixer"), leak)
    return network


LEAKS: dict[str, Any] = {
    "the mean of the sequence": lambda x: 0.1 * x.mean(1, keepdim=True).expand_as(x),
    "the token after": lambda x: 0.1 * x.roll(-1, 1),
    "a norm over time": lambda x: x / x[..., :4].square().mean((1, 2), keepdim=True).sqrt(),
    "the largest by position": lambda x: (x == x.amax(1, keepdim=True)).to(x.dtype),
    "the last token, at the first": lambda x: F.pad(0.1 * x[:, -1:], (0, 0, 0, x.shape[1] - 1)),
    "nothing but gradients": lambda x: x.mean(1, keepdim=True) - x.mean(1, keepdim=True).detach() + 0 * x,
    "not a number": lambda x: x * float("nan"),
    "infinity": lambda x: x / 0.0,
}


@pytest.mark.parametrize("name", LEAKS)
def test_planted_leaks_are_found(name: str) -> None:
    """Leaks by values, by values alone, by gradients alone, and numbers that are none are all found."""
    assert find_leak(planted(lambda x: 0 * x)) is None
    assert find_leak(planted(LEAKS[name])) is not None


def test_a_leak_in_gradients_alone_moves_no_value() -> None:
    """The gradient half of the probe is needed: a straight-through leak shows in nothing else."""
    leak = find_leak(planted(LEAKS["nothing but gradients"]))
    assert leak is not None
    assert leak.in_values < 1e-6
    assert leak.in_gradients > 1e-3


def count(network: torch.nn.Module, args: tuple[Any, ...]) -> None:
    """Note a pass in a buffer, and draw from torch's generator."""
    network.get_buffer("counter").add_(torch.rand(3))


def over_the_whole_sequence(x_BTD: Tensor) -> Tensor:
    """What is honest and computed in one Fourier transform: each output carries roundings of all inputs."""
    tokens = x_BTD.shape[1]
    spectrum = torch.fft.rfft(x_BTD.float(), 2 * tokens, 1) * torch.fft.rfft(torch.ones(tokens, 1), 2 * tokens, 0)
    return 1e3 * torch.fft.irfft(spectrum, 2 * tokens, 1)[:, :tokens].to(torch.bfloat16)


def test_roundings_in_bfloat16_accuse_nobody() -> None:
    """Sums over the whole sequence do not (nor does examples/hyena.yaml, whose roundings exceed one of bfloat16), and a
    small leak beside them is found."""
    honest = planted(over_the_whole_sequence)
    assert find_leak(honest) is None
    assert find_leak(planted(lambda x: over_the_whole_sequence(x) + 5.0 * x.roll(-1, 1))) is not None


def test_the_probe_leaves_no_trace() -> None:
    """Probing changes neither weights, buffers, mode, gradients nor torch's generator, and leaves no hook."""
    network = model()
    network.register_buffer("counter", torch.zeros(3))
    network.register_forward_pre_hook(count)
    before, state = {k: v.clone() for k, v in network.state_dict().items()}, torch.get_rng_state()
    for is_training in (True, False):
        find_leak(network.train(is_training))
        assert all(module.training == is_training for module in network.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(block._forward_hooks for _, block in network.named_blocks())
    assert all(p.grad is None for p in network.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_a_document_that_leaks_is_not_trained(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """`evo train` probes before it trains: EVO520, and no checkpoint."""
    from evo.base.diagnostics import DiagnosticError
    from evo.training.causality import Leak
    from evo.training.run import TrainingRun

    monkeypatch.setattr("evo.training.setup.find_leak", lambda *args, **options: Leak(3, 1.0, 1.0))
    with pytest.raises(DiagnosticError, match="EVO520 this organism leaks: outputs before token 3"):
        TrainingRun.open(document(), tmp_path, tmp_path / "out", "cpu")
    assert not (tmp_path / "out").exists()


PREFIX = {"kind": "attention", "heads": 2, "stencil": {"kind": "prefix", "size": 9}}


@pytest.mark.parametrize("every_cut", [False, True])
def test_given_tokens_may_be_read_both_ways(every_cut: bool) -> None:
    """No cut lies among them, so a prefix of theirs is no leak; a prefix that is one longer is, and so is any later."""
    network = model(PREFIX, train={"task": {"kind": "bytes", "given": 9}})
    assert find_leak(network, given=9, every_cut=every_cut) is None
    assert find_leak(network, given=8, every_cut=True) is not None
    assert find_leak(planted(lambda x: 0.1 * x.roll(-1, 1), network), given=9, every_cut=every_cut) is not None


def test_a_prefix_needs_given_tokens() -> None:
    """The check refuses a prefix longer than what the task gives (EVO343), and says how many it would have to."""
    for given, found in ((8, ["EVO343"]), (9, [])):
        body = {"width": 16, "context": 24, "stages": [{"name": "a", "mix": PREFIX}]}
        loaded = from_data({"evo": 1, "organism": body, "train": {"task": {"kind": "bytes", "given": given}}})
        faults = [fault for fault in check(loaded) if fault.severity == "error"]
        assert [fault.code for fault in faults] == found
        assert all("give 9 tokens" in (fault.help or "") for fault in faults)


class Unsure(LinkSlots):
    """Products of float32 that differ by a rounding from call to call, as a GPU's do by shape; and what it `sees` of
    the future."""

    def __init__(self, inner: LinkSlots, future: float = 0.0) -> None:
        torch.nn.Module.__init__(self)
        self.__dict__.update(inner.__dict__)
        self.future, self.calls = future, 0

    def _queries(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        self.calls += 1
        q_BHTK = super()._queries(x_BTD + self.future * x_BTD.mean(1, keepdim=True), flow)
        is_exact = q_BHTK.dtype == torch.float64
        return q_BHTK if is_exact else q_BHTK * (1 + 1e-5 * self.calls * torch.randn_like(q_BHTK))


def test_a_choice_that_a_rounding_tips_is_no_leak() -> None:
    """Step by step a near tie may go the other way, which moves an output by far more than a rounding; a block that
    looks ahead is found in float64 as well."""
    mix = {"kind": "link_slots", "heads": 16, "slots": 96, "top": 1}

    def heard(future: float) -> Mismatch | None:
        network = perturbed(model(mix, width=32, context=192), 1.0)
        block = Unsure(cast("LinkSlots", network.stages["body"].child("1").child("mixer")), future)
        torch.manual_seed(0)
        x_BTD = torch.randn(2, 192, 32)
        call = Call(x_BTD, Flow(), block(x_BTD, Flow()))
        return mismatch({block: call}, 2, 100, 1e-2)

    assert heard(0.0) is None
    assert heard(0.1) is not None
