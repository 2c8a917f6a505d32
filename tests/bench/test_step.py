"""One training step on a GPU: what is told of it. Measuring it needs a GPU."""

from dataclasses import asdict
from types import SimpleNamespace

from torch import nn

from evo.bench import memory, step_kernels
from evo.bench.memory import MemoryRow
from evo.bench.plain_gpt import PlainGPT
from evo.bench.step import SAME, SHAPE, Shape, StepReport, StepRow, cells
from evo.bench.step_kernels import Family, families
from evo.compiler.build import build
from evo.compiler.resolve import resolve
from evo.dsl.document import parse

ROWS = [StepRow("evo captured", 3_200_000, 6.914, 6.9, 7.0, 1.777, "captured"), StepRow("plain", 1, 3.89, 3, 4, 1, "")]


def test_the_same_gpt_has_the_peers_size():
    """What says that it is the peer's shape has its parameters."""
    assert size_of(SAME) == parameters(plain(SHAPE))
    small = Shape(width=24, layers=3, heads=2, context=8, batch=2)
    assert size_of(memory.BODY.format(**asdict(small), checkpoints="true")) == parameters(plain(small))


def size_of(body: str) -> int:
    """The parameters of a document."""
    return parameters(build(resolve(parse(f"evo: 1\n{body}").document.organism), 0))


def plain(shape: Shape) -> PlainGPT:
    """The peer."""
    return PlainGPT(shape.width, shape.layers, shape.heads, shape.context)


def parameters(model: nn.Module) -> int:
    """How many numbers a model learns."""
    return sum(parameter.numel() for parameter in model.parameters())


def test_a_way_is_a_row_of_cells():
    """Golden text: parameters in thousands, all other numbers to two places, and how the steps were carried out."""
    assert cells(ROWS) == [
        ("one step of", "parameters", "Mtok/s, median", "from", "to", "times the plain graph", "note"),
        ("evo captured", "3,200,000", "6.91", "6.90", "7.00", "1.78", "captured"),
        ("plain", "1", "3.89", "3.00", "4.00", "1.00", ""),
    ]


def test_memory_is_told_beside_the_peers():
    """Golden text: GiB to a tenth."""
    assert memory.cells([MemoryRow("evo captured", 31.06, 28.5, 519.4, 1.0564)]) == [
        ("training by", "reserved, GiB", "allocated, GiB", "ktok/s", "times torch.compile's"),
        ("evo captured", "31.1", "28.5", "519", "1.06"),
    ]


def kernel(key: str, count: int, spent_us: float) -> step_kernels.Launches:
    """What the profiler says of a kernel."""
    return SimpleNamespace(key=key, count=count, self_device_time_total=spent_us)  # pyright: ignore[reportReturnType]


def test_kernels_are_summed_by_family():
    """Of one step, the most first; kernels of no family by their own names, and what took no time on the device not."""
    seen = [
        kernel("nvjet_hsh_128x256", 20, 40.0),
        kernel("sm90_gemm_bf16", 10, 20.0),
        kernel("norm_forward", 10, 30.0),
        kernel("cudaGraphLaunch", 10, 0.0),
    ]
    expected = [Family("all", 4.0, 9.0), Family("matrix products", 3.0, 6.0), Family("norm_forward", 1.0, 3.0)]
    assert families(seen, 10) == expected


def test_a_report_is_a_table_with_the_kernels_below():
    """Golden text."""
    report = StepReport(ROWS[1:], {"defaults": [Family("all", 4.0, 9.04)]})
    assert report.to_markdown() == (
        "| one step of | parameters | Mtok/s, median | from | to | times the plain graph | note |\n"
        "| --- | --- | --- | --- | --- | --- | --- |\n"
        "| plain | 1 | 3.89 | 3.00 | 4.00 | 1.00 |  |\n"
        "\n"
        "A captured step of evo, defaults, by kernels (profiled in the same run):\n"
        "\n"
        "| kernels | launches a step | us a step |\n"
        "| --- | --- | --- |\n"
        "| all | 4.0 | 9.0 |"
    )
