"""The custom operators keep torch's rules: schemas, fakes, autograd, tracing, CUDA-graph capture.

On a CUDA device: `pytest -m gpu tests/kernels`.
Under the interpreter: `TRITON_INTERPRET=1 pytest tests/kernels -k operators`.
"""

import pytest
import torch
from tests.kernels.device import DEVICE, RUNS_KERNELS, replayed
from torch.nn.functional import normalize

from evo.kernels.attention import Stencil, attend
from evo.kernels.recurrence import recur
from evo.kernels.triton_support import is_interpreting

pytestmark = RUNS_KERNELS
HEADS, TIME, LONG = (1, 17, 40) if is_interpreting() else (2, 33, 100)


def normal(*shape, seed=0):
    drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return drawn.to(DEVICE).requires_grad_()


def attention_call():
    from evo.kernels.attention.triton.operator import attention, pack

    stencil = pack(Stencil("window", 9, sinks=2))
    q, k, v, sink = normal(1, TIME, 2, 16), normal(1, TIME, 1, 16, seed=1), normal(1, TIME, 1, 16, seed=2), normal(2)
    bias = normal(2, TIME, TIME, seed=3)
    return attention, (q, k, v, sink, normal(2, seed=4), bias, None, None, None, stencil, 0, 0.25, 3.0)


def sequences(T=TIME):
    keys = normalize(normal(1, T, HEADS, 16, seed=1).detach(), dim=-1).requires_grad_()
    return normal(1, T, HEADS, 16), keys, normal(1, T, HEADS, 16, seed=2)


def outer_call():
    from evo.kernels.recurrence.triton.outer import recur_outer

    decay = (-normal(1, TIME, HEADS, seed=3).detach().abs()).requires_grad_()
    return recur_outer, (*sequences(), decay, normal(1, HEADS, 16, 16, seed=4), 0.25, False)


def delta_call():
    from evo.kernels.recurrence.triton.delta_operator import recur_delta

    beta = torch.sigmoid(normal(1, TIME, HEADS, seed=3).detach()).requires_grad_()
    return recur_delta, (*sequences(), beta, None, None, 0.25, True)


def channel_call():
    from evo.kernels.recurrence.triton.channel_operator import recur_channel

    decay = (-normal(1, TIME, HEADS, 16, seed=3).detach().abs()).requires_grad_()
    return recur_channel, (*sequences(), decay, normal(HEADS, 16, seed=5), None, 0.25)


def dplr_call():
    from evo.kernels.recurrence.triton.dplr_operator import recur_dplr

    q, k, v = sequences()
    removed, written = (normal(1, TIME, HEADS, 16, seed=seed) for seed in (4, 5))
    decay = (-normal(1, TIME, HEADS, 16, seed=3).detach().abs()).requires_grad_()
    return recur_dplr, (q, k, v, removed, written, None, decay, normal(1, HEADS, 16, 16, seed=6), 0.25, False, True)


def channel_delta_call():
    from evo.kernels.recurrence.triton.dplr_operator import recur_dplr

    beta = torch.sigmoid(normal(1, TIME, HEADS, seed=3).detach()).requires_grad_()
    decay = (-normal(1, TIME, HEADS, 16, seed=4).detach().abs()).requires_grad_()
    return recur_dplr, (*sequences(), None, None, beta, decay, None, 0.25, False, True)


CALLS = {
    "attention": attention_call,
    "outer": outer_call,
    "delta": delta_call,
    "channel": channel_call,
    "dplr": dplr_call,
    "channel delta": channel_delta_call,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_opcheck_passes(call):
    """torch.library.opcheck: schema, fake implementation and autograd registration are right."""
    operator, arguments = call()
    torch.library.opcheck(
        operator.traced, arguments, test_utils=("test_schema", "test_autograd_registration", "test_faketensor")
    )


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_eager_calls_go_round_the_operator_to_the_same_bytes(call):
    """What nothing traces skips the dispatcher, with the traced operator's bytes. Second derivatives are refused."""
    operator, arguments = call()
    leaves = [x for x in arguments if isinstance(x, torch.Tensor) and x.requires_grad]

    def answers(run):
        found = [x for x in run(*arguments) if x.requires_grad]
        return *found, *torch.autograd.grad(sum(torch.sin(x).sum() for x in found), leaves)

    for eager, traced in zip(answers(operator), answers(operator.traced), strict=True):
        assert torch.equal(eager, traced)
    o = operator(*arguments)[0]
    (first,) = torch.autograd.grad(torch.sin(o).sum(), leaves[0], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_calls_without_gradients_save_nothing(call):
    """Under no_grad the same bytes come back, of no graph."""
    operator, arguments = call()
    expected = operator(*arguments)[:2]  # what else there is, is kept for a backward pass
    with torch.no_grad():
        found = operator(*arguments)[:2]
    for got, wanted in zip(found, expected, strict=True):
        assert torch.equal(got, wanted)
        assert not got.requires_grad


def test_stand_ins_for_tensors_are_traced():
    """Fake tensors reach the operator's fake implementation, not the kernel."""
    from torch._subclasses import FakeTensorMode

    operator, arguments = outer_call()
    with FakeTensorMode() as mode:
        fakes = [mode.from_tensor(x) if isinstance(x, torch.Tensor) else x for x in arguments]
        assert [x.shape for x in operator(*fakes)] == [(1, TIME, HEADS, 16), (1, HEADS, 16, 16)]


MODELS = {
    "attention": lambda q, k, v: attend(q, k, v, stencil=Stencil("window", 9), backend="triton"),
    "recurrence": lambda q, k, v: recur(q, k, v, backend="triton")[0],
    "decayed": lambda q, k, v: recur(q, k, v, log_decay=-torch.sigmoid(v[..., 0]), backend="triton")[0],
    "channel": lambda q, k, v: recur(q, k, v, log_decay=-torch.sigmoid(v), bonus_HK=v[0, 0], backend="triton")[0],
    "delta": lambda q, k, v: recur(q, k, v, beta_BTH=torch.sigmoid(v[..., 0]), backend="triton")[0],
    "dplr": lambda q, k, v: recur(q, k, v, dplr=(-k, 0.5 * k), backend="triton")[0],
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_compile_traces_the_call_without_a_break(model):
    """torch.compile takes the whole call, dispatch included, into one graph with the same values and gradients."""
    inputs = sequences()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    o, again = model(*inputs), compiled(*inputs)
    torch.testing.assert_close(again, o)
    expected = torch.autograd.grad(o.square().sum(), inputs)
    torch.testing.assert_close(torch.autograd.grad(again.square().sum(), inputs), expected)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_same_inputs_give_the_same_bytes(model):
    """No atomics: values and gradients repeat bit by bit."""
    inputs = sequences(LONG)
    runs = [torch.autograd.grad(model(*inputs).square().sum(), inputs) for _ in range(2)]
    for first, second in zip(*runs, strict=True):
        assert torch.equal(first, second)


@pytest.mark.skipif(is_interpreting(), reason="graphs need a CUDA device")
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_a_captured_step_replays(model):
    """Forward and backward inside a CUDA graph give the eager result on new data."""
    inputs = sequences(LONG)

    def step():
        return torch.autograd.grad(model(*inputs).square().sum(), inputs)

    for got, wanted in zip(*replayed(step, inputs), strict=True):
        torch.testing.assert_close(got, wanted)
