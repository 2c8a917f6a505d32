"""Jobs for the engine tests: well-behaved and otherwise. Workers import this module by name."""

import ctypes
import os
import signal
import sys
import time
from typing import Any, cast

from evo.engines.memory import resident_bytes


def double(payload: int) -> int:
    """Twice the payload."""
    return 2 * payload


def raise_error(payload: str) -> None:
    """Fail as code fails."""
    raise ValueError(payload)


def run_out(payload: object) -> None:
    """Fail as an allocation fails."""
    raise MemoryError


def leave(payload: int) -> None:
    """End the process without a word."""
    os._exit(payload)


def leave_politely(payload: int) -> None:
    """End the process as a script does."""
    raise SystemExit(payload)


def kill_itself(payload: object) -> None:
    """Die as under the system's out-of-memory killer."""
    os.kill(os.getpid(), signal.SIGKILL)


def read_nowhere(payload: object) -> None:
    """Die of a fault in C."""
    ctypes.string_at(0)


def break_gpu(payload: tuple[str, int]) -> int:
    """Find the GPU broken in the first so many processes, which a file counts, and be in the last of them."""
    file, times = payload
    with open(file, "a") as counted:
        counted.write("x")
    attempt = os.path.getsize(file)
    if attempt <= times:
        sys.modules["torch"] = cast("Any", BrokenTorch)
    return attempt


def leave_for_a_while(payload: tuple[str, int]) -> int:
    """End the process in the first so many tries, which a file counts, and be in the last of them."""
    file, times = payload
    with open(file, "a") as counted:
        counted.write("x")
    attempt = os.path.getsize(file)
    if attempt <= times:
        os.abort()
    return attempt


class BrokenTorch:
    """What torch is like after a kernel's fault."""

    class cuda:
        is_initialized = staticmethod(lambda: True)

        @staticmethod
        def synchronize() -> None:
            """Fail as every call does by then."""
            raise RuntimeError("CUDA error: an illegal memory access was encountered")


def fault_on_gpu(payload: object) -> None:
    """Read behind the end of a tensor, which a kernel finds."""
    import torch

    torch.zeros(2, device="cuda")[torch.tensor([7], device="cuda")].sum().item()


def sum_on_gpu(payload: int) -> float:
    """As many ones together."""
    import torch

    return torch.ones(payload, device="cuda").sum().item()


def sleep(payload: float) -> float:
    """Sleep and give the seconds back."""
    time.sleep(payload)
    return payload


def allocate(payload: int) -> int:
    """Hold some bytes for a long time."""
    held = bytearray(payload)
    held[::4096] = b"x" * len(held[::4096])
    time.sleep(30)
    return len(held)


def unpicklable(payload: object) -> Any:
    """A value that cannot cross a pipe."""
    return lambda: payload


class Unreadable:
    """Can be pickled anywhere, and read back nowhere."""

    def __reduce__(self) -> tuple[Any, ...]:
        return raise_error, ("unreadable",)


def give_unreadable(payload: object) -> Unreadable:
    """A value that leaves but never arrives."""
    return Unreadable()


def chatter(payload: str) -> str:
    """Print to stdout, which belongs to the parent."""
    print(payload, flush=True)
    return payload


def process_id(payload: object) -> int:
    """Which process ran this."""
    return os.getpid()


def threads(payload: object) -> int:
    """How many threads torch uses here."""
    import torch

    return torch.get_num_threads()


def train(payload: int) -> tuple[list[float], bytes]:
    """A few steps of a small network: the losses and the bytes of a weight matrix."""
    import torch

    generator = torch.Generator().manual_seed(payload)
    weight = torch.randn(256, 256, generator=generator, requires_grad=True)
    x = torch.randn(512, 256, generator=generator)
    losses = []
    for _ in range(5):
        loss = torch.softmax(x @ weight, -1).pow(2).mean() + (x @ weight).logsumexp(-1).mean()
        (gradient,) = torch.autograd.grad(loss, weight)
        weight = (weight - 0.1 * gradient).detach().requires_grad_()
        losses.append(loss.item())
    return losses, weight.detach().numpy().tobytes()


def give_tensor(payload: int) -> Any:
    """A tensor larger than a pipe's buffer."""
    import torch

    return torch.arange(payload)


def killed_for_a_while(state: tuple[str, int, int]) -> int:
    """End its own process by a signal the first so many times; gives the number of the attempt.

    state: a file that counts, how often, the signal.
    """
    path, times, number = state
    with open(path, "a+b") as file:
        file.write(b"x")
        attempt = file.tell()
    if attempt <= times:
        os.kill(os.getpid(), number)
        time.sleep(60)
    return attempt


def allocate_often(payload: int) -> tuple[int, int]:
    """Fill so many bytes and free them, eight times: the pages that the system cleared, and bytes held before."""
    from resource import RUSAGE_SELF, getrusage

    before, held = getrusage(RUSAGE_SELF).ru_minflt, resident_bytes(os.getpid())
    for _ in range(8):
        bytearray(b"x") * payload
    assert held is not None
    return getrusage(RUSAGE_SELF).ru_minflt - before, held


def variable(name: str) -> str | None:
    """What the environment of the worker says, once no other worker is free."""
    time.sleep(0.2)
    return os.environ.get(name)
