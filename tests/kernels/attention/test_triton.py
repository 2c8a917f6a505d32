"""The Triton attention against the float64 reference: values and gradients.

On a CUDA device: `pytest -m gpu tests/kernels`.
Under the interpreter: `TRITON_INTERPRET=1 pytest tests/kernels -k triton`.
"""

from dataclasses import replace

import pytest
import torch
from tests.kernels.device import DEVICE, RUNS_KERNELS

from evo.kernels.attention import Stencil, attend
from evo.kernels.attention.triton import tiles as sizes_of_tiles
from evo.kernels.dispatch import BackendError
from evo.kernels.triton_support import is_interpreting

pytestmark = RUNS_KERNELS

DTYPES = [torch.float32] if is_interpreting() else [torch.float32, torch.float16, torch.bfloat16]
# The interpreter's bfloat16 is wrong, its float16 is not.
EVERY_DTYPE = [torch.float32, torch.float16] if is_interpreting() else DTYPES
BOUNDS = {torch.float32: 4e-6, torch.float16: 2e-3, torch.bfloat16: 1.5e-2}

# Few programs for the interpreter, which runs one after another.
TIME, HEADS, GROUPS = (40, 2, 1) if is_interpreting() else (70, 4, 2)

STENCILS = {
    "causal": Stencil(),
    "full": Stencil(causal=False),
    "window": Stencil("window", 20, sinks=4),
    "window-narrow": Stencil("window", 1),
    "window-both": Stencil("window", 9, causal=False),
    "window-both-sinks": Stencil("window", 9, causal=False, sinks=3),
    "dilated": Stencil("dilated", 5, dilation=7, sinks=2),
    "dilated-both": Stencil("dilated", 3, dilation=3, causal=False),
    "block": Stencil("block", 24, sinks=1),
    "block-both": Stencil("block", 40, causal=False),
    "ring": Stencil("ring", 3, period=90),
    "ring-both": Stencil("ring", 2, period=77, causal=False),
    "prefix": Stencil("prefix", 37),
    "prefix-sinks": Stencil("prefix", 3, sinks=10),
}
EXTRAS = {
    "plain": {},
    "cap": {"soft_cap": 3.0},
    "sink": {"sink": True},
    "alibi": {"alibi": True},
    "packed": {"packed": True},
    "bias": {"bias": "HTS"},
    "bias of all": {"bias": "BHTS"},
    "bias of batches": {"bias": "B1TS"},
    "bias of pairs": {"bias": "TS"},
    "bias of keys": {"bias": "H1S"},
    "all": {"soft_cap": 3.0, "sink": True, "alibi": True, "packed": True, "bias": "HTS"},
}
TILES = [
    (kernel, dim, index)
    for kernel, sizes in sizes_of_tiles.HALF.items()
    for dim, found in sizes.items()
    for index in range(len(found))
]
LEAVES = "sink_logits_H", "alibi_slopes_H", "bias_HTS"


@pytest.fixture
def no_launches():
    """No launch is kept before or after a test that changes how kernels are launched."""
    from evo.kernels.attention.triton.launch import LAUNCHES

    LAUNCHES.clear()
    yield
    LAUNCHES.clear()


def draw(B=1, T=TIME, S=None, H=2, G=1, K=16, V=None, dtype=torch.float32, device=DEVICE, seed=0):
    """q, k, v with gradients, in `dtype` on `device`."""
    S, V = S or T, V or K
    stream = torch.Generator().manual_seed(seed)
    shapes = (B, T, H, K), (B, S, G, K), (B, S, G, V)
    return [torch.randn(*shape, generator=stream).to(device, dtype).requires_grad_() for shape in shapes]


def arguments(q, k, soft_cap=None, sink=False, alibi=False, packed=False, bias=""):
    """Keyword arguments of `attend` for the extras by name. `bias` names its dims, 1 where it broadcasts."""
    H, device = q.shape[2], q.device
    found = {"soft_cap": soft_cap}
    if sink:
        found["sink_logits_H"] = torch.linspace(-1, 2, H, device=device).requires_grad_()
    if alibi:
        found["alibi_slopes_H"] = torch.linspace(0.01, 0.3, H, device=device).requires_grad_()
    if bias:
        sizes = {"B": q.shape[0], "H": H, "T": q.shape[1], "S": k.shape[1], "1": 1}
        drawn = torch.randn([sizes[name] for name in bias], generator=torch.Generator().manual_seed(1))
        found["bias_HTS"] = drawn.to(device).requires_grad_()
    if packed:
        found["segments_BT"] = (torch.arange(q.shape[1], device=device) // 23).expand(q.shape[0], -1)
        found["key_segments_BS"] = (torch.arange(k.shape[1], device=device) // 23).expand(k.shape[0], -1)
    return found


def answer(inputs, options, backend, stencil, **extra):
    """Output and gradients of q, k, v and of whatever learns beside them, for a loss that weighs all outputs."""
    o = attend(*inputs, stencil=stencil, backend=backend, **options, **extra)
    weights = torch.cos(torch.arange(o.numel(), device=o.device)).reshape(o.shape)
    leaves = [*inputs, *(options[name] for name in LEAVES if name in options)]
    return [o.detach(), *torch.autograd.grad((o * weights.to(o.dtype)).sum(), leaves)]


def exact(inputs, options, stencil, **extra):
    """The same answer by the reference in float64 on the same numbers."""
    wide = [x.detach().double().requires_grad_() for x in inputs]
    options = {n: x.detach().double().requires_grad_() if n in LEAVES else x for n, x in options.items()}
    return answer(wide, options, "reference", stencil, **extra)


def errors(got, wanted):
    """Relative errors in the Frobenius norm (against 0.1 an element where the true answer is about zero)."""
    return [
        ((g.double() - w).norm() / w.norm().clamp(min=0.1 * w.numel() ** 0.5)).item()
        for g, w in zip(got, wanted, strict=True)
    ]


def check(inputs, options, stencil, **extra):
    bound = BOUNDS[inputs[0].dtype]
    found = errors(answer(inputs, options, "triton", stencil, **extra), exact(inputs, options, stencil, **extra))
    assert all(error < bound for error in found), found


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("stencil", STENCILS.values(), ids=STENCILS)
def test_every_stencil(stencil, dtype):
    """Values and gradients of each stencil equal float64 over an odd number of rows that spans tiles."""
    T, H = (131, 1) if is_interpreting() else (333, 2)
    inputs = draw(T=T, H=H, K=16, dtype=dtype)
    check(inputs, arguments(*inputs[:2]), stencil)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("extra", EXTRAS.values(), ids=EXTRAS)
def test_every_extra(extra, dtype):
    """Soft cap, learned sink, ALiBi and packed documents, alone and together, with grouped heads."""
    H, G = (4, 2) if len(extra) > 1 else (HEADS, GROUPS)
    T = 70 if extra == {"bias": "HTS"} else TIME
    inputs = draw(B=2, T=T, H=H, G=G, K=20, V=12, dtype=dtype)
    check(inputs, arguments(*inputs[:2], **extra), Stencil("window", 20, sinks=4))


def test_bias_of_queries():
    """A bias that is the same for all keys moves the share of a learned sink, and nothing else.

    In float32: its gradient is what rows of terms leave when they cancel, and outputs in half precision are rounded
    by more than that.
    """
    inputs = draw(B=2, H=HEADS, G=GROUPS)
    check(inputs, arguments(*inputs[:2], bias="1T1", sink=True), Stencil("window", 20, sinks=4))


@pytest.mark.parametrize(
    "stencil", [Stencil(causal=False), Stencil("prefix", 30), Stencil("ring", 3, period=40)], ids=str
)
def test_learned_slopes_of_other_stencils(stencil):
    """ALiBi, with the gradient of its slopes, where keys lie ahead of their queries or tiles are left out."""
    inputs = draw(T=131, H=HEADS, G=GROUPS)
    check(inputs, arguments(*inputs[:2], alibi=True), stencil)


@pytest.mark.parametrize("stencil", [Stencil(), Stencil("window", 20, sinks=2), Stencil("ring", 3, period=40)], ids=str)
@pytest.mark.parametrize("T", [1, 5])
def test_key_positions(T, stencil):
    """A ring-buffer cache whose slots hold positions in any order, some none; rows that see nothing are zero."""
    q, k, v = (x.detach() for x in draw(B=2, T=T, S=70, H=HEADS, G=GROUPS))
    places = torch.roll(torch.arange(70, device=DEVICE) + 40, 13)
    places[20:30] = -1
    extra = {"alibi_slopes_H": torch.linspace(0.01, 0.3, HEADS, device=DEVICE), "key_positions_S": places}
    found, wanted = (
        attend(*(x.to(dtype) for x in (q, k, v)), stencil=stencil, backend=backend, query_offset=100, **extra)
        for backend, dtype in (("triton", q.dtype), ("reference", torch.float64))
    )
    assert errors([found], [wanted])[0] < BOUNDS[q.dtype]


def test_key_positions_have_no_backward():
    """A call that needs gradients is refused by name, with the reason."""
    inputs = draw()
    with pytest.raises(BackendError, match="have no backward"):
        attend(*inputs, stencil=Stencil(), backend="triton", key_positions_S=torch.arange(TIME, device=DEVICE))


@pytest.mark.usefixtures("no_launches")
@pytest.mark.parametrize("dtype", DTYPES[-2:], ids=str)
@pytest.mark.parametrize("extra", [{}, {"soft_cap": 3.0, "alibi": True, "bias": "HTS"}], ids=["plain", "many"])
@pytest.mark.parametrize("dim", [16] if is_interpreting() else [32, 64, 128, 256])
def test_described_tensors(dim, extra, dtype, monkeypatch):
    """Loads through tensor descriptors (long half-precision problems on Hopper) give the same answer."""
    if is_interpreting():
        monkeypatch.setattr("evo.kernels.attention.triton.launch.uses_tma", lambda *tensors: True)
    inputs = draw(B=2, T=75 if is_interpreting() else 555, H=HEADS, G=GROUPS, K=dim, dtype=dtype)
    check(inputs, arguments(*inputs[:2], **extra), Stencil("window", 40, sinks=3))


@pytest.mark.usefixtures("no_launches")
@pytest.mark.skipif(is_interpreting(), reason="the interpreter has one choice of tiles")
@pytest.mark.parametrize(("kernel", "dim", "index"), TILES)
def test_every_choice_of_tiles(kernel, dim, index, monkeypatch):
    """What tuning may choose is right."""
    default = sizes_of_tiles.candidates

    def chosen(name, size, kind):
        found = default(name, size, kind)
        return found[index : index + 1] if name == kernel else found[:1]

    monkeypatch.setattr(sizes_of_tiles, "candidates", chosen)
    inputs = draw(T=555, H=HEADS, G=GROUPS, K=dim, dtype=torch.bfloat16)
    check(inputs, arguments(*inputs[:2], alibi=True, bias="HTS"), Stencil("window", 133, sinks=3))


@pytest.mark.parametrize("stencil", [Stencil(), Stencil(causal=False), Stencil("window", 30, causal=False)], ids=str)
@pytest.mark.parametrize(("T", "S", "offset"), [(1, 90, 89), (70, 33, 0), (5, 90, 40)])
def test_unequal_lengths_and_offsets(T, S, offset, stencil):
    """Cross attention and queries in the middle of a cache; rows that see nothing are zero."""
    inputs = draw(T=T, S=S)
    check(inputs, {}, stencil, query_offset=offset)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("dim", [40] if is_interpreting() else [16, 40, 72, 96, 128, 200, 256])
def test_head_dims(dim, dtype):
    """Head dims up to 256, powers of two or not, over several tiles."""
    inputs = draw(T=70 if is_interpreting() else 300, K=dim, dtype=dtype)
    check(inputs, {}, Stencil("window", 33, sinks=2))


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("dtype", EVERY_DTYPE, ids=str)
@pytest.mark.parametrize("extra", [{}, {"alibi": True, "bias": "HTS"}], ids=["plain", "learned"])
def test_every_output_is_written(extra, dtype):
    """On NaN-poisoned memory, odd lengths and blind rows leave no NaN behind."""
    inputs = draw(T=70, S=47, H=HEADS, G=GROUPS, dtype=dtype)
    check(inputs, arguments(*inputs[:2], **extra), Stencil("window", 20))


@pytest.mark.usefixtures("poisoned", "no_launches")
@pytest.mark.parametrize("extra", [{}, {"alibi": True, "bias": "HTS"}], ids=["plain", "learned"])
def test_small_query_tiles_beside_large_ones(extra, monkeypatch):
    """Levels that tiles of 16 rows leave are read in tiles of 64, past the last row: nothing unwritten is read."""
    default = sizes_of_tiles.candidates

    def mixed(name, size, kind):
        tiles = default(name, size, kind)[0]
        rows = {"query gradients": 16, "key gradients": 64, "bias gradients": 64}
        return (replace(tiles, M=rows.get(name, tiles.M)),)

    monkeypatch.setattr(sizes_of_tiles, "candidates", mixed)
    inputs = draw(T=70, H=HEADS, G=GROUPS)
    check(inputs, arguments(*inputs[:2], **extra), Stencil(causal=False))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_same_inputs_give_the_same_bytes(dtype):
    """Values and all gradients, grouped heads and a bias that is shared by batches included."""
    inputs = draw(B=2, T=TIME if is_interpreting() else 600, H=HEADS, G=GROUPS, dtype=dtype)
    options = arguments(*inputs[:2], sink=True, alibi=True, bias="HTS")
    first, second = (answer(inputs, options, "triton", Stencil("window", 90, sinks=4)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_kept_launch_takes_new_numbers(dtype):
    """Later calls alike read their own tensors; odd addresses, scales and offsets are launches of their own."""
    T, S = (40, 70) if is_interpreting() else (555, 600)
    for seed, shift, scale, offset in ((0, 0, 0.3, 0), (1, 0, 0.3, 0), (2, 1, 0.3, 0), (3, 0, 0.2, 0), (4, 0, 0.3, 30)):
        inputs = draw(T=T, S=S, H=HEADS, G=GROUPS, K=32, dtype=dtype, seed=seed)
        moved = [torch.empty(x.numel() + shift, dtype=dtype, device=x.device)[shift:].view(x.shape) for x in inputs]
        inputs = [y.copy_(x.detach()).requires_grad_() for x, y in zip(inputs, moved, strict=True)]
        options = arguments(*inputs[:2], sink=True, alibi=True)
        check(inputs, options, Stencil("window", 90, sinks=4), scale=scale, query_offset=offset)


def test_learned_sinks_that_do_not_learn():
    """A sink without a gradient beside inputs with one: theirs are the same."""
    inputs = draw(B=2, H=HEADS, G=GROUPS)
    options = arguments(*inputs[:2], sink=True)
    wanted = exact(inputs, options, Stencil())
    o = attend(*inputs, stencil=Stencil(), backend="triton", sink_logits_H=options["sink_logits_H"].detach())
    weights = torch.cos(torch.arange(o.numel(), device=o.device)).reshape(o.shape)
    found = torch.autograd.grad((o * weights.to(o.dtype)).sum(), inputs)
    assert all(error < BOUNDS[o.dtype] for error in errors(found, wanted[1:4])), errors(found, wanted[1:4])


@pytest.mark.filterwarnings("ignore:overflow encountered in exp2")
@pytest.mark.parametrize("dtype", EVERY_DTYPE, ids=str)
@pytest.mark.parametrize("extra", [{}, {"soft_cap": 3.0}], ids=["plain", "capped"])
@pytest.mark.parametrize("sign", [1, -1])
def test_extreme_logits(sign, extra, dtype):
    """Logits of up to 2.8e4, all of one sign: values and gradients of float64.

    Small integers, which every dtype holds and multiplies exactly, so that probabilities are those of exact ties: 1, or
    what two or more keys share. The backward makes them from a log-sum-exp whose float32 neighbours are up to 2e-3
    apart, and can be no closer.
    """
    q, k, v = (x.detach().round() for x in draw(dtype=dtype))
    inputs = [x.requires_grad_() for x in (sign * 4096.0 * q.abs(), k.abs(), v)]
    options = arguments(*inputs[:2], **extra)
    found = answer(inputs, options, "triton", Stencil("window", 20))
    wanted = exact(inputs, options, Stencil("window", 20))
    value, *gradients = errors(found, wanted)
    assert value < BOUNDS[dtype]
    assert all(error < max(1e-2, BOUNDS[dtype]) for error in gradients), gradients


@pytest.mark.parametrize("dtype", EVERY_DTYPE, ids=str)
def test_one_token(dtype):
    """A single token attends to itself."""
    inputs = draw(T=1, dtype=dtype)
    check(inputs, arguments(*inputs[:2], sink=True), Stencil("window", 3))


@pytest.mark.parametrize("dtype", EVERY_DTYPE, ids=str)
@pytest.mark.parametrize("dims", [(1, 2), (1, 3)], ids=["heads first", "time last"])
def test_non_contiguous(dims, dtype):
    """Transposed storage gives the same answer."""
    drawn = draw(H=HEADS, G=GROUPS, dtype=dtype)
    inputs = [x.detach().transpose(*dims).contiguous().transpose(*dims).requires_grad_() for x in drawn]
    check(inputs, {}, Stencil("window", 20))


@pytest.mark.parametrize("shape", [(1,), (HEADS,)], ids=["one for all heads", "every other"])
@pytest.mark.parametrize("name", ["sink_logits_H", "alibi_slopes_H"])
def test_vectors_with_strides(name, shape):
    """Sinks and slopes that are views of something else, one number shared by all heads too, and their gradients."""
    inputs = draw(H=HEADS, G=GROUPS)
    drawn = torch.linspace(0.1, 0.9, 2 * shape[0], device=DEVICE)[::2]
    options = {name: (drawn if shape[0] > 1 else drawn.expand(HEADS)).requires_grad_()}
    check(inputs, options, Stencil("window", 20))


@pytest.mark.parametrize("shape", [(), (1,)], ids=str)
def test_bias_of_one_number(shape):
    """The same for all pairs: it moves the share of a learned sink."""
    inputs = draw(H=HEADS, G=GROUPS)
    options = {"sink_logits_H": torch.zeros(HEADS, device=DEVICE).requires_grad_()}
    check(inputs, options, Stencil("window", 20), bias_HTS=torch.full(shape, 0.7, device=DEVICE))


def test_bias_of_keys_alone():
    """A bias (S,), and its gradient."""
    inputs = draw(H=HEADS, G=GROUPS)
    check(inputs, arguments(*inputs[:2], bias="S"), Stencil("window", 20))


@pytest.mark.parametrize("dtype", EVERY_DTYPE, ids=str)
@pytest.mark.parametrize(("B", "T", "S"), [(0, 70, 70), (2, 0, 70), (2, 70, 0)], ids=["batches", "queries", "keys"])
def test_nothing_in_gives_nothing(B, T, S, dtype):
    """Without batches, queries or keys the answer is empty or zero, and so are the gradients."""
    inputs = [torch.ones(*shape, dtype=dtype, device=DEVICE) for shape in ((B, T, 2, 16), (B, S, 1, 16), (B, S, 1, 16))]
    inputs = [x.requires_grad_() for x in inputs]
    o = attend(*inputs, stencil=Stencil("window", 3), backend="triton")
    assert torch.equal(o, torch.zeros(B, T, 2, 16, dtype=dtype, device=DEVICE))
    for x, gradient in zip(inputs, torch.autograd.grad(o.sum(), inputs), strict=True):
        assert torch.equal(gradient, torch.zeros_like(x))
