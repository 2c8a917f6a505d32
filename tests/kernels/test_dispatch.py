"""The dispatcher: order, reasons, cache, and the promise not to import triton early."""

import operator
import subprocess
import sys
from dataclasses import dataclass

import pytest

from evo.kernels.dispatch import Backend, BackendError, KernelCall, Table, always, choose
from evo.kernels.fused import FusedCall
from evo.kernels.tables import TABLES, table_of


@dataclass(frozen=True, kw_only=True)
class Counted(KernelCall):
    """A call whose backends refuse odd sizes."""

    size: int
    family: str = "counting"
    device: str = "cuda"
    dtype: str = "float32"


def refuses_odd(call):
    return ["size is odd"] if call.size % 2 else []


TABLE = Table(
    family="counting",
    backends=(
        Backend("fast", operator.add, refuses_odd),
        Backend("never", operator.sub, lambda call: ["not built", "not wanted"]),
        Backend("reference", operator.mul, always),
    ),
    priority={"cpu": ("reference",), "cuda": ("never", "fast", "reference")},
)


def test_first_without_a_reason_wins_and_the_rest_are_explained():
    """The first usable backend in the device's order is chosen; the ones before it carry their reasons."""
    assert choose(TABLE, Counted(size=2)).backend.name == "fast"
    choice = choose(TABLE, Counted(size=3))
    assert choice.backend.name == "reference"
    assert choice.rejected == {"never": ("not built", "not wanted"), "fast": ("size is odd",)}


def test_order_is_per_device_and_unknown_devices_take_the_cpu_order():
    """A device without a list of its own uses the plainest one."""
    assert choose(TABLE, Counted(size=2, device="cpu")).backend.name == "reference"
    assert choose(TABLE, Counted(size=2, device="tpu")).backend.name == "reference"


def test_explicit_request_raises_with_the_reasons():
    """What was asked for runs, or an error says why not."""
    assert choose(TABLE, Counted(size=3), "reference").backend.run(2, 3) == 6
    with pytest.raises(BackendError, match="'fast' cannot run this call: size is odd"):
        choose(TABLE, Counted(size=3), "fast")
    with pytest.raises(BackendError, match="counting: unknown backend 'slow'; known: fast, never, reference"):
        choose(TABLE, Counted(size=3), "slow")


def test_importing_the_kernels_does_not_import_triton():
    """A machine without triton can use every room of the package."""
    code = (
        "import sys; import evo.kernels.attention, evo.kernels.recurrence, evo.kernels.convolution;"
        "sys.exit('triton.language' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_family_has_a_table():
    """A call says which, so that whoever lists calls need not know families."""
    for family, table in TABLES.items():
        assert table.family == family
        assert table.order("cpu")[-1].name == "reference"
        assert table.order("cuda")[-1].name == "reference"
    call = FusedCall(family="gated", device="cuda", dtype="float64")
    choice = choose(table_of(call), call)
    assert choice.backend.name == "reference"
    assert "float64" in choice.rejected["triton"][-1]
