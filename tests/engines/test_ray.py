"""The engine on a Ray cluster of several nodes: jobs outlive their nodes, and a search gives what it gives anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evo.base.diagnostics import DiagnosticError
from evo.engines import cluster
from evo.engines.cluster import RayEngine, RaySpec
from evo.engines.jobs import Job, Limits, Outcome, make_engine

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore")]  # Ray's own warnings are not ours
BARE: tuple[str, ...] = ()


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A cluster of a head without cores and two nodes of one core each."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for _ in range(2):
        made.add_node(num_cpus=1, resources={"spare": 1})
    made.wait_for_nodes()
    try:
        yield made
    finally:
        made.shutdown()


def job(name: str, payload: object = None, id: str = "a") -> Job:
    """A job that runs a function of `sample_jobs`."""
    return Job(id, f"sample_jobs:{name}", payload)


def test_jobs_outlive_their_node(nodes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node is killed while it runs a job: that job runs again on a node that joins, and all values are there."""
    victim, look, killed = nodes.list_all_nodes()[-1], RayEngine._look_at, list[str]()

    def watched(engine: RayEngine, lane: cluster.Lane, is_ready: bool) -> Outcome | None:
        if not killed and all(lane.node for lane in engine.busy()):
            killed.append(lane.node)
            nodes.remove_node(victim, allow_graceful=False)
            nodes.add_node(num_cpus=1)
        return look(engine, lane, is_ready)

    monkeypatch.setattr(RayEngine, "_look_at", watched)
    with make_engine(RaySpec(address=nodes.address), Limits(2, preload=BARE)) as engine:
        found = list(engine.map(job("sleep", 6.0 if n < 2 else 0.1, str(n)) for n in range(6)))
    assert killed
    assert sorted((outcome.id, outcome.failure) for outcome in found) == [(str(n), None) for n in range(6)]


@pytest.mark.parametrize(("times", "value"), [(1, 2), (2, None)])
def test_an_actor_that_lost_its_gpu_is_replaced(nodes: Any, tmp_path: Path, times: int, value: int | None) -> None:
    """The job has a second one, once; the one behind it has a sound one."""
    bad = job("break_gpu", (str(tmp_path / "count"), times), "bad")
    with make_engine(RaySpec(address=nodes.address), Limits(1, preload=BARE)) as engine:
        found = {outcome.id: outcome for outcome in engine.map([bad, job("double", 2, "good")])}
    assert found["bad"].value == value
    assert (found["bad"].failure is None) == (value is not None)
    assert found["good"].value == 4


def test_a_job_that_kills_its_worker_is_a_crash(nodes: Any) -> None:
    """A worker that dies on a node that lives is its job's doing; the next job has another worker."""
    with make_engine(RaySpec(address=nodes.address), Limits(1, max_seconds=20.0, preload=BARE)) as engine:
        jobs = [job("leave", 3, "a"), job("sleep", 60, "b"), job("double", 4, "c")]
        found = {outcome.id: outcome for outcome in engine.map(jobs)}
    assert found["a"].failure is not None
    assert found["a"].failure.cause == "crash"
    assert found["b"].failure is not None
    assert (found["b"].failure.cause, found["b"].failure.message) == ("timeout", "ran longer than 20 s")
    assert found["c"].value == 8


def test_what_no_node_has_is_said(nodes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that declares more than any node has is no verdict on its job: it may be tried again."""
    monkeypatch.setattr(cluster, "START_SECONDS", 2.0)
    with make_engine(RaySpec(address=nodes.address, gpus=1), Limits(1, preload=BARE)) as engine:
        (outcome,) = engine.map([job("double", 1)])
    assert outcome.failure is not None
    assert outcome.failure.cause == "outside"
    assert "EVO607" in {found.code for found in outcome.failure.diagnostics}
    assert "1 GPUs" in outcome.failure.message


def test_a_search_is_the_same_on_a_cluster(nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run on two nodes leaves the journal and the variants of a run in this process, byte for byte."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "evolution"))
    import searches

    from evo.evolution import run

    asked = searches.settings(searches.seed_document(steps=3), workers=0)
    run.start(tmp_path / "here", asked, searches.Quiet())
    there = searches.settings(searches.seed_document(steps=3), workers=2, engine=RaySpec(address=nodes.address))
    run.start(tmp_path / "there", there, searches.Quiet())
    assert searches.dump(tmp_path / "here") == searches.dump(tmp_path / "there")
    assert searches.variants(tmp_path / "here") == searches.variants(tmp_path / "there")


def test_without_ray_there_is_a_diagnostic(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the package is missing, its extra is named."""
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(DiagnosticError, match=r"EVO607.*needs the package ray"):
        make_engine(RaySpec(), Limits())
