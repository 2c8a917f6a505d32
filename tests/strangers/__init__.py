"""A package that evo knows nothing of, with kinds of every role; what they are must follow from what they say.

`POINTS` are its entry points. The fixture `strangers` has it installed while a test runs; `install` installs it in a
folder for processes that look there.
"""

from pathlib import Path
from typing import Any

POINTS = {
    "ahead.guess": "strangers.aheads:GuessSpec",
    "mixer.ahead": "strangers.mixers:AheadSpec",
    "mixer.blocks": "strangers.mixers:BlocksSpec",
    "mixer.inheriting": "strangers.mixers:InheritingSpec",
    "mixer.leaky": "strangers.mixers:LeakySpec",
    "mixer.lookup": "strangers.mixers:LookupSpec",
    "mixer.needy": "strangers.mixers:NeedySpec",
    "mixer.pair": "strangers.mixers:PairSpec",
    "mixer.dispatch": "strangers.dispatch:DispatchSpec",
    "ffn.crowd": "strangers.experts:CrowdSpec",
    "adapter.flat": "strangers.adapters:FlatSpec",
    "decay.fading": "strangers.decays:FadingSpec",
    "act.bump": "strangers.acts:BumpSpec",
    "norm.peak": "strangers.surroundings:PeakSpec",
    "position.spin": "strangers.surroundings:SpinSpec",
    "scaling.stretch": "strangers.surroundings:StretchSpec",
    "stencil.strided": "strangers.surroundings:StridedSpec",
    "select.even": "strangers.selects:EvenSelect",
    "patcher.third": "strangers.patchers:ThirdSpec",
    "stage.coder": "strangers.stages:CoderSpec",
    "stage.reading": "strangers.stages:ReadingSpec",
    "stage.twin": "strangers.stages:TwinSpec",
    "streams.twins": "strangers.streams:TwinStreams",
    "layer.lone": "strangers.stages:LoneSpec",
    "gain.half": "strangers.stages:HalfGain",
    "task.copy": "strangers.copying:CopySpec",
    "task.graded": "strangers.search:Graded",
    "optimizer.sign": "strangers.training:SignSpec",
    "life.breath": "strangers.training:BreathSpec",
    "rates.root": "strangers.training:RootRates",
    "schedule.late": "strangers.training:LateSchedule",
    "budget.kilotokens": "strangers.training:KilotokensBudget",
    "cooling.hyperbolic": "strangers.search:HyperbolicCooling",
    "fidelity.halving": "strangers.search:Halving",
    "engine.backwards": "strangers.search:Backwards",
    "centroids.diagonal": "strangers.search:Diagonal",
    "emitter.afresh": "strangers.search:Afresh",
    "operators.upside": "strangers.search:Upside",
    "surrogate.shortest": "strangers.search:Shortest",
    "tracker.listed": "strangers.training:ListedTracker",
    "selection.eldest": "strangers.search:Eldest",
}
"""The package's entry points in `evo.kinds`."""

EVEN = {"kind": "attention", "heads": 2, "select": {"kind": "even"}}
NEAR = {"kind": "attention", "heads": 2, "stencil": {"kind": "strided", "stride": 2, "count": 3}}
ROUTED = {
    "dispatch": ["near", {"kind": "leaky"}, EVEN, {"kind": "recurrence", "heads": 2, "decay": {"kind": "fading"}}],
    "top_k": 2,
    "temperature": 0.7,
    "balance": 0.01,
}
EXPERTS = {"kind": "crowd", "experts": 4, "top_k": 2, "ratio": 1.0}
BUMP = {"kind": "gated", "ratio": 1.0, "act": {"kind": "bump"}}


def data(**train: Any) -> dict[str, Any]:
    """A document whose organism and training have a stranger of every role: the example of the design page, and more.

    A stage that routes, a latent one with a loss of its own, and one that reads both, the second as its keys and
    values; one over patches; then a layer written out.
    """
    stages = [
        {"name": "lower", "repeat": 2, "mix": ROUTED, "ffn": BUMP},
        {"name": "latent", "kind": "coder", "from": "lower", "bits": 4, "free_bits": 0.0},
        {
            "name": "upper", "kind": "reading", "from": "lower", "kv_from": "latent", "repeat": 2,
            "mix": ["near", {"kind": "lookup"}], "ffn": EXPERTS,
        },
        {
            "name": "patched", "kind": "dynamic_patches", "size": 1, "patcher": {"kind": "third"},
            "of": {"name": "over", "mix": "near", "ffn": BUMP},
        },
        {
            "name": "end", "from": ["upper", "patched"],
            "layers": {"kind": "lone", "block": {"kind": "leaky"}, "gain": {"kind": "half"}},
            "streams": {"kind": "twins"},
        },
    ]  # fmt: skip
    organism = {
        "width": 16,
        "vocab": 16,
        "context": 12,
        "position": {"kind": "spin", "scaling": {"kind": "stretch", "factor": 2.0}},
        "norm": {"kind": "peak"},
        "pseudopods": {"near": NEAR},
        "ahead": {"kind": "guess"},
        "stages": stages,
    }
    settings = {
        "task": {"kind": "copy"},
        "batch": 4,
        "optimizer": {"kind": "sign"},
        "schedule": {"kind": "late"},
        "life": {"kind": "breath"},
        "rates": {"kind": "root", "base": 64},
        **({"budget": {"kilotokens": 0.096}} if "steps" not in train else {}),  # two steps
        **train,
    }
    return {"evo": 1, "organism": organism, "train": settings}


def install(folder: Path) -> None:
    """Let importlib's metadata find the package's entry points in a folder, as pip would."""
    info = folder / "strangers-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: strangers\nVersion: 1\n")
    lines = [f"{name} = {value}\n" for name, value in POINTS.items()]
    (info / "entry_points.txt").write_text("[evo.kinds]\n" + "".join(lines))
