"""The inside of a worker process: read a job, run it, send the outcome, until the parent closes the pipe or dies.

Messages to the parent are pickled tuples: ("ready",) once, then per job either ("refused", Failure), if it cannot be
loaded, or ("started",) and ("done", Outcome), or ("lost", Outcome) where the process has lost its GPU meanwhile. Plain
pickle is used on purpose: `Connection.send` would hand tensors over by file descriptor, and those die with the worker.
"""

from __future__ import annotations

import importlib
import os
import pickle
import signal
import sys
import threading
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait

from evo.base.memory import keep_freed, return_freed
from evo.engines.device import is_lost
from evo.engines.jobs import Failure, Job, Outcome, explain, find_function, run_job, without_device

ORPHANED = 3
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def serve(pipe: Connection, preload: tuple[str, ...], environment: dict[str, str]) -> None:
    """Serve jobs from the pipe. Interrupts are the parent's business; so is stdout, and prints go to stderr."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(2, 1)
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    os.environ.update({**dict.fromkeys(THREAD_VARIABLES, "1"), **environment})
    keep_freed()
    for module in preload:
        importlib.import_module(module)
    try:
        _send(pipe, ("ready",))
        while True:
            _serve_one(pipe, pipe.recv_bytes())
    except (EOFError, BrokenPipeError, ConnectionResetError):
        sys.stderr.flush()
        os._exit(0)  # taking torch down in good order takes a second, and there is nothing to save


def _serve_one(pipe: Connection, message: bytes) -> None:
    try:
        job: Job = pickle.loads(message)
        function = find_function(job.function)
    except Exception as error:
        _send(pipe, ("refused", explain(error)))
        return
    _use_one_thread()
    _send(pipe, ("started",))
    outcome = run_job(job, function)
    return_freed()
    if is_lost():
        _send(pipe, ("lost", without_device(outcome)))
        return
    try:
        answer = pickle.dumps(("done", outcome))
    except Exception as error:
        failure = Failure("error", f"the job's value cannot be pickled: {explain(error).message}")
        answer = pickle.dumps(("done", Outcome(job.id, None, failure, outcome.seconds)))
    pipe.send_bytes(answer)


def _send(pipe: Connection, message: tuple[object, ...]) -> None:
    pipe.send_bytes(pickle.dumps(message))


def _use_one_thread() -> None:
    """Set it in torch if torch is loaded; one that a job loads later reads the environment."""
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(1)


def _exit_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(ORPHANED)
