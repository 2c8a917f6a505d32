"""Choosing tiles: shipped, timed within a budget, kept on disk, and the same for every process."""

import json
from dataclasses import dataclass

import pytest

from evo.kernels import tuning
from evo.kernels.tuning import Machine, Record, TileChoices, autotune, fastest

pytest.importorskip("triton", reason="triton is not installed")

HOPPER = Machine("NVIDIA H100 80GB HBM3", "2.11.0", "3.6.0")
OTHER = Machine("NVIDIA A100-SXM4-40GB", "2.11.0", "3.6.0")


@dataclass(frozen=True)
class Tiles:
    M: int
    N: int


CANDIDATES = (Tiles(64, 64), Tiles(128, 64), Tiles(32, 32))


class Clock:
    """Seconds that pass only when a launch says so."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Gpu:
    """Launches take a second to compile and then as many milliseconds as `times` says; None: they do not fit."""

    def __init__(self, times, compile_s=1.0):
        self.times, self.compile_s, self.clock, self.launched = times, compile_s, Clock(), []

    def launch(self, tiles):
        from triton.runtime.errors import OutOfResources

        self.launched.append(tiles)
        self.clock.now += self.compile_s
        if self.times[tiles] is None:
            raise OutOfResources(300_000, 232_448, "shared memory")

    def measure(self, run):
        run()
        return self.times[self.launched[-1]]


def gpu(*times, **options):
    return Gpu(dict(zip(CANDIDATES, times, strict=True)), **options)


def record(folder, machine=OTHER, kernel="forward", problem=("bfloat16", 128), candidates=CANDIDATES):
    return Record.at(folder, machine, kernel, problem, candidates)


def autotuned(folder, machine, **options):
    return autotune(record(folder, **options), CANDIDATES, machine.launch, machine.measure, machine.clock)


def test_the_fastest_wins():
    """All candidates run when time allows, and the lowest time is taken."""
    machine = gpu(3.0, 1.0, 2.0)
    assert fastest(CANDIDATES, machine.launch, machine.measure, machine.clock) == CANDIDATES[1]
    assert machine.launched == list(CANDIDATES)


def test_slow_compilers_leave_the_default():
    """No candidate is begun that would, by the slowest so far, end after the budget."""
    machine = gpu(3.0, 1.0, 2.0, compile_s=0.6 * tuning.BUDGET_S)
    assert fastest(CANDIDATES, machine.launch, machine.measure, machine.clock) == CANDIDATES[0]
    assert machine.launched == [CANDIDATES[0]]


def test_tiles_that_do_not_fit_are_passed_over():
    """A GPU with less shared memory gets the first tiles that fit, however long it takes to find them."""
    machine = gpu(None, None, 2.0, compile_s=2 * tuning.BUDGET_S)
    assert fastest(CANDIDATES, machine.launch, machine.measure, machine.clock) == CANDIDATES[2]


def test_a_choice_is_kept(tmp_path):
    """The second process reads what the first found, though it would measure otherwise."""
    assert autotuned(tmp_path, gpu(3.0, 1.0, 2.0)) == CANDIDATES[1]
    later = gpu(1.0, 3.0, 2.0)
    assert autotuned(tmp_path, later) == CANDIDATES[1]
    assert later.launched == []
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize(
    "change",
    [
        {"machine": Machine(OTHER.gpu, "2.13.0", OTHER.triton)},
        {"machine": Machine(OTHER.gpu, OTHER.torch, "3.7.1")},
        {"machine": Machine("NVIDIA L4", OTHER.torch, OTHER.triton)},
        {"kernel": "backward"},
        {"problem": ("float16", 128)},
        {"candidates": CANDIDATES[:2]},
    ],
    ids=str,
)
def test_a_choice_is_kept_for_one_question(tmp_path, change):
    """Another GPU, torch, Triton, kernel, problem class or list of candidates is asked anew."""
    autotuned(tmp_path, gpu(3.0, 1.0, 2.0))
    assert record(tmp_path, **change).read(CANDIDATES) is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"question": 3}', "\x00\xff"], ids=repr)
def test_corrupt_files_are_replaced(tmp_path, content):
    """A file that cannot be read counts as none."""
    place = record(tmp_path).path
    place.write_text(content)
    assert autotuned(tmp_path, gpu(3.0, 1.0, 2.0)) == CANDIDATES[1]
    assert json.loads(place.read_text())["choice"] == {"M": 128, "N": 64}


def test_a_choice_that_is_no_candidate_is_replaced(tmp_path):
    """A file that names unknown tiles counts as none."""
    found = record(tmp_path)
    found.path.write_text(json.dumps({"question": found.question, "choice": {"M": 16, "N": 16}}))
    assert autotuned(tmp_path, gpu(3.0, 1.0, 2.0)) == CANDIDATES[1]


def test_without_a_place_to_write_nothing_is_tuned(tmp_path):
    """Else every process would choose for itself."""
    (tmp_path / "file").write_text("")
    machine = gpu(3.0, 1.0, 2.0)
    assert autotuned(tmp_path / "file" / "tiles", machine) == CANDIDATES[0]
    assert machine.launched == []


def test_the_first_writer_decides(tmp_path):
    """Two processes that tune at once end with the same tiles."""
    first, second = record(tmp_path), record(tmp_path)
    assert first.keep(CANDIDATES[1], CANDIDATES) == CANDIDATES[1]
    assert second.keep(CANDIDATES[2], CANDIDATES) == CANDIDATES[1]


def test_nothing_is_timed_in_a_capture(tmp_path):
    """Without a measure the default is taken, and kept, so that later processes agree."""
    machine = gpu(3.0, 1.0, 2.0)
    assert autotune(record(tmp_path), CANDIDATES, machine.launch, None) == CANDIDATES[0]
    assert autotuned(tmp_path, machine) == CANDIDATES[0]
    assert machine.launched == []


@pytest.fixture
def on(monkeypatch, tmp_path):
    """`on(machine)` gives choices that believe to be made there, none made yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("torch.cuda.current_device", lambda: 0)
    monkeypatch.setattr("torch.cuda.is_current_stream_capturing", lambda: False)

    def pretend(machine, measure):
        monkeypatch.setattr(tuning, "this_machine", lambda index: machine)
        monkeypatch.setattr(tuning, "gpu_time_ms", measure)
        return TileChoices()

    return pretend


def test_shipped_tiles_are_not_tuned(on, tmp_path):
    """On a GPU with shipped tiles the default is taken, nothing is timed and nothing written."""
    machine = gpu(3.0, 1.0, 2.0)
    choices = on(HOPPER, machine.measure)
    assert choices.tuned("forward", ("bfloat16",), CANDIDATES, machine.launch) == CANDIDATES[0]
    assert machine.launched == []
    assert not list(tmp_path.iterdir())


def test_a_process_keeps_its_choice(on, tmp_path):
    """A choice holds for the process, even when its file is lost."""
    machine = gpu(3.0, 1.0, 2.0)
    choices = on(OTHER, machine.measure)
    assert choices.tuned("forward", ("bfloat16",), CANDIDATES, machine.launch) == CANDIDATES[1]
    (kept,) = (tmp_path / "evo" / "tiles").iterdir()
    kept.unlink()
    machine.times = dict(zip(CANDIDATES, (1.0, 2.0, 3.0), strict=True))
    assert choices.tuned("forward", ("bfloat16",), CANDIDATES, machine.launch) == CANDIDATES[1]
