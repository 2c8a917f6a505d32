"""A look at all pools of a network: one row of text goes through it, and each pool is measured; as one CUDA graph where
steps are one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from evo.base.causes import first_cause
from evo.base.memory import no_collection
from evo.base.streams import Stream
from evo.blocks.companion import Surroundings
from evo.blocks.transfer import sent
from evo.slime.behaviour import Look, measure, projection
from evo.slime.colony import Colony

BRANCHES = 8
"""Of a captured look: so many pools are measured at once, as the launches of one leave most of a device idle."""


class Glance:
    """What the census of each pool needs, on the device: `PATH:rows` and `PATH:measures`. The host waits for nothing.

    The first look launches every operation, which compiles kernels and makes tables. Later ones replay its launches
    where training steps are captured: a look is a thousand small launches, for which the device would wait.
    """

    def __init__(self, colonies: Sequence[Colony], around: Surroundings) -> None:
        self.colonies, self.around = colonies, around
        self.widths: dict[str, int] = {}
        """By pool, of what enters it; known after the first look."""
        self.replay: _Replay | None = None
        self.refusal = ""
        """Why looks are not captured, if that failed."""

    def take(self, step: int) -> dict[str, Tensor]:
        """Look behind a step."""
        row_1T = self.around.row(step)
        if not self._may_replay():
            device = self.colonies[0].pool.gain.device
            return self._measured(sent(row_1T, device), lambda colony: self._drawn(colony, step))
        drawn = {colony.path: self._projection(colony, step) for colony in self.colonies}
        try:
            return self._replayed(row_1T, drawn)
        except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
            self.refusal, self.replay = first_cause(error), None
            return self.take(step)

    def _may_replay(self) -> bool:
        is_captured = all(colony.vitals.captured for colony in self.colonies)
        return is_captured and bool(self.widths) and not self.refusal

    def _replayed(self, row_1T: Tensor, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        addresses = self._addresses()
        if self.replay is None or self.replay.addresses != addresses or self.replay.row_1T.shape != row_1T.shape:
            device = self.colonies[0].pool.gain.device
            self.replay = _Replay(
                row_1T.to(device), {path: d.to(device) for path, d in drawn.items()}, addresses, self._measured
            )
        return self.replay.take(row_1T, drawn)

    def _addresses(self) -> list[int]:
        """Where all lies that a look reads, besides its inputs."""
        gradients = [g for colony in self.colonies for g in colony.vitals.captured.values()]
        return [tensor.data_ptr() for tensor in (*self.around.model.parameters(), *gradients)]

    def _measured(
        self,
        row_1T: Tensor,
        drawn: Callable[[Colony], Tensor],
        branch: Callable[[int], AbstractContextManager[None]] = lambda index: nullcontext(),
    ) -> dict[str, Tensor]:
        """branch: where the launches of each pool go."""
        with listening(self.colonies) as looks, torch.no_grad():
            self.around.model(row_1T)
        seen: dict[str, Tensor] = {}
        for index, colony in enumerate(self.colonies):
            look = looks[colony.path]
            self.widths[colony.path] = look.x_TD.shape[1]
            with branch(index):
                colony.vitals.look()
                measures_PM = measure(colony.pool, look, colony.vitals.gradient_P, drawn(colony))
                seen |= {f"{colony.path}:rows": colony.vitals.rows(), f"{colony.path}:measures": measures_PM}
        return seen

    def _drawn(self, colony: Colony, step: int) -> Tensor:
        return sent(self._projection(colony, step), colony.pool.gain.device)

    def _projection(self, colony: Colony, step: int) -> Tensor:
        stream: Stream = self.around.stream.child("life", colony.path, step, "probe")
        return projection(self.widths[colony.path], stream)


class _Replay:
    """The launches of one look as a CUDA graph, and the tensors that they read and write."""

    def __init__(
        self,
        row_1T: Tensor,
        drawn: dict[str, Tensor],
        addresses: list[int],
        measured: Callable[..., dict[str, Tensor]],
    ) -> None:
        self.row_1T, self.drawn, self.addresses = row_1T, drawn, addresses
        self.graph = torch.cuda.CUDAGraph()
        device = row_1T.device
        stream = torch.cuda.current_stream(device)
        recording = torch.cuda.graph(self.graph, capture_error_mode="thread_local")
        try:
            with torch.cuda.device(device), no_collection(), recording, _branches(len(drawn), device) as branch:
                self.seen = measured(row_1T, lambda colony: drawn[colony.path], branch)
        finally:
            torch.cuda.set_stream(stream)  # a capture that fails leaves its own in place

    def take(self, row_1T: Tensor, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        """The same for another row and other projections."""
        device = self.row_1T.device
        self.row_1T.copy_(sent(row_1T, device))
        for path, projection_D in drawn.items():
            self.drawn[path].copy_(sent(projection_D, device))
        self.graph.replay()
        return self.seen


@contextmanager
def _branches(count: int, device: torch.device) -> Iterator[Callable[[int], AbstractContextManager[None]]]:
    """Streams beside the current one, which waits for them at the end. Nothing made in one may be read before."""
    main = torch.cuda.current_stream(device)
    streams = [torch.cuda.Stream(device) for _ in range(min(count, BRANCHES))]

    @contextmanager
    def branch(index: int) -> Iterator[None]:
        stream = streams[index % len(streams)]
        stream.wait_stream(main)
        with torch.cuda.stream(stream):
            yield

    yield branch
    for stream in streams:
        main.wait_stream(stream)


@contextmanager
def listening(colonies: Sequence[Colony]) -> Iterator[dict[str, Look]]:
    """What enters each pool in the passes made meanwhile: the first row of the first."""
    looks: dict[str, Look] = {}

    def listen(colony: Colony) -> Any:
        def note(pool: nn.Module, args: tuple[Any, ...]) -> None:
            del pool
            x_BTD, flow = args
            looks.setdefault(colony.path, Look(x_BTD[0].detach(), flow))

        return note

    with ExitStack() as stack:
        for colony in colonies:
            stack.callback(colony.pool.register_forward_pre_hook(listen(colony)).remove)
        yield looks
