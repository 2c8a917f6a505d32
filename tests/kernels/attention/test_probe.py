"""The probe: statistics of heads, by the definition and by the Triton kernel."""

from dataclasses import astuple

import pytest
import torch
from tests.kernels.device import replayed

from evo.kernels.attention import Stencil, attend, probe
from evo.kernels.dispatch import BackendError
from evo.kernels.triton_support import is_interpreting

DEVICE = "cpu" if is_interpreting() or not torch.cuda.is_available() else "cuda"
needs_triton = [
    pytest.mark.skipif(
        not is_interpreting() and not torch.cuda.is_available(), reason="needs a CUDA device or TRITON_INTERPRET=1"
    )
]
if not is_interpreting():
    needs_triton.append(pytest.mark.gpu)
# What the kernel is given: few programs for the interpreter, which runs one after another.
TIME, HEADS, GROUPS = (40, 2, 1) if is_interpreting() else (70, 4, 2)


def draw(T=70, H=4, G=2, K=16, dtype=torch.float32, device="cpu"):
    stream = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, T, H, K, generator=stream), torch.randn(2, T, G, K, generator=stream)
    return (3 * q).to(device, dtype), k.to(device, dtype)


def by_hand(p, threshold):
    """Statistics of one row of probabilities over the positions 0..t, for the query at t."""
    t = len(p) - 1
    positions = torch.arange(t + 1, dtype=p.dtype)
    centre = (p * positions).sum() / p.sum()
    return [
        (p * (t - positions)).sum(),
        (p * (positions - centre) ** 2).sum(),
        -(p * p.log()).sum(),
        (p * p).sum(),
        (p < threshold).double().mean(),
    ]


def test_reference_is_the_definition():
    """With every row taken, each statistic is the mean over rows of its formula."""
    q, k = (x.double() for x in draw(T=9, H=2, G=2))
    expected = torch.zeros(2, 5, dtype=torch.float64)
    for b in range(2):
        for h in range(2):
            for t in range(9):
                p = (k[b, : t + 1, h] @ q[b, t, h] * 16**-0.5).softmax(0)
                expected[h] += torch.stack(by_hand(p, 1e-2)) / 18
    found = probe(q, k, stencil=Stencil(), row_stride=1, threshold=1e-2)
    torch.testing.assert_close(torch.stack(astuple(found), dim=1), expected)


def test_a_head_that_looks_at_itself_has_no_span():
    """A window of one: span, variance and entropy are zero, the square is one."""
    found = probe(*draw(), stencil=Stencil("window", 1), row_stride=1)
    for name, value in (("span", 0), ("variance", 0), ("entropy", 0), ("square", 1), ("share_below", 0)):
        torch.testing.assert_close(getattr(found, name), torch.full((4,), float(value)))


def test_uniform_attention_has_the_entropy_of_its_window():
    """Zero queries over a full window of 8: entropy ln 8, span 3.5, variance 63/12."""
    q, k = draw(T=64)
    found = probe(q * 0, k, stencil=Stencil("window", 8), row_stride=64)
    torch.testing.assert_close(found.entropy, torch.full((4,), 8.0).log())
    torch.testing.assert_close(found.span, torch.full((4,), 3.5))
    torch.testing.assert_close(found.variance, torch.full((4,), 63 / 12))


def test_explicit_triton_is_never_replaced():
    """Asking for Triton where it cannot run is an error."""
    q, k = draw(dtype=torch.float64)
    with pytest.raises(BackendError, match="probe: backend 'triton' cannot run"):
        probe(q, k, stencil=Stencil(), backend="triton")


def test_unknown_backends_are_refused():
    """A backend that nobody knows is not taken for the reference."""
    with pytest.raises(BackendError, match="unknown backend 'fast'; known: triton, reference"):
        probe(*draw(), stencil=Stencil(), backend="fast")


ILL_FITTING = {
    "sinks": {"sink_logits_H": torch.zeros(1)},
    "slopes": {"alibi_slopes_H": torch.zeros(2)},
    "documents": {"segments_BT": torch.zeros(1, 70, dtype=torch.int64)},
    "log-sum-exp": {"lse_BHT": torch.zeros(2, 4, 9)},
    "stride": {"row_stride": 0},
}


@pytest.mark.parametrize("options", ILL_FITTING.values(), ids=ILL_FITTING)
def test_what_does_not_fit_is_refused(options):
    """As `attend` refuses it: a kernel would read past the end."""
    with pytest.raises(ValueError, match="must be"):
        probe(*draw(), stencil=Stencil(), **options)


def test_documents_of_unequal_lengths_are_refused():
    """Queries and keys share the ids of their documents."""
    q, k = draw()
    with pytest.raises(ValueError, match="must be integers"):
        probe(q[:, :40], k, stencil=Stencil(), segments_BT=torch.zeros(2, 40, dtype=torch.int64))


HALVES = [torch.float16] if is_interpreting() else [torch.float16, torch.bfloat16]
CASES = {
    "plain": (Stencil(), {}),
    "window": (Stencil("window", 20, sinks=3), {}),
    "both ways": (Stencil("window", 20, causal=False), {}),
    "prefix": (Stencil("prefix", 33), {"soft_cap": 2.0}),
    "sink": (Stencil(), {"sink_logits_H": torch.tensor([0.0, 1.0, 2.0, 3.0])[:HEADS]}),
    "packed": (Stencil(), {"segments_BT": (torch.arange(TIME) // 30).expand(2, -1)}),
    "alibi": (Stencil(), {"alibi_slopes_H": torch.tensor([0.5, 0.2, 0.1, 0.0])[:HEADS]}),
}


@pytest.mark.parametrize("stride", [1, 8])
@pytest.mark.parametrize(("stencil", "options"), CASES.values(), ids=CASES)
@pytest.mark.parametrize("part", [pytest.param("kernel", marks=needs_triton)])
def test_triton_probe_equals_float64(part, stencil, options, stride):
    """Exact to 1e-5 relative to float64 on the same rows, with and without a given log-sum-exp."""
    options = {name: x.to(DEVICE) if torch.is_tensor(x) else x for name, x in options.items()}
    q, k = draw(TIME, HEADS, GROUPS, device=DEVICE)
    wide = {name: x.double() if name.endswith("_H") else x for name, x in options.items()}
    expected = astuple(probe(q.double(), k.double(), stencil=stencil, row_stride=stride, backend="reference", **wide))
    found = astuple(probe(q, k, stencil=stencil, row_stride=stride, backend="triton", **options))
    for got, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(got.double(), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("part", [pytest.param("kernel", marks=needs_triton)])
def test_the_variance_of_a_sharp_far_look(part):
    """All but a little of the attention lies on key 2, far behind: the variance is a small sum of large squares."""
    T = 130 if is_interpreting() else 2000
    q, k = draw(T=T, H=1, G=1, device=DEVICE)
    q[:] = k[:, 2:3]
    found = probe(12 * q, k, stencil=Stencil(), row_stride=64, backend="triton")
    wanted = probe(12 * q.double(), k.double(), stencil=Stencil(), row_stride=64, backend="reference")
    assert wanted.square > 0.99
    torch.testing.assert_close(found.variance.double(), wanted.variance, rtol=5e-4, atol=1e-7)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("stride", [1, 8])
@pytest.mark.parametrize("part", [pytest.param("kernel", marks=needs_triton)])
def test_triton_probe_of_half_precision(part, stride, dtype):
    """Inputs in half precision, few sampled rows and many: equal to float64 on the same numbers."""
    q, k = draw(70 if is_interpreting() else 555, HEADS, GROUPS, K=64, dtype=dtype, device=DEVICE)
    stencil = Stencil("window", 400, sinks=3)
    found = probe(q / 4, k, stencil=stencil, row_stride=stride, backend="triton")
    wanted = probe((q / 4).double(), k.double(), stencil=stencil, row_stride=stride, backend="reference")
    for got, exact in zip(astuple(found), astuple(wanted), strict=True):
        torch.testing.assert_close(got.double(), exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("part", [pytest.param("kernel", marks=needs_triton)])
def test_rows_that_see_nothing_count_as_zero(part):
    """Whether the log-sum-exp, which is infinite there, is given or not."""
    from evo.kernels.attention.triton.operator import attention, pack

    q, k = draw(TIME, HEADS, GROUPS, device=DEVICE)
    stencil = Stencil("window", 50)
    _, lse = attention(q, k, k, *[None] * 6, pack(stencil), 60, 16**-0.5, 0.0)
    assert 0 < lse.isinf().sum() < lse.numel()
    for given in (None, lse):
        found = probe(q, k, stencil=stencil, query_offset=60, row_stride=1, lse_BHT=given, backend="triton")
        wanted = probe(q.double(), k.double(), stencil=stencil, query_offset=60, row_stride=1, backend="reference")
        for got, exact in zip(astuple(found), astuple(wanted), strict=True):
            torch.testing.assert_close(got.double(), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("part", [pytest.param("kernel", marks=needs_triton)])
def test_views_and_keys_of_another_dtype(part):
    """Sinks and slopes that are views of something else, keys in another dtype, every other row of both."""
    q, k = (x[:, ::2] for x in draw(TIME, HEADS, GROUPS, device=DEVICE))
    parts = {
        "sink_logits_H": torch.linspace(0, 2, 2 * HEADS, device=DEVICE)[::2],
        "alibi_slopes_H": torch.full((1,), 0.3, device=DEVICE).expand(HEADS),
    }
    found = probe(q, k.half(), stencil=Stencil(), row_stride=1, backend="triton", **parts)
    wide = {name: x.double() for name, x in parts.items()}
    wanted = probe(q.double(), k.half().double(), stencil=Stencil(), row_stride=1, backend="reference", **wide)
    for got, exact in zip(astuple(found), astuple(wanted), strict=True):
        torch.testing.assert_close(got.double(), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("part", [pytest.param("kernel", marks=needs_triton)])
def test_opcheck_passes(part):
    """The kernel's operator: schema and fake implementation are right."""
    from evo.kernels.attention.triton.operator import pack
    from evo.kernels.attention.triton.probe import probe_rows

    q, k = draw(TIME, HEADS, GROUPS, device=DEVICE)
    arguments = (q, k, None, None, None, None, pack(Stencil("window", 20)), 0, 0.25, 0.0, 1e-3, 8)
    torch.library.opcheck(probe_rows.traced, arguments, test_utils=("test_schema", "test_faketensor"))


def windowed(q, k):
    """The statistics of a window of 20 as a list."""
    found = probe(q, k, stencil=Stencil("window", 20), backend="triton")
    return [found.span, found.variance, found.entropy, found.square, found.share_below]


@pytest.mark.filterwarnings("ignore")  # torch.compile warns of what it does itself
@pytest.mark.parametrize("part", [pytest.param("kernel", marks=needs_triton)])
def test_compile_traces_the_probe_without_a_break(part):
    """One graph, the same statistics."""
    inputs = draw(device=DEVICE)
    compiled = torch.compile(windowed, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(*inputs), windowed(*inputs))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_graph_replays_the_probe():
    """A CUDA graph gives the statistics of the numbers that its inputs hold by then."""
    q, k = draw(T=333, K=64, device="cuda", dtype=torch.bfloat16)
    for got, wanted in zip(*replayed(lambda: windowed(q, k), [q]), strict=True):
        torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("part", [pytest.param("kernel", marks=needs_triton)])
def test_triton_probe_takes_the_log_sum_exp_of_another_backend(part):
    """A log-sum-exp from the attention kernel gives the same statistics as the probe's own."""
    from evo.kernels.attention.triton.operator import attention, pack

    q, k = draw(TIME, HEADS, GROUPS, device=DEVICE)
    stencil = Stencil("window", 20)
    _, lse = attention(q, k, k, *[None] * 6, pack(stencil), 0, 16**-0.5, 0.0)
    given = probe(q, k, stencil=stencil, lse_BHT=lse, backend="triton")
    torch.testing.assert_close(astuple(given), astuple(probe(q, k, stencil=stencil, backend="triton")))
    torch.testing.assert_close(
        attend(q, k, k, stencil=stencil, backend="triton"), attend(q, k, k, stencil=stencil), rtol=1e-4, atol=1e-5
    )
