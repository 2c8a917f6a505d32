"""The fused operations against float64: values, gradients, odd shapes, poisoned memory, repeatability.

On a CUDA device: `pytest -m gpu tests/kernels/fused`.
Under the interpreter: `TRITON_INTERPRET=1 pytest tests/kernels/fused`.
"""

import functools
import importlib

import pytest
import torch
import torch.nn.functional as F
from tests.kernels.device import DEVICE, RUNS_KERNELS, poison

from evo.kernels.fused import (
    ACTS,
    add_norm,
    cross_entropy,
    embed,
    gated,
    gather_sequences,
    linear_cross_entropy,
    lru_terms,
    norm,
    rotate,
    rotate_qkv,
)
from evo.kernels.fused.adamw import AdamWTable, Rates
from evo.kernels.triton_support import is_interpreting

pytestmark = RUNS_KERNELS

DTYPES = [torch.float32] if is_interpreting() else [torch.float32, torch.float16, torch.bfloat16]
BOUNDS = {torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}
WIDTHS = (
    [(3, 5, 24), (1, 1, 1), (2, 33, 129)] if is_interpreting() else [(3, 5, 24), (1, 1, 1), (4, 333, 257), (1024, 1100)]
)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Random numbers on the device, drawn the same everywhere."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE, dtype)


def answer(f, tensors, weights):
    """Outputs and gradients of a weighted sum of them."""
    leaves = [x.detach().clone().requires_grad_() for x in tensors]
    outputs = f(*leaves)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    loss = sum((o.double() * w.double()).sum() for o, w in zip(outputs, weights, strict=True))
    return [*(o.detach() for o in outputs), *torch.autograd.grad(loss, leaves)]


def check(fused, plain, tensors, outputs: int = 1, bound: float | None = None) -> None:
    """`fused` gives what `plain` gives in float64, leaves no poison behind, and gives the same bytes again."""
    wide = [x.double() for x in tensors]
    shapes = plain(*wide)
    shapes = shapes if isinstance(shapes, tuple) else (shapes,)
    weights = [normal(*s.shape, seed=7 + i) for i, s in enumerate(shapes)]
    assert len(shapes) == outputs
    expected = answer(plain, wide, weights)
    poison()
    found = answer(fused, tensors, weights)
    poison()
    again = answer(fused, tensors, weights)
    bound = BOUNDS[tensors[0].dtype] if bound is None else bound
    for got, same, want in zip(found, again, expected, strict=True):
        assert torch.equal(got, same)
        error = (got.double() - want).norm() / want.norm().clamp(min=1e-3 * want.numel() ** 0.5)
        assert error < bound, (float(error), tuple(want.shape))


def plain_norm(x, gain, bias, center, eps=1e-6):
    """The equations of both norms."""
    x = x - x.mean(-1, keepdim=True) if center else x
    y = x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * gain
    return y if bias is None else y + bias


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", WIDTHS, ids=str)
@pytest.mark.parametrize(("center", "has_bias"), [(False, False), (True, False), (True, True)])
def test_sum_and_norm(shape, center, has_bias, dtype):
    """x + y and its norm, values and gradients."""
    x, y = normal(*shape, dtype=dtype), normal(*shape, seed=1, dtype=dtype)
    gain = [1 + normal(shape[-1], seed=2)] + [normal(shape[-1], seed=3)] * has_bias
    split = lambda vectors: (vectors[0], vectors[1] if has_bias else None)  # noqa: E731

    def fused(x, y, *vectors):
        return add_norm(x, y, *split(vectors), 1e-6, center=center, backend="triton")

    def plain(x, y, *vectors):
        return x + y, plain_norm(x + y, *split(vectors), center)

    if not (center and shape[-1] == 1):
        check(fused, plain, [x, y, *gain], outputs=2)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_norm_alone(dtype):
    """The norm of a tensor that nothing is added to, also where its columns are strided."""
    x, gain = normal(7, 48, 5, dtype=dtype), 1 + normal(48, seed=2)
    fused = lambda x, g: norm(x.transpose(1, 2), g, None, 1e-6, center=False, backend="triton")  # noqa: E731
    check(fused, lambda x, g: plain_norm(x.transpose(1, 2), g, None, False), [x, gain])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(1, 2, 3, 7), (3, 1, 1, 1), (2, 3, 37, 20), (1, 2, 9, 300)], ids=str)
def test_lru_terms(shape, dtype):
    """The decay and the input of an RG-LRU, with first tokens, and decays near 1, where the root is steep."""
    heads, batch, time, part = shape
    C = heads * part
    u, *gates = (normal(*size, seed=n, dtype=dtype) for n, size in enumerate([(batch, time, C), shape, shape]))
    vectors = [normal(C, seed=3), normal(C, seed=4) - 2, 3 * normal(C, seed=5) - 4]
    first = normal(batch, time, seed=6) > 1
    run = lambda backend: lambda *tensors: lru_terms(*tensors, first, backend=backend)  # noqa: E731
    check(run("triton"), run("reference"), [u, *gates, *vectors], outputs=2)


def test_lru_terms_without_room():
    """A decay that rounds to 1 gives slopes that are bounded, and no NaN."""
    ones = torch.ones(1, 4, 8, device=DEVICE)
    tensors = [ones, ones[None], ones[None], ones[0, 0], ones[0, 0], -60 * ones[0, 0]]
    run = lambda backend: lambda *given: lru_terms(*given, ones[..., 0] > 1, backend=backend)  # noqa: E731
    check(run("triton"), run("reference"), tensors, outputs=2)


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("shape", [(1,), (48,)], ids=["one number", "every other"])
def test_gains_and_biases_with_strides(shape, center):
    """Views of something else, one number for all columns too, and a bias beside an RMS norm."""
    x, vectors = normal(5, 24), [1 + normal(*shape, seed=2), normal(*shape, seed=3)]
    view = lambda v: v.expand(24) if len(v) == 1 else v[::2]  # noqa: E731

    def plain(x, gain, bias):
        return plain_norm(x, view(gain), view(bias), center)

    for backend in ("triton", "reference"):
        fused = lambda x, g, b: norm(x, view(g), view(b), 1e-6, center=center, backend=backend)  # noqa: B023, E731
        check(fused, plain, [x, *vectors])


NOT_TAKEN = {
    "rows of up to 16384": lambda backend: norm(
        normal(1, 16_385), normal(16_385), None, 1e-6, center=False, backend=backend
    ),
    "gain and bias of 24": lambda backend: norm(normal(3, 24), normal(8), None, 1e-6, center=False, backend=backend),
    "x and y of one shape": lambda backend: add_norm(
        normal(3, 24), normal(1, 24), normal(24), None, 1e-6, center=False, backend=backend
    ),
    "gate and up of one shape and dtype": lambda backend: gated(
        normal(3, 24), normal(3, 24).half(), "silu", backend=backend
    ),
    "tables of up to 1024 rows": lambda backend: embed(
        torch.zeros(3, dtype=torch.int64, device=DEVICE), normal(1025, 2), backend=backend
    ),
    "a target for each row": lambda backend: cross_entropy(
        normal(3, 24), torch.zeros(2, dtype=torch.int64, device=DEVICE), backend=backend
    ),
}


@pytest.mark.parametrize("reason", NOT_TAKEN)
def test_what_was_asked_for_is_never_replaced(reason):
    """Where the kernel cannot take what it is given, asking for it by name is an error, as is an unknown name."""
    with pytest.raises(ValueError, match=f"backend 'triton' cannot run this call: takes {reason}"):
        NOT_TAKEN[reason]("triton")
    with pytest.raises(ValueError, match="unknown backend 'tritn'"):
        NOT_TAKEN[reason]("tritn")


def test_unknown_activations_are_refused():
    """By the kernel as by the plain form."""
    x = normal(3, 24)
    for backend in ("triton", "reference"):
        with pytest.raises(KeyError, match="sillu"):
            gated(x, x, "sillu", backend=backend)


@pytest.mark.skipif(is_interpreting(), reason="bfloat16 arithmetic is wrong in the interpreter")
def test_a_wide_stream_takes_narrow_branches():
    """float32 + bfloat16 is float32, its norm bfloat16 under autocast; each gradient has its input's dtype."""
    x, y, gain = (
        normal(64, 96).requires_grad_(),
        normal(64, 96, seed=1, dtype=torch.bfloat16).requires_grad_(),
        normal(96),
    )
    with torch.autocast("cuda", dtype=torch.bfloat16):
        total, out = add_norm(x, y, gain, None, 1e-6, center=False)
    assert (total.dtype, out.dtype) == (torch.float32, torch.bfloat16)
    assert torch.equal(total, x + y)
    dx, dy = torch.autograd.grad(out.float().square().sum() + total.sum(), [x, y])
    assert (dx.dtype, dy.dtype) == (torch.float32, torch.bfloat16)
    assert torch.equal(dx.bfloat16(), dy)


@pytest.mark.parametrize("act", ["tanh", "sigmoid", "softplus"])
def test_saturated_activations_keep_their_digits(act):
    """Value and slope of each element, near 0 and far out, where a difference of nearly equal numbers has none left."""
    x = torch.cat([torch.linspace(-18, 18, 73), torch.linspace(-0.3, 0.3, 30)]).reshape(1, -1).to(DEVICE)
    one = torch.ones_like(x)
    y, slope, _ = answer(functools.partial(gated, act=act, backend="triton"), [x, one], [one])
    exact = {"tanh": torch.cosh(x.double()) ** -2, "softplus": torch.sigmoid(x.double())}
    share = torch.sigmoid(x.double().abs())
    exact["sigmoid"] = torch.exp(-x.double().abs()) * share**2
    torch.testing.assert_close(y.double(), ACTS[act](x.double()), rtol=2e-6, atol=0)
    torch.testing.assert_close(slope.double(), exact[act], rtol=3e-6, atol=0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("shape", WIDTHS, ids=str)
def test_gated(shape, act, dtype):
    """act(gate) * up for every activation, the halves of one tensor too."""
    check(
        functools.partial(gated, act=act, backend="triton"),
        lambda g, u: ACTS[act](g) * u,
        [3 * normal(*shape, dtype=dtype), normal(*shape, seed=1, dtype=dtype)],
    )
    both = normal(*shape[:-1], 2 * shape[-1], dtype=dtype)
    check(
        lambda x: gated(*x.chunk(2, -1), act, backend="triton"),
        lambda x: ACTS[act](x.chunk(2, -1)[0]) * x.chunk(2, -1)[1],
        [both],
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("K", "R", "H", "G"), [(16, 8, 4, 4), (24, 9, 3, 1), (64, 32, 4, 2), (7, 1, 2, 2)])
def test_rotate(K, R, H, G, dtype):
    """Pairs turned by position in queries and keys, the other dims as they are, views of one tensor too."""
    B, T = 2, 19
    angles = torch.outer(torch.arange(T, device=DEVICE), 1.0 / torch.arange(1, R + 1, device=DEVICE))
    cos, sin = angles.cos(), angles.sin()

    def plain(x):
        a, b, rest = x[..., :R], x[..., R : 2 * R], x[..., 2 * R :]
        c, s = (t.double()[:, None] for t in (cos, sin))
        return torch.cat((a * c - b * s, b * c + a * s, rest), -1)

    split = lambda x: (x.unflatten(-1, (-1, K))[:, :, :H], x.unflatten(-1, (-1, K))[:, :, H:])  # noqa: E731
    both = normal(B, T, (H + G) * K, dtype=dtype)
    check(lambda x: rotate(*split(x), cos, sin), lambda x: tuple(map(plain, split(x))), [both], outputs=2)

    def three(x):
        widths = [H * K, G * K, G * (K + 3)]
        parts = zip(x.split(widths, -1), (H, G, G), strict=True)
        return [part.unflatten(-1, (heads, -1)) for part, heads in parts]

    qkv = normal(B, T, (H + G) * K + G * (K + 3), dtype=dtype)
    check(
        lambda x: rotate_qkv(*three(x), cos, sin),
        lambda x: (plain(three(x)[0]), plain(three(x)[1]), three(x)[2]),
        [qkv],
        outputs=3,
    )


def test_gradients_beside_each_other():
    """What flows back through `rotate_qkv` is one tensor's columns, in the order of its inputs."""
    q, k, v = (normal(1, 5, heads, 16, seed=heads).requires_grad_() for heads in (4, 2, 1))
    cos, sin = normal(5, 8), normal(5, 8, seed=1)
    turned = rotate_qkv(q, k, v, cos, sin)
    dq, dk, dv = torch.autograd.grad(sum(x.square().sum() for x in turned), [q, k, v])
    size = dq.element_size()
    assert dq.stride(1) == dk.stride(1) == dv.stride(1) == 7 * 16
    assert [x.data_ptr() - dq.data_ptr() for x in (dk, dv)] == [4 * 16 * size, 6 * 16 * size]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("cap", [None, 3.0])
@pytest.mark.parametrize(("N", "V"), [(1, 2), (5, 7), (9, 256), (3, 1025), (6, 2500)])
def test_cross_entropy(N, V, cap, dtype):
    """The mean loss and its gradient, small and large vocabularies, with and without a soft cap."""
    targets = torch.randint(V, (N,), generator=torch.Generator().manual_seed(0)).to(DEVICE)

    def plain(x):
        return F.cross_entropy(x if cap is None else cap * torch.tanh(x / cap), targets)

    fused = lambda x: cross_entropy(x, targets, cap, backend="triton")  # noqa: E731
    check(fused, plain, [2 * normal(N, V, dtype=dtype)], bound=max(BOUNDS[dtype], 1e-5))


@pytest.mark.parametrize("dtype", DTYPES if not is_interpreting() else [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("cap", [None, 2.0])
def test_extreme_logits(cap, dtype):
    """Logits of +-1e4 give the exact loss and gradients."""
    logits = torch.tensor([[1e4, -1e4, 0.0], [-1e4, -1e4, 1e4]], device=DEVICE, dtype=dtype)
    targets = torch.tensor([1, 2], device=DEVICE)
    plain = lambda x: F.cross_entropy(x if cap is None else cap * torch.tanh(x / cap), targets)  # noqa: E731
    check(lambda x: cross_entropy(x, targets, cap, backend="triton"), plain, [logits], bound=max(BOUNDS[dtype], 1e-5))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("cap", [None, 3.0])
def test_sliced_linear_cross_entropy(cap, dtype, monkeypatch):
    """Loss and gradients of hidden states and readout are those of the whole, though logits exist a slice at a time."""
    monkeypatch.setattr(importlib.import_module("evo.kernels.fused.cross_entropy"), "SLICE", 4 * 300)
    targets = torch.arange(11, device=DEVICE) * 17 % 300

    def plain(h, w):
        x = h @ w.t()
        return F.cross_entropy(x if cap is None else cap * torch.tanh(x / cap), targets)

    fused = lambda h, w: linear_cross_entropy(h, w, targets, cap, backend="triton")  # noqa: E731
    tensors = [normal(11, 40, dtype=dtype), normal(300, 40, seed=1, dtype=dtype)]
    check(fused, plain, tensors, bound=max(2 * BOUNDS[dtype], 1e-5))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("cap", [None, 3.0])
@pytest.mark.parametrize("slice_", [1 << 25, 4 * 300], ids=["whole", "sliced"])
def test_weighted_cross_entropy(slice_, cap, dtype, monkeypatch):
    """A weight for each row, rows of weight 0 among them: loss and gradients, of all logits and of slices of them."""
    monkeypatch.setattr(importlib.import_module("evo.kernels.fused.cross_entropy"), "SLICE", slice_)
    targets = torch.arange(11, device=DEVICE) * 17 % 300
    weights = torch.tensor([0.0, 1, 1, 0.5, 0, 2, 1, 1, 0, 0.25, 1], device=DEVICE)

    def plain(h, w):
        x = h @ w.t()
        losses = F.cross_entropy(x if cap is None else cap * torch.tanh(x / cap), targets, reduction="none")
        return (losses * weights.double()).sum() / weights.double().sum()

    fused = lambda h, w: linear_cross_entropy(h, w, targets, cap, weights_N=weights, backend="triton")  # noqa: E731
    tensors = [normal(11, 40, dtype=dtype), normal(300, 40, seed=1, dtype=dtype)]
    check(fused, plain, tensors, bound=max(2 * BOUNDS[dtype], 1e-5))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("N", "V", "D"), [(1, 1, 1), (70, 5, 24), (300, 256, 40)])
def test_embed(N, V, D, dtype):
    """Rows by token, and their gradient summed over the tokens that chose them: exact in float32 but for the order."""
    tokens = torch.randint(V, (N,), generator=torch.Generator().manual_seed(0)).to(DEVICE)
    check(lambda w: embed(tokens, w, backend="triton"), lambda w: w[tokens], [normal(V, D, dtype=dtype)])


def test_gather_sequences():
    """The bytes from each start of the row that the device names, and those one later."""
    text = torch.arange(2000, device=DEVICE).remainder(251).to(torch.uint8)
    starts, row = torch.tensor([[0, 1, 2], [5, 1689, 77]], device=DEVICE), torch.tensor([1], device=DEVICE)
    poison()
    inputs, targets = gather_sequences(text, starts, row, 310, backend="triton")
    expected = text.long()[starts[1][:, None] + torch.arange(311, device=DEVICE)]
    assert torch.equal(inputs, expected[:, :-1])
    assert torch.equal(targets, expected[:, 1:])


@pytest.mark.parametrize("clip", [None, 0.5])
def test_adamw(clip):
    """Three steps over tensors of many sizes are torch's clipped AdamW, with a rate and a decay for each group."""
    shapes = [(70, 71), (5,), (1,), (4096,), (3, 2, 1500), (1, 70)]
    weights = [normal(*shape, seed=i) for i, shape in enumerate(shapes)]
    peers = [torch.nn.Parameter(w.double()) for w in weights]
    moments = [(torch.zeros_like(w), torch.zeros_like(w)) for w in weights]
    groups, step = [0, 1, 1, 0, 0, 1], torch.zeros(3, device=DEVICE)
    table = AdamWTable(
        weights, moments, groups, step, torch.tensor([0.1, 0.0], device=DEVICE), Rates(0.9, 0.95, 1e-8, clip)
    )
    parts = [[p for p, g in zip(peers, groups, strict=True) if g == group] for group in (0, 1)]
    options = [{"params": parts[0], "weight_decay": 0.1}, {"params": parts[1], "weight_decay": 0.0, "lr": 0.02}]
    peer = torch.optim.AdamW(options, lr=0.01, betas=(0.9, 0.95))
    for index in range(3):
        gradients = [normal(*shape, seed=50 + 10 * index + i) for i, shape in enumerate(shapes)]
        gradients[-1] = gradients[-1].reshape(70, 1).t()  # dense, but for autograd's other stride of its single row
        table.point_at(gradients)
        table.launch(torch.tensor([0.01, 0.02], device=DEVICE))
        for parameter, gradient in zip(peers, gradients, strict=True):
            parameter.grad = gradient.double()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(peers, clip)
        peer.step()
    assert step.tolist() == [3.0, 3.0, 3.0]
    for weight, parameter in zip(weights, peers, strict=True):
        assert (weight - parameter).abs().max() < 2e-6


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
@pytest.mark.skipif(is_interpreting(), reason="asks torch about its own machinery, once, on the device")
def test_operators_are_well_formed():
    """torch's opcheck: schemas, fake implementations, registered autograd."""
    x, y, gain = normal(6, 24).requires_grad_(), normal(6, 24, seed=1).requires_grad_(), normal(24).requires_grad_()
    ops = torch.ops.evo
    tests = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
    targets = torch.arange(6, device=DEVICE)
    cases = [
        (ops.add_norm, (x, y, gain, None, 1e-6, False, torch.float32)),
        (ops.add_norm, (x, None, gain, gain, 1e-6, True, torch.bfloat16)),
        (ops.gated, (x, y, "silu")),
        (
            ops.rotate,
            (x.reshape(1, 6, 2, 12), y.reshape(1, 6, 2, 12), gain.detach().reshape(6, 4), normal(6, 4), False),
        ),
        (ops.rotate_back_packed, (*normal(3, 1, 6, 2, 12).unbind(), normal(6, 4), normal(6, 4))),
        (ops.cross_entropy, (x, targets, None, 2.0)),
        (ops.cross_entropy, (x, targets, gain.detach()[:6].abs(), 0.0)),
        (ops.linear_cross_entropy, (x, y, targets, None, 0.0, torch.float32, 4, True)),
        (ops.embed, (targets, y)),
    ]
    for op, arguments in cases:
        torch.library.opcheck(op.default, arguments, test_utils=tests)
