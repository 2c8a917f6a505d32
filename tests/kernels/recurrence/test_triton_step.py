"""The stepwise Triton recurrence against the float64 equation, and decoding against the parallel form.

On a CUDA device: `pytest -m gpu tests/kernels`.
Under the interpreter: `TRITON_INTERPRET=1 pytest tests/kernels -k triton`.
"""

import itertools

import pytest
import torch
from tests.kernels.device import RUNS_KERNELS
from tests.kernels.recurrence import checks
from tests.kernels.recurrence.checks import BOUNDS

from evo.kernels.dispatch import BackendError, choose
from evo.kernels.recurrence import RecurrenceCall, recur
from evo.kernels.recurrence.backends import TABLE
from evo.kernels.triton_support import is_interpreting

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
MEMBERS = list(
    itertools.product(("none", "head", "token", "channel"), ("outer", "bonus", "delta", "dplr", "dplr+bonus"))
)


def draw(decay, update, B=2, T=1, H=2, K=24, V=17, dtype=torch.float32, **options):
    """q, k, v in `dtype` and float32 parts, all on the device, without gradients."""
    inputs, parts = checks.draw(decay, update, B, T, H, K, V, **options)
    q, k, v, *dplr = (x.detach() for x in inputs)
    parts = {name: x.detach() for name, x in parts.items()}
    if dplr:
        parts["dplr"] = tuple(dplr)
    return tuple(x.to(dtype) for x in (q, k, v)), parts


def wide(parts):
    return {n: tuple(y.double() for y in x) if n == "dplr" else x.double() for n, x in parts.items()}


def cut(inputs, parts, piece):
    """A stretch of time of everything but the state."""
    kept = {n: x for n, x in parts.items() if n != "initial_state_BHKV"}
    for name in ("log_decay", "beta_BTH"):
        if name in kept and kept[name].ndim > 1:
            kept[name] = kept[name][:, piece]
    if "dplr" in kept:
        kept["dplr"] = tuple(x[:, piece] for x in kept["dplr"])
    return tuple(x[:, piece] for x in inputs), kept


def close(found, expected, dtype):
    """Relative Frobenius errors of output and state within the bound of the dtype."""
    for got, wanted in zip(found, expected, strict=True):
        assert got.shape == wanted.shape
        error = ((got.double() - wanted).norm() / wanted.norm()).item()
        assert error < BOUNDS[dtype], error


def check(inputs, parts):
    expected = recur(*(x.double() for x in inputs), **wide(parts), backend="reference")
    found = recur(*inputs, **parts, backend="step")
    assert (found[0].dtype, found[1].dtype) == (inputs[0].dtype, torch.float32)
    close(found, expected, inputs[0].dtype)


class TestKernel:
    """What runs the kernel."""

    pytestmark = RUNS_KERNELS

    @pytest.mark.usefixtures("poisoned")
    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize(("decay", "update"), MEMBERS)
    def test_every_member_is_the_equation(self, decay, update, dtype):
        """Odd head dims, an initial state, poisoned outputs: output and final state of float64."""
        B, H = (1, 1) if is_interpreting() and dtype != torch.float32 else (2, 2)
        check(*draw(decay, update, B, 2, H, dtype=dtype))

    @pytest.mark.parametrize(("K", "V"), [(1, 1), (5, 65), (128, 128), (256, 256), (200, 250)])
    @pytest.mark.parametrize(("decay", "update"), [("channel", "dplr+bonus"), ("token", "delta")])
    def test_head_dims(self, decay, update, K, V):
        """From one to the widest, odd ones included, without an initial state."""
        check(*draw(decay, update, B=1, T=2, H=1, K=K, V=V, state=False))

    @pytest.mark.parametrize(("decay", "update"), MEMBERS)
    def test_decoding_is_the_parallel_form(self, decay, update):
        """A sequence token by token and in small pieces gives the outputs and the state of the whole."""
        B, T, H = (1, 12, 1) if is_interpreting() else (2, 21, 2)
        inputs, parts = draw(decay, update, B, T, H)
        whole = recur(*(x.double() for x in inputs), **wide(parts), backend="reference")
        state, outputs = parts["initial_state_BHKV"], []
        for piece in (*(slice(t, t + 1) for t in range(4)), slice(4, 7), slice(7, T)):
            tokens, rest = cut(inputs, parts, piece)
            o, state = recur(*tokens, **rest, initial_state_BHKV=state, backend="step")
            outputs.append(o)
        close((torch.cat(outputs, dim=1), state), whole, torch.float32)

    def test_strided_inputs(self):
        """Heads-first storage, and slices of one projection, give the same answer."""
        (q, k, v), parts = draw("token", "outer", T=4)
        packed = torch.cat([q, k], dim=-1).transpose(1, 2).contiguous().transpose(1, 2)
        q, k = packed.split(24, dim=-1)
        check((q, k, v.transpose(2, 3).contiguous().transpose(2, 3)), parts)

    @pytest.mark.parametrize(("decay", "update"), [("token", "outer"), ("channel", "delta"), ("head", "dplr")])
    def test_strong_decays_leave_nothing(self, decay, update):
        """Log decays of -1e4 underflow to zero without a NaN."""
        check(*draw(decay, update, T=2, strength=1e4))

    @pytest.mark.parametrize(("B", "T"), [(0, 2), (2, 0)])
    def test_empty_batches_and_sequences(self, B, T):
        """Nothing in, nothing out; the state passes through."""
        inputs, parts = draw("token", "delta", B=B, T=T)
        o, state = recur(*inputs, **parts, backend="step")
        assert o.shape == (B, T, 2, 17)
        torch.testing.assert_close(state, parts["initial_state_BHKV"])

    @pytest.mark.filterwarnings("ignore")
    def test_opcheck_passes(self):
        """The schema and the fake implementation are right."""
        from evo.kernels.recurrence.triton.step import recur_step

        (q, k, v), parts = draw("token", "dplr+bonus", dtype=torch.float16)
        rest = parts["log_decay"], None, *parts["dplr"], parts["bonus_HK"], parts["initial_state_BHKV"]
        torch.library.opcheck(
            recur_step.traced, (q, k, v, *rest, 2, 2, 0.25), test_utils=("test_schema", "test_faketensor")
        )

    @pytest.mark.filterwarnings("ignore")
    def test_compile_traces_the_call_without_a_break(self):
        """torch.compile takes a step, dispatch included, into one graph; eager steps repeat bit by bit."""
        (q, k, v), parts = draw("channel", "delta", T=2)
        run = lambda *inputs: recur(*inputs, **parts, backend="step")  # noqa: E731
        compiled = torch.compile(run, backend="aot_eager", fullgraph=True)
        for got, wanted, again in zip(compiled(q, k, v), run(q, k, v), run(q, k, v), strict=True):
            torch.testing.assert_close(got, wanted)
            assert torch.equal(again, wanted)

    @pytest.mark.skipif(is_interpreting(), reason="graphs need a CUDA device")
    def test_a_captured_step_replays(self):
        """A decoding step in a CUDA graph follows new data."""
        (q, k, v), parts = draw("token", "delta")
        run = lambda: recur(q, k, v, **parts)  # noqa: E731
        run()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = run()
        q.mul_(0.5)
        parts["initial_state_BHKV"].mul_(2.0)
        graph.replay()
        torch.testing.assert_close(captured, run())


def posed(**changes):
    """The problem of one decoded token on a GPU."""
    sizes = {"batch": 1, "time": 1, "heads": 2, "key_dim": 64, "value_dim": 65}
    return RecurrenceCall(device="cuda", dtype="bfloat16", **(sizes | changes), decay="channel", update="dplr")


def test_decoding_takes_the_step_and_training_does_not():
    """On CUDA a token without gradients runs as a step; long sequences and gradients say why they do not."""
    pytest.importorskip("triton")
    assert choose(TABLE, posed()).backend.name == "step"
    assert choose(TABLE, posed(time=16)).backend.name == "step"
    with pytest.raises(BackendError, match="steps are for up to 16 tokens, found 17"):
        choose(TABLE, posed(time=17), "step")
    with pytest.raises(BackendError, match="steps have no gradients"):
        choose(TABLE, posed(needs_grad=True), "step")
    with pytest.raises(BackendError, match="head dims up to 256, found 257 and 65"):
        choose(TABLE, posed(key_dim=257), "step")
