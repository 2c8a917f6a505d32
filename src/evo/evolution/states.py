"""States: weights and optimizers of trainings that may go on, beside the journal. None of them is needed.

A trial at a higher rung goes on from the state that the trial below left. Where that is missing or damaged, the steps
are taken again from the start and come to the same bytes, so states may be lost at any moment.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from evo.base.files import write_atomic
from evo.base.rundirs import STATES
from evo.evolution.trial import WeightsRef

SEAL_BYTES = 16


class States:
    """States by the trial that left them, in a folder of their own, or in memory where there is none."""

    def __init__(self, run: Path | None) -> None:
        self.folder = run and run / STATES
        self._held: dict[WeightsRef, bytes] = {}

    def put(self, ref: WeightsRef, state: bytes) -> None:
        """Keep a state."""
        if self.folder is None:
            self._held[ref] = state
            return
        self.folder.mkdir(exist_ok=True)
        write_atomic(self._file(ref), _seal(state) + state)

    def get(self, ref: WeightsRef) -> bytes:
        """The state that a trial left; empty where there is none that is whole."""
        if self.folder is None:
            return self._held.get(ref, b"")
        try:
            data = self._file(ref).read_bytes()
        except OSError:
            return b""
        state = data[SEAL_BYTES:]
        return state if data[:SEAL_BYTES] == _seal(state) else b""

    def drop(self, ref: WeightsRef) -> None:
        """Forget a state, if it is there."""
        self._held.pop(ref, None)
        if self.folder is not None:
            self._file(ref).unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove all of them."""
        self._held.clear()
        if self.folder is not None and self.folder.is_dir():
            for file in self.folder.iterdir():
                file.unlink(missing_ok=True)
            self.folder.rmdir()

    def _file(self, ref: WeightsRef) -> Path:
        assert self.folder is not None
        return self.folder / f"{ref.candidate.replace('/', '_')}@{ref.rung}"


def _seal(state: bytes) -> bytes:
    return hashlib.blake2b(state, digest_size=SEAL_BYTES).digest()
