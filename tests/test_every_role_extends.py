"""A kind of any role may come from another package: nothing in evo knows a stranger, and all of evo serves it.

The package is `strangers`; the document is the example of the design page and more, with a stranger of every role.
`evolution/test_killed.py` kills a search of them at all of its events and resumes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch

import strangers
from commands import Evo
from evo.archive.snapshot.blob import from_bytes
from evo.archive.snapshot.restore import restore
from evo.base.diagnostics import DiagnosticError
from evo.base.streams import Stream
from evo.blocks.flow import Flow
from evo.compiler.build import build
from evo.compiler.check import check, require_valid
from evo.compiler.compute import steps_of
from evo.compiler.organism import Organism
from evo.compiler.promises import broken_promises
from evo.compiler.resolve import resolve
from evo.dsl.canonical import content_hash, to_yaml
from evo.dsl.document import Document, from_data, parse
from evo.dsl.index import KINDS, kind_class, kinds
from evo.dsl.patch import apply, rewrite
from evo.dsl.schema import organism_schema
from evo.dsl.spec import Spec
from evo.dsl.tree import specs
from evo.evolution.crossover import cross
from evo.evolution.evaluate import TrialJob, evaluate, pack_weights
from evo.evolution.inheritance import starting_weights
from evo.evolution.mutate import mutate, validated
from evo.evolution.operators import Operator
from evo.evolution.operators.genes import Choice
from evo.evolution.operators.layers import ReplaceFeedForward, ReplaceMixer
from evo.evolution.operators.stages import Remove
from evo.evolution.trial import Budget
from evo.tasks.base import open_task
from evo.training.captured import DeviceStep
from evo.training.causality import find_leak
from evo.training.loop import Progress, Trainer
from evo.training.run import TrainingRun
from strangers.search import Afresh, Backwards, Diagonal, Eldest, Halving, HyperbolicCooling, Shortest, Upside
from strangers.training import ListedTracker

pytestmark = pytest.mark.usefixtures("strangers")

STRANGE = {(name.partition(".")[0], name.partition(".")[2]) for name in strangers.POINTS}
LITTLE = Budget(held_out_tokens=256, snapshot_tokens=128, moment_tokens=128)
SEARCHED: dict[str, Spec] = {
    "fidelity": Halving(),
    "emitter": Afresh(),
    "engine": Backwards(),
    "cooling": HyperbolicCooling(),
    "selection": Eldest(),
    "operators": Upside(),
    "surrogate": Shortest(),
    "centroids": Diagonal(),
    "tracker": ListedTracker(),
}
"""The roles of a search, and of a command, which stand in no document."""


def strange(**train: object) -> Document:
    """The document of strangers."""
    return require_valid(from_data(strangers.data(**train)))


def plain() -> Document:
    """A document of built-in kinds, but for its task, with a stage of the same name and one of another."""
    stage = {"mix": {"kind": "attention", "heads": 2}, "ffn": {"kind": "gated", "ratio": 1.0}}
    stages = [{"name": "lower", "repeat": 2, **stage}, {"name": "top", **stage}]
    data = strangers.data()
    organism = {"width": 16, "vocab": 16, "context": 12, "position": {"kind": "rope"}, "stages": stages}
    train = {"task": data["train"]["task"], "steps": 2, "batch": 4}
    return require_valid(from_data({"evo": 1, "organism": organism, "train": train}))


def adapting() -> Document:
    """A document of built-in kinds, but for its task and the adapters, beside which no pool may live."""
    return apply(rewrite(plain(), {("organism", "adapters"): {"kind": "flat"}}), plain()).document


def model(document: Document) -> Organism:
    """Its organism, untrained."""
    return build(resolve(document.organism), document.train.seed)


def trainer(document: Document, device: str = "cpu", mode: str = "eager") -> Trainer:
    """A trainer of a fresh organism."""
    task, steps = open_task(document.train.task, Path()), steps_of(document)
    return Trainer(model(document).to(device), task, document.train, steps=steps, mode=mode)


def used(document: Document) -> set[str]:
    """The kinds that a document has."""
    return {spec.kind for _, spec in specs(document) if spec.kind}


def test_the_package_has_a_stranger_of_every_role() -> None:
    """Every role of the index has one, and the document and the search use it."""
    assert {role for role, _ in STRANGE} == KINDS.keys()
    known = used(strange()) | used(adapting()) | {str(spec.kind) for spec in SEARCHED.values()}
    assert {role for role, kind in STRANGE if kind in known} == KINDS.keys()
    assert all(kind in kinds(role) and kind_class(role, kind).kind == kind for role, kind in STRANGE)


def test_each_is_read_checked_and_written(evo: Evo, tmp_path: Path) -> None:
    """The document has no fault and comes back from its canonical text; the schema and the commands know the kinds."""
    assert check(from_data(strangers.data())) == []
    document = strange()
    again = parse(to_yaml(document)).document
    assert (again, content_hash(again)) == (document, content_hash(document))
    definitions = organism_schema()["$defs"]
    assert {f"{role}.{kind}" for role, kind in STRANGE if role not in SEARCHED} <= definitions.keys()
    (tmp_path / "strange.yaml").write_text(to_yaml(document))
    assert evo("validate", str(tmp_path / "strange.yaml")).code == 0
    assert "balance" in evo("explain", str(tmp_path / "strange.yaml")).out


def test_each_is_planned_and_built() -> None:
    """What the plan counts is what is built, each block keeps its promises, and every parameter gets a gradient."""
    document = strange()
    plan, network = resolve(document.organism), model(document)
    assert {path: tuple(p.shape) for path, p in network.named_parameters()} == {
        path: weight.shape for path, weight in plan.weights.items()
    }
    assert plan.losses == ("ahead_2", "balance", "kl")
    assert list(broken_promises(network)) == []
    stack = plan.weights["stages.upper.0.ffn.up"]
    assert (stack.axes, stack.share, plan.weights["stages.upper.0.ffn.down"].writes_residual) == (
        ("stack", "out", "in"), 0.5, True,
    )  # fmt: skip
    batch = open_task(document.train.task, Path()).batch(0, 8, 12, Stream(0))
    gradients = torch.autograd.grad(network.loss(batch.inputs_BT, batch.targets_BT), list(network.parameters()))
    names = [path for path, _ in network.named_parameters()]
    assert [name for name, g in zip(names, gradients, strict=True) if not bool(g.any())] == []


def test_its_adapters_alone_are_trained() -> None:
    """What stands beside maps moves in a step, and nothing else does."""
    run = trainer(adapting())
    before = model(adapting())
    run.run()
    pairs = zip(before.named_parameters(), run.model.parameters(), strict=True)
    assert {path for (path, one), two in pairs if not torch.equal(one, two)} == set(run.model.plan.trained)
    assert list(broken_promises(run.model)) == []


def test_the_whole_decodes_and_does_not_leak() -> None:
    """Step by step equals the whole, states, second inputs and routes included, and no output sees what comes later."""
    network = model(strange()).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(3.0)
    assert find_leak(network) is None
    tokens = torch.randint(16, (2, 12), generator=torch.Generator().manual_seed(0))
    whole, state, parts = network(tokens), network.initial_state(), []
    for part in tokens.split([5, 1, 6], dim=1):
        logits, state = network.extend(part, state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole)
    assert whole.std() > 0.01


def test_two_steps_move_everything_and_report_each_loss() -> None:
    """Eager steps and the body of captured ones end at one place; auxiliary losses stand beside the task's."""
    eager, other = trainer(strange()), trainer(strange())
    before, seen = model(strange()), list[Progress]()
    eager.run(on_step=seen.append)
    assert [set(progress.auxiliary) for progress in seen] == [{"ahead_2", "balance", "kl"}] * 2
    assert all(value > 0 for progress in seen for value in progress.auxiliary.values())
    assert not any(torch.equal(*pair) for pair in zip(before.parameters(), eager.model.parameters(), strict=True))
    source = other.task.on_device(other.device)
    assert source is not None
    scale = lambda step: other.spec.schedule.scale(step, other.steps)  # noqa: E731
    step = DeviceStep(other.model, source, other.spec, other.context, other.optimizer, scale, companion=other.companion)
    losses = [step.take(index) for index in range(2)]
    assert [float(found[0]) for found in losses] == pytest.approx([progress.loss for progress in seen], rel=1e-5)
    for one, two in zip(eager.model.parameters(), other.model.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)
    told = [event["air"] for progress in seen for event in progress.events]
    assert other.companion is not None
    assert told[0] == pytest.approx(seen[0].loss)
    assert other.companion.figures()["air"] == pytest.approx(told[1], rel=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_captured_steps_are_eager_steps() -> None:
    """On a GPU, steps of strangers of every role are captured and lose what eager ones lose."""
    document = strange(steps=6, precision="fp32")
    runs = [trainer(document, "cuda", mode) for mode in ("eager", "captured")]
    losses = [run.run() for run in runs]
    assert [run.step_mode for run in runs] == ["eager", "captured"]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.slow
def test_a_stopped_training_goes_on(tmp_path: Path) -> None:
    """Stopped after a step and resumed, a run leaves the bytes and the score of one that never stopped."""
    document = strange(steps=3)

    def stop(progress: Progress) -> None:
        if progress.step == 2:
            raise RuntimeError

    whole = TrainingRun.open(document, tmp_path, tmp_path / "whole", "cpu")
    result = whole.carry_out(None, 1)
    with pytest.raises(RuntimeError):
        TrainingRun.open(document, tmp_path, tmp_path / "cut", "cpu").carry_out(stop, 1)
    cut = TrainingRun.open(document, tmp_path, tmp_path / "cut", "cpu", resume=True)
    assert cut.carry_out(None, 1).scores == result.scores
    for one, two in zip(whole.trainer.model.parameters(), cut.trainer.model.parameters(), strict=True):
        assert torch.equal(one, two)


def test_each_is_evaluated_and_comes_back_from_its_snapshot() -> None:
    """A trial scores, measures and records its losses; the snapshot gives weights back that a child inherits whole."""
    document = strange()
    evaluation = evaluate(TrialJob(to_yaml(document), ".", tolerance=0.05, budget=LITTLE))
    assert evaluation.cause == "", evaluation.message
    assert {"accuracy", "loss.balance", "loss.kl", "snapshot_bytes"} <= evaluation.scores.keys()
    assert len(evaluation.measures) == 5
    plan = resolve(document.organism)
    base, _ = starting_weights(plan, document, [], ())
    weights = restore(base, from_bytes(evaluation.snapshot))
    assert {path: tuple(t.shape) for path, t in weights.items()} == {p: w.shape for p, w in plan.weights.items()}
    child = evaluate(TrialJob(to_yaml(document), ".", parents=(pack_weights(weights),), budget=LITTLE))
    assert child.scores["inherited"] == 1.0


def reached(operator: Operator, parent: Document, is_site: Callable[[object], bool], kind: str | None) -> set[str]:
    """The kinds at a site after each of some valid proposals there, until `kind` is among them."""
    rng, found = Stream(3).numpy(), set[str]()
    for _ in range(400):
        places = [site for site in operator.sites(parent) if is_site(site)]
        proposal = operator.propose(parent, places[int(rng.integers(len(places)))], 1.0, rng)
        loaded = None if proposal is None else validated(parent, proposal)
        if loaded is not None:
            found |= used(loaded.document)
            if kind is None or kind in found:
                model(loaded.document)
                break
    return found


OPERATORS: dict[str, Operator] = {
    "mixer": ReplaceMixer(),
    "ffn": ReplaceFeedForward(),
    **dict.fromkeys(("act", "norm", "position", "scaling", "stencil", "select", "optimizer", "schedule"), Choice()),
}
"""Roles that mutation exchanges, with the operator that does; stages and layers are moved whole, the rest stays."""
EXCHANGED = {
    "mixer": "leaky", "ffn": "crowd", "act": "bump", "norm": "peak", "position": "spin", "scaling": "stretch",
    "stencil": "strided", "select": "even", "optimizer": "sign", "schedule": "late",
}  # fmt: skip


@pytest.mark.parametrize("role", EXCHANGED)
def test_mutation_puts_it_in_and_takes_it_out(role: str) -> None:
    """From a document without it the role's operator reaches it, and from one with it another kind; both are built."""
    kind, operator = EXCHANGED[role], OPERATORS[role]
    present = "lookup" if role == "mixer" else kind  # the other one stands in a composite, which gives way as a whole

    def is_of_role(site: object) -> bool:
        field = site.field  # type: ignore[attr-defined]
        return field.kind is not None and field.kind.role == role

    def is_strange(site: object) -> bool:
        return is_of_role(site) and getattr(site.value, "kind", None) == present  # type: ignore[attr-defined]

    assert kind in reached(operator, plain(), is_of_role, kind)
    assert reached(operator, strange(), is_strange, None)


def test_composites_and_stages_come_and_go() -> None:
    """A composite is put around a mixer and gives way to one; a stage is removed with its layer and gain."""
    anywhere = lambda site: True  # noqa: E731
    assert "dispatch" in reached(ReplaceMixer(), plain(), anywhere, "dispatch")
    routed = lambda site: site.value.kind == "dispatch" if isinstance(site.value, Spec) else False  # noqa: E731
    assert reached(ReplaceMixer(), strange(), routed, None)
    assert not {"lone", "half"} & reached(Remove(), strange(), lambda site: site == 4, None)


def test_a_removed_stage_hands_its_source_to_every_input() -> None:
    """What read the removed stage as its keys and values reads what that stage read."""
    parent = strange()
    proposal = Remove().propose(parent, 1, 1.0, Stream(0).numpy())
    assert proposal is not None
    loaded = validated(parent, proposal)
    assert loaded is not None
    assert loaded.document.organism.stages[1].kv_from == ("lower",)  # type: ignore[attr-defined]


def test_mutants_are_whole() -> None:
    """Whatever operators do to strangers, the child can be built, keeps its promises, and runs."""
    for parent in (strange(), plain()):
        for seed in range(20):
            child = mutate(parent, Stream(seed).child("mutate"), mutations=2).document
            network = model(child)
            assert list(broken_promises(network)) == [], to_yaml(child)
            assert network(torch.zeros(1, 3, dtype=torch.int64), Flow()).isfinite().all()


def test_crossing_is_whole() -> None:
    """Stages go from a document of strangers to one of ours and back, with the inputs of their new home."""
    crossed = set[str]()
    for seed in range(8):
        for one, two in ((strange(), plain()), (plain(), strange())):
            child = cross(one, two, Stream(seed)).document
            assert list(broken_promises(model(child))) == []
            crossed |= used(child) - used(one)
    assert {"dispatch", "attention"} & crossed


def test_a_second_input_keeps_its_home_when_stages_cross() -> None:
    """What comes from another document reads, at each of its inputs, what stood there before."""
    data = strangers.data()
    data["organism"]["stages"][1]["name"] = "code"
    data["organism"]["stages"][2] |= {"kv_from": "code", "repeat": 3}
    data["organism"]["stages"][2]["mix"] = [{"kind": "lookup"}]
    other = require_valid(from_data(data))
    carried = 0
    for seed in range(12):
        child = cross(strange(), other, Stream(seed)).document
        carried += child.organism.stages[2].repeat == 3  # type: ignore[attr-defined]
        assert child.organism.stages[2].kv_from == ("latent",)  # type: ignore[attr-defined]
    assert carried > 0


def test_what_is_read_and_not_provided_is_a_fault() -> None:
    """A mixer that reads `kv` stands in a stage that provides it, or is EVO315, at the stage."""
    data = strangers.data()
    data["organism"]["stages"][0]["mix"] = {"kind": "lookup"}
    data["organism"]["stages"][0]["repeat"] = 1
    (fault,) = [fault for fault in check(from_data(data)) if fault.severity == "error"]
    assert fault.code == "EVO315"
    assert fault.message == "stages.lower.0.mixer reads 'kv', which no block before it provides"
    data["organism"]["stages"][0] |= {"kind": "reading"}
    assert [fault for fault in check(from_data(data)) if fault.severity == "error"] == []


def test_kinds_that_may_stand_in_one_place_have_two_names(install: Callable[[Mapping[str, str]], None]) -> None:
    """A feed-forward that is called as a mixer is, ours or another package's, is EVO212: it could be either."""
    for points in (
        {"ffn.attention": "strangers.experts:CrowdSpec"},
        {"ffn.leaky": "strangers.experts:CrowdSpec", "mixer.leaky": "strangers.mixers:LeakySpec"},
    ):
        install(points)
        with pytest.raises(DiagnosticError, match=r"EVO212 .* clashes with the (mixer|ffn) kind '(attention|leaky)'"):
            kinds("block")
    rows = [(role, kind) for role in ("mixer", "ffn") for kind in KINDS[role]]
    assert len({kind for _, kind in rows}) == len(rows)
