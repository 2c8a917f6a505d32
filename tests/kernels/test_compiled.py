"""Every kernel compiles for a Hopper GPU without one, and fits its shared memory: what the interpreter cannot show."""

import pytest
import torch

from evo.kernels.triton_support import is_interpreting

triton = pytest.importorskip("triton", reason="triton is not installed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(is_interpreting(), reason="compiles; TRITON_INTERPRET=1 does not"),
]

SHARED_BYTES = 232_448
POINTERS = {torch.bfloat16: "*bf16", torch.float32: "*fp32", torch.int64: "*i64"}


def describe(fn, args, kwargs):
    """Signature, constants and alignments of a launch, as the driver would specialise it."""
    from triton.tools.tensor_descriptor import TensorDescriptor

    bound = dict(zip(fn.arg_names, args, strict=False)) | {n: x for n, x in kwargs.items() if n in fn.arg_names}
    signature, constants, alignments = {}, {}, {}
    for i, parameter in enumerate(fn.params):
        value, name = bound[parameter.name], parameter.name
        free = parameter.do_not_specialize
        if parameter.is_constexpr or value is None or (not free and type(value) is int and value == 1):
            signature[name], constants[(i,)] = "constexpr", value
        elif isinstance(value, torch.Tensor):
            signature[name], alignments[(i,)] = POINTERS[value.dtype], [["tt.divisibility", 16]]
        elif isinstance(value, TensorDescriptor):
            signature[name] = f"tensordesc<{POINTERS[value.base.dtype][1:]}{value.block_shape}>"
        elif isinstance(value, int):
            signature[name] = "i32"
            if value % 16 == 0 and not free:
                alignments[(i,)] = [["tt.divisibility", 16]]
        else:
            signature[name] = "fp32"
    return signature, constants, alignments


@pytest.fixture
def shared_bytes(monkeypatch):
    """Launches compile for sm_90 and do not run; the fixture is the list of (kernel, shared memory in bytes)."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    found = []

    def compile_only(self, grid):
        def launch(*args, **kwargs):
            options = {name: kwargs[name] for name in ("num_warps", "num_stages") if name in kwargs}
            source = ASTSource(self, *describe(self, args, kwargs))
            compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
            found.append((self.__name__, compiled.metadata.shared))

        return launch

    monkeypatch.setattr(triton.runtime.jit.JITFunction, "__getitem__", compile_only)
    return found


def fits(found, *kernels):
    assert {name for name, _ in found} == set(kernels)
    assert max(size for _, size in found) <= SHARED_BYTES, found


def zeros(*shape, dtype=torch.bfloat16):
    return torch.zeros(shape, dtype=dtype)


@pytest.mark.parametrize(("dim", "described"), [(64, False), (128, True), (256, False), (256, True)])
def test_attention_compiles(shared_bytes, dim, described, monkeypatch):
    """Forward, backward and probe, with every extra at once."""
    from evo.kernels.attention import Stencil
    from evo.kernels.attention.triton import launch
    from evo.kernels.attention.triton.launch import Asked, Call, Extras, launch_backward, launch_forward
    from evo.kernels.attention.triton.operator import pack
    from evo.kernels.attention.triton.probe import probe_rows

    monkeypatch.setattr(launch, "uses_tma", lambda *tensors: described)
    launch.LAUNCHES.clear()

    q, k, v = zeros(2, 96, 4, dim), zeros(2, 96, 2, dim), zeros(2, 96, 2, dim)
    rates, ids, stencil = zeros(4, dtype=torch.float32), zeros(2, 96, dtype=torch.int64), Stencil("window", 40, sinks=2)
    extras, call = Extras(rates, rates, zeros(4, 96, 96), None, ids, ids), Call(stencil, 0, 0.1, 5.0)
    o, lse = launch_forward(q, k, v, extras, call)
    launch_backward(o, None, q, k, v, o, lse, extras, call, Asked(True, True, True))
    launch.LAUNCHES.clear()
    probe_rows(q, k, rates, rates, ids, None, pack(stencil), 0, 0.1, 5.0, 1e-3, 8)
    fits(shared_bytes, "forward", "query_gradients", "key_gradients", "bias_gradients", "probe")


@pytest.mark.parametrize("dim", [16, 64])
def test_short_attention_compiles(shared_bytes, dim):
    """One launch each way."""
    from evo.kernels.attention.short import short_attention, short_attention_backward

    q, k, v = zeros(2, 96, 4, dim), zeros(2, 96, 2, dim), zeros(2, 96, 2, dim)
    o, lse = short_attention.run(q, k, v, 0.1)
    short_attention_backward.run(o, q, k, v, o, lse, 0.1)
    fits(shared_bytes, "short_forward", "short_backward")


@pytest.mark.parametrize("dim", [64, 128, 256])
def test_recurrence_compiles(shared_bytes, dim):
    """Scans, delta rule, channel decays with a bonus, decays per head."""
    from evo.kernels.recurrence.triton import channel_operator as channel
    from evo.kernels.recurrence.triton import delta_operator as delta
    from evo.kernels.recurrence.triton.head_decay import head_decay_grad
    from evo.kernels.recurrence.triton.outer import ScanConfig, launch_chunk_scan

    x, gates, rates = zeros(8, 80, 16, dim), zeros(8, 80, 16, dtype=torch.float32), zeros(16, dtype=torch.float32)
    for back in (False, True):
        launch_chunk_scan(x, x, x, gates, x, None, ScanConfig(back, False, False, True))
    head_decay_grad.run(x, x, x, rates, gates, x, None, True, False)
    _, _, errors, states, *prepared = delta.recur_delta.run(x, x, x, gates, gates, None, 1.0, True)
    delta.errors_back.run(x, x, x, *prepared, None, 1.0)
    delta.keys_back.run(x, x, x, x, errors, gates, gates, states, None, states, 1.0)
    bonus = zeros(16, dim, dtype=torch.float32)
    _, _, *made = channel.recur_channel.run(x, x, x, x.float(), bonus, None, 1.0)
    channel.recur_channel_backward.run(x, None, x, x, x, x.float(), bonus, None, *made, 1.0)
    fits(
        shared_bytes,
        *(
            "chunk_scan",
            "channel_scan",
            "age_weighted_dots",
            "prepare",
            "forward",
            "errors_back",
            "keys_back",
            "operands",
            "gradients",
        ),
    )


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("dim", [64, 128, 256])
def test_generalised_delta_compiles(shared_bytes, dim, single):
    """With two writers and a bonus, and with the delta rule's one."""
    from evo.kernels.recurrence.triton.dplr_operator import recur_dplr, recur_dplr_backward

    x, decay = zeros(8, 80, 16, dim), zeros(8, 80, 16, dim, dtype=torch.float32)
    writers = (None, None, zeros(8, 80, 16, dtype=torch.float32)) if single else (x, x, None)
    _, final, seen, states = recur_dplr.run(x, x, x, *writers, decay, None, 1.0, not single, True)
    recur_dplr_backward.run(x, final, x, x, x, *writers, decay, seen, states, 1.0, not single)
    fits(
        shared_bytes,
        *("run_decay", "prepare", "forward", "back", "values_back", "readers_back", "writers_back"),
    )


@pytest.mark.parametrize("dim", [64, 256])
def test_decoding_steps_compile(shared_bytes, dim):
    """The most laden member: channel decays, a DPLR update and a bonus."""
    from evo.kernels.recurrence.triton.step import recur_step

    x, decay = zeros(8, 1, 16, dim), zeros(8, 1, 16, dim, dtype=torch.float32)
    bonus, state = zeros(16, dim, dtype=torch.float32), zeros(8, 16, dim, dim, dtype=torch.float32)
    recur_step.run(x, x, x, decay, None, x, x, bonus, state, 3, 2, 1.0)
    fits(shared_bytes, "step")


@pytest.mark.parametrize("taps", [4, 8])
def test_short_convolution_compiles(shared_bytes, taps):
    """With bias and state, forward and back."""
    from evo.kernels.convolution.triton import operator as convolution

    x, weight, bias = zeros(2, 300, 256), zeros(256, taps, dtype=torch.float32), zeros(256, dtype=torch.float32)
    state = zeros(2, taps - 1, 256)
    convolution.short_convolution.run(x, weight, bias, state, None, True)
    convolution.short_convolution_backward.run(x, state, x, weight, bias, state, None, True)
    fits(shared_bytes, "forward", "gradients")


@pytest.mark.parametrize("channels", [1, 70, 65536])
def test_scan_compiles(shared_bytes, channels):
    """Forward and back."""
    from evo.kernels.scan import triton as scan

    x, before = zeros(2, 300, channels, dtype=torch.float32), zeros(2, channels, dtype=torch.float32)
    scan.states(x, x, before)
    scan.gradients(x, x, before, x)
    fits(shared_bytes, "forward", "backward")


@pytest.mark.parametrize("width", [24, 2048])
def test_permutations_compile(shared_bytes, width):
    """Both ways and the gradient of shares."""
    from evo.kernels.fused.permute import _permute, _row_dots, _unpermute

    shift, shares = zeros(320, dtype=torch.int64), zeros(40, 8)
    x, y = zeros(40, width), zeros(320, width)
    _permute.run(x, shift, shares)
    _unpermute.run(y, shift, shares, 8)
    _row_dots.run(x, y, shift)
    fits(shared_bytes, "permute", "unpermute", "row_dots")
