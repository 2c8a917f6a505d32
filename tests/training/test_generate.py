"""Sampling: step by step it says what the parallel forward pass says."""

import pytest
import torch
from tiny_models import CONTEXT, MIXERS, model, perturbed, task

from evo.base.diagnostics import DiagnosticError
from evo.training.generate import generate
from evo.training.speculate import Acceptance

PROMPT, TASK = b"the prompt", task()


@pytest.mark.parametrize("position", ["rope", "learned", "none"])
@pytest.mark.parametrize("mixer", MIXERS)
def test_greedy_steps_are_the_parallel_argmax(mixer: str, position: str) -> None:
    """Each byte taken at temperature 0 is the likeliest by a forward pass over all that stands before it."""
    network = perturbed(model(MIXERS[mixer], position={"kind": position}))
    text = PROMPT + bytes(generate(network, TASK, PROMPT, CONTEXT - len(PROMPT), temperature=0))
    with torch.no_grad():
        logits_TV = network(torch.tensor([list(text)]))[0]
    expected = logits_TV[len(PROMPT) - 1 : -1].argmax(-1).tolist()
    assert list(text[len(PROMPT) :]) == expected
    assert len(set(expected)) > 1


def test_an_empty_prompt_starts_from_a_newline() -> None:
    """Nothing to continue means the beginning of a line."""
    network = perturbed(model())
    assert list(generate(network, TASK, b"", 5)) == list(generate(network, TASK, b"\n", 5))


def test_a_seed_names_a_sample() -> None:
    """The same seed gives the same text, another one another; torch's own generator does not matter."""
    network = perturbed(model())
    torch.manual_seed(1)
    one = list(generate(network, TASK, PROMPT, 10, seed=4))
    torch.manual_seed(2)
    assert one == list(generate(network, TASK, PROMPT, 10, seed=4))
    assert one != list(generate(network, TASK, PROMPT, 10, seed=5))


def test_samples_follow_the_probabilities() -> None:
    """Of many samples of one byte, each appears about as often as softmax(logits / temperature) says."""
    network = perturbed(model(), 0.5)
    with torch.no_grad():
        p_V = (network(torch.tensor([list(PROMPT)]))[0, -1] / 1.5).softmax(0)
    drawn = [next(generate(network, TASK, PROMPT, 1, temperature=1.5, seed=seed)) for seed in range(150)]
    top = int(p_V.argmax())
    assert drawn.count(top) / 150 == pytest.approx(float(p_V[top]), abs=0.12)


def test_top_k_keeps_the_likeliest() -> None:
    """With top_k 1 every temperature is greedy; with 3 only three bytes appear."""
    network = perturbed(model())
    greedy = list(generate(network, TASK, PROMPT, 8, temperature=0))
    assert list(generate(network, TASK, PROMPT, 8, temperature=5.0, top_k=1)) == greedy
    drawn = {next(generate(network, TASK, PROMPT, 1, temperature=5.0, top_k=3, seed=seed)) for seed in range(60)}
    assert len(drawn) == 3
    assert list(generate(network, TASK, PROMPT, 3, top_k=10_000))


@pytest.mark.parametrize("temperature", [1e-6, 1e-60, 1e-300])
def test_the_coldest_samples_are_greedy(temperature: float) -> None:
    """A temperature near zero takes the likeliest byte instead of overflowing."""
    network = perturbed(model())
    greedy = list(generate(network, TASK, PROMPT, 4, temperature=0))
    assert list(generate(network, TASK, PROMPT, 4, temperature=temperature)) == greedy


@pytest.mark.parametrize(
    ("mixer", "position"),
    [(MIXERS["attention"], "learned"), ({"kind": "hyena", "hidden": 8}, "none"), ({"kind": "spatial"}, "none")],
)
def test_positions_run_out(mixer: dict[str, object], position: str) -> None:
    """Text that exceeds the last position is EVO522 before the first byte; text that just fits is sampled."""
    network = model(mixer, position={"kind": position})
    room = CONTEXT - len(PROMPT) + 1
    assert len(list(generate(network, TASK, PROMPT, room))) == room
    with pytest.raises(DiagnosticError, match="EVO522 25 tokens exceed the 24 positions"):
        generate(network, TASK, PROMPT, room + 1)


def test_others_go_beyond_their_context() -> None:
    """Rope has no last position."""
    assert len(list(generate(model(), TASK, PROMPT, 2 * CONTEXT))) == 2 * CONTEXT


def test_only_tokens_of_the_task_are_sampled() -> None:
    """An organism with more symbols than the task has tokens never writes the others, however likely they are."""
    network = perturbed(model(vocab=400, readout={"tie": False}))
    with torch.no_grad():
        network.get_parameter("readout.weight")[256:] *= 100
    drawn = {token for seed in range(5) for token in generate(network, TASK, PROMPT, 20, seed=seed)}
    assert max(drawn) < 256


AHEAD = {"parallel": {"kind": "parallel", "tokens": 3}, "sequential": {"kind": "sequential", "tokens": 2}}


@pytest.mark.parametrize("temperature", [0.0, 0.7])
@pytest.mark.parametrize("kind", AHEAD)
@pytest.mark.parametrize("mixer", ["attention", "window", "delta", "latent"])
def test_speculation_writes_what_plain_decoding_does(mixer: str, kind: str, temperature: float) -> None:
    """The same tokens from drafts that are right at times and wrong at times, for every kind of state behind them."""
    mixers = {**MIXERS, "latent": {"kind": "latent", "heads": 2, "kv_rank": 5, "nope_dim": 4, "rope_dim": 2}}
    network = perturbed(model(mixers[mixer], ahead=AHEAD[kind], readout={"tie": False}), 0.5).double()
    with torch.no_grad():
        readout = network.get_parameter("readout.weight")
        readout[2:], readout[:2] = 0.0, 8 * readout[:2]  # few tokens are likely, so drafts are right at times
    drawn = {"temperature": temperature, "seed": 3}
    plain, told = list(generate(network, TASK, PROMPT, 24, **drawn)), Acceptance()
    assert list(generate(network, TASK, PROMPT, 24, **drawn, speculation=told)) == plain
    if temperature:  # the likeliest alone may be one token all along
        assert len(set(plain)) > 1
        assert 0 < told.accepted < told.drafted
    if mixer in ("attention", "latent"):  # nothing is read twice
        assert told.accepted + told.passes == 24


def test_right_drafts_save_passes() -> None:
    """Where one token is always the likeliest, each pass gives it once more than it was drafted."""
    network = model(ahead=AHEAD["parallel"])
    with torch.no_grad():
        for path, parameter in network.named_parameters():
            if path.startswith(("stages", "ahead")) and path.endswith((".o", ".down")):
                parameter.zero_()
        network.get_parameter("embedding.weight").copy_(torch.ones(256, 16))
        network.get_parameter("embedding.weight")[7] *= 2
    told = Acceptance()
    assert list(generate(network, TASK, PROMPT, 13, temperature=0, speculation=told)) == [7] * 13
    assert (told.passes, told.accepted) == (4, 9)


def test_nothing_drafts_without_predictions_ahead() -> None:
    """EVO527 before the first token."""
    with pytest.raises(DiagnosticError, match="EVO527"):
        generate(model(), TASK, PROMPT, 2, speculation=Acceptance())


def test_a_prefix_is_read_in_one_piece() -> None:
    """A prompt that holds it goes on as the parallel pass says; a shorter one is EVO529, and so is `causal: false`."""
    made = {"train": {"task": {"kind": "bytes", "given": 8}}}
    network = perturbed(model({"kind": "attention", "heads": 2, "stencil": {"kind": "prefix", "size": 8}}, **made))
    text = PROMPT + bytes(generate(network, TASK, PROMPT, 12, temperature=0))
    with torch.no_grad():
        expected = network(torch.tensor([list(text)]))[0, len(PROMPT) - 1 : -1].argmax(-1).tolist()
    assert list(text[len(PROMPT) :]) == expected
    with pytest.raises(DiagnosticError, match=r"EVO529 .* first 8 tokens in one piece, and the prompt has 7"):
        generate(network, TASK, PROMPT[:7], 2)
    free = {"train": {"task": {"kind": "compression"}}}
    blind = model({"kind": "attention", "heads": 2, "causal": False}, **free, vocab=600)
    with pytest.raises(DiagnosticError, match="EVO529"):
        generate(blind, TASK, PROMPT, 2)
