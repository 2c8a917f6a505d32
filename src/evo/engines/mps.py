"""NVIDIA's MPS: kernels of several processes run on one GPU side by side, where by themselves processes take turns.

A kernel that faults breaks the contexts of all processes of a server, and so may a process that is killed while it
computes. Who uses it tries their work again without it (`evo.engines.pool`).
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.engines.device import VISIBLE

CONTROL = "nvidia-cuda-mps-control"
PIPES, LOGS = "CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"
WATCH = f'{CONTROL} -d >&2 && echo up && {{ cat >&2; echo quit | {CONTROL} >&2; rm -rf "${PIPES}"; }}'
"""Ends the server with whoever holds the shell's standard input, however that one ends."""
END_SECONDS = 10.0


class MPS:
    """A server of this process, for all GPUs that the system has; it ends on `close`, or with this process.

    Raises:
        DiagnosticError: there is none here, or it does not start (EVO510).
    """

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="evo-mps-")
        if shutil.which(CONTROL) is None:
            self._fail(f"{CONTROL} is not found")
        # a server that sees some GPUs only would number them anew for its clients
        environment = [f"{PIPES}={self._folder}", f"{LOGS}={self._folder}"]
        self._shell = subprocess.Popen(
            ["env", "-u", VISIBLE, *environment, "sh", "-c", WATCH],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        assert self._shell.stdout is not None
        if self._shell.stdout.readline().strip() != "up":
            told = self._shell.communicate()[1].strip().splitlines()
            self._fail(told[-1] if told else f"{CONTROL} ended with status {self._shell.returncode}")

    def environment(self, is_shared: bool) -> dict[str, str]:
        """Of a process that shares a GPU with others, or of one that has a context of its own."""
        return {PIPES: self._folder if is_shared else str(Path(self._folder) / "none")}

    def close(self) -> None:
        """End the server, after its processes. Closing twice is allowed."""
        if self._shell.poll() is None:
            try:
                self._shell.communicate(timeout=END_SECONDS)
            except subprocess.TimeoutExpired:
                self._shell.kill()
                self._shell.communicate()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _fail(self, why: str) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        help = "leave `engine.mps` out: workers take turns on a GPU then"
        raise DiagnosticError([Diagnostic("EVO510", f"NVIDIA's MPS cannot be used: {why}", None, help)])
