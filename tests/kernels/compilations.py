"""What a candidate of a search would have Triton compile on a Hopper GPU, found on the CPU without computing anything.

A candidate's passes run on fake tensors with the kernels of a GPU: a training step, the causality probe, the score, the
behaviour and the snapshot. Each launch is noted by what Triton keeps a compiled kernel under. Run as a program
(`PYTHONPATH=src:tests python tests/kernels/compilations.py`), it goes through seeds of `evo bench candidates` and
mutants of them, and says how many kernels each asks for that no earlier one did.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import Any
from unittest import mock

import torch
import triton
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, make_backend
from triton.runtime.jit import JITFunction, create_function_from_signature

from evo.bench.candidates import SIZES, documents
from evo.blocks.flow import Flow
from evo.compiler.build import make
from evo.compiler.organism import Organism
from evo.compiler.resolve import resolve
from evo.dsl.document import Document
from evo.dsl.spec import TOKENS
from evo.dsl.tree import replaced
from evo.evolution.mutate import mutants
from evo.evolution.trial import FULL_BUDGET
from evo.kernels import dispatch, operators, packed_grad
from evo.kernels.attention.triton import launch
from evo.kernels.fused import support
from evo.kernels.structure.nearest_plane import nearest_plane
from evo.tasks.base import Batch
from evo.tasks.held_out import BATCH_TOKENS
from evo.training.behaviour import QUERIES
from evo.training.captured import DeviceStep
from evo.training.causality import STEPWISE_ROWS
from evo.training.half_weights import HalfWeights
from evo.training.optimizer import Optimizer
from evo.training.stepwise import noted_calls

HOPPER = GPUTarget("cuda", 90, 32)


@dataclass(frozen=True)
class Kernel:
    """One compilation. arguments: type and specialisation by parameter, or the constant; options: warps, stages."""

    name: str
    arguments: tuple[tuple[str, str], ...]
    options: str

    def differs_in(self, other: Kernel) -> list[str]:
        """The parameters that set it apart from another of the same function."""
        found = [a[0] for a, b in zip(self.arguments, other.arguments, strict=True) if a != b]
        return [*found, *(["options"] if self.options != other.options else [])]


class Noted:
    """The compilations that launches ask for, with how to make them. Stands for `JITFunction.__getitem__`."""

    def __init__(self) -> None:
        self.backend = make_backend(HOPPER)
        self.kernels: dict[Kernel, tuple[JITFunction, Any]] = {}
        self._binders: dict[JITFunction, Any] = {}

    def note(self, function: JITFunction, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Take a launch down."""
        binder = self._binders.get(function)
        if binder is None:
            binder = create_function_from_signature(function.signature, function.params, self.backend)
            self._binders[function] = binder
        bound, specialization, options = binder(*args, **kwargs)
        arguments = tuple((name, _said(row)) for name, row in zip(bound, specialization, strict=True))
        kernel = Kernel(f"{function.__module__.split('.', 2)[2]}.{function.__name__}", arguments, str(options))
        if kernel not in self.kernels:
            packed = function._pack_args(self.backend, dict(kwargs), bound, specialization, options)
            self.kernels[kernel] = (function, packed)


def compiled_s(function: JITFunction, packed: Any) -> float:
    """Seconds that compiling a noted kernel takes, with no cache. Raises what the compiler does."""
    options, signature, constants, attributes = packed
    source = ASTSource(function, signature, constants, attributes)
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(triton.knobs.cache, "dir", folder):
        triton.compile(source, target=HOPPER, options=options.__dict__)
    return time.perf_counter() - begun


def _said(row: tuple[Any, ...]) -> str:
    kind, value = row[0], row[1]
    return f"={value}" if kind == "constexpr" else f"{kind}{'' if value is None else ' ' + str(value)}"


@contextmanager
def noting(noted: Noted) -> Iterator[None]:
    """Inside the block fake tensors of the CPU are taken for a GPU's, and launches are noted."""

    def getitem(function: JITFunction, grid: Any) -> Any:
        del grid
        return lambda *args, **kwargs: noted.note(function, args, kwargs)

    def chosen(table: dispatch.Table, call: dispatch.KernelCall, requested: str) -> dispatch.Choice:
        return dispatch._choose(table, replace(call, device="cuda"), requested)

    def tma(*tensors: Tensor) -> bool:
        q = tensors[0]
        return (
            q.element_size() == 2
            and q.shape[1] >= launch.TMA_ROWS
            and all(x.stride(2) == x.shape[3] and min(x.stride()) > 0 for x in tensors)
        )

    def storage(x: Tensor) -> int:
        return x.untyped_storage()._cdata

    def data_ptr(x: Tensor) -> int:
        return (storage(x) << 8) + x.storage_offset() * x.element_size()

    def shares(x: Tensor, y: Tensor) -> bool:
        return x.dtype == y.dtype and storage(x) == storage(y)

    with ExitStack() as stack:
        patch = lambda *args: stack.enter_context(mock.patch.object(*args))  # noqa: E731
        patch(JITFunction, "__getitem__", getitem)
        patch(dispatch, "_remembered", cache(chosen))
        patch(torch.cuda, "is_current_stream_capturing", lambda: True)
        patch(operators, "PLAIN", (*operators.PLAIN, FakeTensor))
        patch(launch, "uses_tma", tma)
        patch(packed_grad, "_shares_memory", shares)
        patch(sys.modules[nearest_plane.__module__], "_takes_triton", lambda x, backend: True)
        stack.enter_context(mock.patch.object(FakeTensor, "data_ptr", data_ptr, create=True))
        support._decided.cache_clear()
        launch.LAUNCHES.clear()
        try:
            yield
        finally:
            support._decided.cache_clear()
            launch.LAUNCHES.clear()


def compilations(document: Document, noted: Noted) -> None:
    """Note what all passes of a candidate launch."""
    launch.LAUNCHES.clear()
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    if document.train.precision == "auto":  # what it is on a GPU
        document = replaced(document, {("train", "precision"): "bf16"})
    with mode:
        plan = resolve(document.organism)
        model = Organism(plan, make)
        context, batch, precision = document.context, document.train.batch, document.train.precision
        step = _step(model, document)
        for _ in range(2):
            step.body()
        flow = step.flow
        half = lambda: torch.autocast("cpu", torch.bfloat16, enabled=precision != "fp32")  # noqa: E731
        tokens_BT = torch.zeros(batch, context, dtype=torch.int64)
        for is_training in (True, False):  # the probe before training, in float32 too
            model.train(is_training)
            with half():
                logits_BTV = model(tokens_BT, flow() if is_training else Flow()).float()
            if is_training:
                torch.autograd.grad(logits_BTV.sum(), model.embedding.weight, allow_unused=True)
        model.eval()
        with torch.no_grad():
            with noted_calls(model) as calls:
                model(tokens_BT, Flow())
            _continue(calls, context)
            model(tokens_BT[:STEPWISE_ROWS], Flow())
            rows = max(1, BATCH_TOKENS // context)
            with half():  # the score, and the snapshot's losses
                model(torch.zeros(rows, context, dtype=torch.int64), Flow())
            moment_rows = max(1, FULL_BUDGET.moment_tokens // context)
            model(torch.zeros(moment_rows, context, dtype=torch.int64), Flow())
        _behave(model, context)
        nearest_plane(torch.zeros(1, 64, 64, dtype=torch.float64), torch.eye(64).double()[None])


def _step(model: Organism, document: Document) -> DeviceStep:
    spec = document.train
    optimizer = Optimizer(
        {path: p for path, p in model.named_parameters() if path in model.plan.trained},
        model.plan.trained, spec.optimizer, spec.clip, spec.rates, model.plan.width,
    )  # fmt: skip

    class Source:
        def draw(self, step: int, rows: int, context: int, stream: Any) -> Tensor:
            return torch.zeros(rows, dtype=torch.int64)

        def batch(self, drawn_S: Tensor, row_1: Tensor, context: int) -> Batch:
            from evo.kernels.fused import gather_sequences

            text = torch.zeros(10_000, dtype=torch.uint8)
            return Batch(*gather_sequences(text, drawn_S, row_1, context))

    with mock.patch.object(DeviceStep, "_half_weights", lambda self: HalfWeights(torch.bfloat16, self.side)), \
         mock.patch.object(FakeTensor, "tolist", lambda self: [0.0] * self.numel()):  # fmt: skip
        step = DeviceStep(model, Source(), spec, document.context, optimizer, lambda step: 1.0)
    step.block.seed_1 = lambda: torch.zeros(1, dtype=torch.int64)
    step.update.find_gradients = lambda: None
    return step


def _continue(calls: Any, context: int) -> None:
    """As `mismatch`."""
    cut = context // 2 + 1
    for block, call in calls.items():
        states: Any = {}
        for start, end in pairwise((0, cut, cut + 1, context)):
            signals = {name: signal[:STEPWISE_ROWS, start:end] for name, signal in call.flow.signals.items()}
            flow = Flow(signals, position=start, states=states, project=call.flow.project)
            flow.run(block, call.x_BTD[:STEPWISE_ROWS, start:end])
            states = flow.next_states


def _behave(model: Organism, context: int) -> None:
    """As `behaviour`."""
    with torch.enable_grad():
        tokens_QT = torch.zeros(QUERIES, context, dtype=torch.int64)
        x_QTD = torch.zeros(QUERIES, context, model.plan.width).requires_grad_(True)
        logits = model.forward_embedded(x_QTD, Flow(signals={TOKENS: tokens_QT}))
        torch.autograd.grad(logits.sum(), x_QTD)
        logits = model(tokens_QT, Flow())
        asked = [p for p in model.parameters() if p.requires_grad]
        torch.autograd.grad(logits.float().sum(), asked, allow_unused=True)


def population(seeds: int, children: int) -> Iterator[tuple[str, Document]]:
    """The seeds of `evo bench candidates`, and mutants of them and of their mutants, in turn."""
    parents = documents(SIZES["cuda"])[:seeds]
    yield from (((f"seed {i}", parent) for i, parent in enumerate(parents)))
    pool = list(parents)
    for i in range(children):
        parent = pool[i % len(pool)]
        (child,) = mutants(parent, 1, seed=i)
        pool.append(child.document)
        yield f"mutant {i}: {'+'.join(child.operators)}", child.document


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--mutants", type=int, default=60)
    parser.add_argument("--why", action="store_true", help="say what sets each new kernel apart")
    parser.add_argument("--compile", action="store_true", help="compile each new kernel for sm_90, and say how long")
    asked = parser.parse_args(argv)
    seen: dict[Kernel, int] = {}
    new_by_kernel, why = Counter[str](), Counter[tuple[str, str]]()
    seconds: dict[str, float] = defaultdict(float)
    totals, news = [], []
    for i, (name, document) in enumerate(population(asked.seeds, asked.mutants)):
        noted, begun = Noted(), time.perf_counter()
        try:
            with noting(noted):
                compilations(document, noted)
        except Exception as error:
            print(f"{name}: {type(error).__name__}: {str(error).splitlines()[0][:200]}")
            if asked.mutants == 0:
                raise
        new = [k for k in noted.kernels if k not in seen]
        for kernel in new:
            alike = [k for k in seen if k.name == kernel.name]
            closest = min((kernel.differs_in(k) for k in alike), key=len) if alike else ["first"]
            why[kernel.name, ", ".join(closest)] += 1
            if asked.why:
                values = {name: value for name, value in kernel.arguments if name in closest}
                print(f"    {kernel.name}: {values or ', '.join(closest)}")
            if asked.compile:
                seconds[kernel.name] += compiled_s(*noted.kernels[kernel])
            new_by_kernel[kernel.name] += i >= asked.seeds
            seen[kernel] = i
        totals.append(len(noted.kernels))
        news.append(len(new))
        print(f"{name}: {len(noted.kernels)} kernels, {len(new)} new, {time.perf_counter() - begun:.1f} s", flush=True)
    later = news[asked.seeds :]
    print(f"{len(seen)} kernels in all; a candidate asks for {sum(totals) / len(totals):.1f}, "
          f"a mutant for {sum(later) / max(1, len(later)):.2f} new ones")  # fmt: skip
    for name, count in new_by_kernel.most_common():
        print(f"{count:5d} new by mutants, {sum(k.name == name for k in seen):4d} in all: {name}")
    for name, taken in sorted(seconds.items(), key=lambda row: -row[1]):
        print(f"{taken:6.1f} s to compile: {name}")
    if asked.why:
        for (name, differs), count in why.most_common():
            print(f"  {count:4d} {name}: {differs}")


if __name__ == "__main__":
    main()
