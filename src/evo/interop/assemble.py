"""From layers to the shortest document that says them, and the path of each of their weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from evo.interop.parts import Data, Part, Source, Weights, under

NO_FFN: Data = {"kind": "none"}


@dataclass(frozen=True)
class Sub:
    """A sublayer of one block: x <- after(skip * x + gain * out(f(in(x)))).

    gain_source, gain_shift: the weights of a learned gain, and of what is added before it; the same of the skip.
    streams: the weights of its connection, where the stage has several residual streams.
    """

    block: Part
    pre: Part | None = None
    out: Part | None = None
    after: Part | None = None
    gain: Any = 1.0
    skip: Any = 1.0
    gain_source: Source | None = None
    skip_source: Source | None = None
    gain_shift: Source | None = None
    skip_shift: Source | None = None
    late: int = 0
    streams: Weights = field(default_factory=dict)


@dataclass(frozen=True)
class Beside:
    """A sublayer of several blocks side by side, which read through one norm or each through its own."""

    branches: tuple[Sub, ...]
    pre: Part | None = None
    after: Part | None = None
    skip: float = 1.0


Layer = Sequence[Sub | Beside]


@dataclass(frozen=True)
class Model:
    """One imported architecture: the organism, and where each weight lies."""

    organism: Data
    weights: Weights = field(default_factory=dict)


def stage_of(
    layers: Sequence[Layer], name: str = "body", numbers: Sequence[int] | None = None, end: Part | None = None
) -> tuple[Data, Data, Weights]:
    """The stage of some layers, what the organism must say for it, and its weights by path.

    numbers: those of the layers in the checkpoint, where some of its layers are left out. end: a norm of its output.
    """
    numbers = numbers or range(len(layers))
    written = [_short(layer) for layer in layers]
    places = {data["norm_place"] for data, _ in written if data is not None}
    norms = {str(data["norm"]) for data, _ in written if data is not None}
    is_short = end is None and all(data is not None for data, _ in written) and len(norms) == 1
    if not is_short or len(places) != 1:
        stage, extra, weights = _general(layers, name, numbers)
        if end is not None:
            stage["norm_end"] = end.data
            weights |= under(f"stages.{name}.end_norm", end.weights)
        return stage, extra, weights
    weights: Weights = {}
    for index, (_, own) in enumerate(written):
        weights |= under(f"stages.{name}.{index}", _numbered(own, numbers[index]))
    data = [found for found, _ in written if found is not None]
    stage: Data = {"name": name, "repeat": len(layers)}
    stage["mix"] = _cycle([found["mix"] for found in data])
    stage["ffn"] = _cycle([found["ffn"] for found in data])
    return stage, {"norm": data[0]["norm"]}, weights


def _numbered(weights: Weights, index: int) -> Weights:
    """Names with the number of the layer in them."""

    def fill(source: Source) -> Source:
        plus = tuple((name.replace("{i}", str(index)), view) for name, view in source.plus)
        return Source(source.name.replace("{i}", str(index)), source.view, source.scale, source.add, plus)

    return {ours: fill(source) for ours, source in weights.items()}


def _cycle(entries: list[Any]) -> Any:
    """The shortest list that cycles to these entries; a lone one by itself."""
    for size in range(1, len(entries) + 1):
        if all(entry == entries[index % size] for index, entry in enumerate(entries)):
            return entries[0] if size == 1 else entries[:size]
    raise AssertionError


def _short(layer: Layer) -> tuple[Data | None, Weights]:
    """A layer in its short form, a mixer and a feed-forward around one kind of norm; None if it is none."""
    if not 1 <= len(layer) <= 2 or not all(isinstance(sub, Sub) for sub in layer):
        return None, {}
    subs = [sub for sub in layer if isinstance(sub, Sub)]
    kinds = [sub.block.data.get("kind", "") for sub in subs]
    if (
        any(sub.gain != 1.0 or sub.skip != 1.0 for sub in subs)
        or kinds[0] in FFN_KINDS
        or any(kind not in FFN_KINDS for kind in kinds[1:])
    ):
        return None, {}
    shapes = {(sub.pre is not None, sub.out is not None, sub.after is not None) for sub in subs}
    place = {(True, False, False): "pre", (False, False, True): "post", (True, True, False): "sandwich"}
    if len(shapes) != 1 or next(iter(shapes)) not in place:
        return None, {}
    norms = [part for sub in subs for part in (sub.pre, sub.out, sub.after) if part is not None]
    if any(norm.data != norms[0].data for norm in norms):
        return None, {}
    weights: Weights = {}
    for sub, role in zip(subs, ("mixer", "ffn"), strict=False):
        weights |= under(role, sub.block.weights) | under(f"{role}_streams", sub.streams)
        for part, suffix in ((sub.pre, "norm"), (sub.after, "norm"), (sub.out, "out_norm")):
            weights |= under(f"{role}_{suffix}", part.weights) if part else {}
    where = place[next(iter(shapes))]
    norm = {**norms[0].data, **({} if where == "pre" else {"place": where})}
    feed = subs[1].block.data if len(subs) == 2 else NO_FFN
    return {"mix": subs[0].block.data, "ffn": feed, "norm": norm, "norm_place": where}, weights


FFN_KINDS = ("dense", "gated", "experts", "channel_mix", "token_table", "linear", "none")


def _general(layers: Sequence[Layer], name: str, numbers: Sequence[int]) -> tuple[Data, Data, Weights]:
    """The stage with its layers written out, each different one under a name."""
    kinds: list[Data] = []
    weights: Weights = {}
    order: list[int] = []
    for index, layer in enumerate(layers):
        data, own = _written(layer)
        if data not in kinds:
            kinds.append(data)
        order.append(kinds.index(data))
        weights |= under(f"stages.{name}.{index}", _numbered(own, numbers[index]))
    names = [chr(ord("a") + kind) if len(kinds) <= 26 else f"l{kind}" for kind in range(len(kinds))]
    if len(kinds) == 1:
        return {"name": name, "repeat": len(layers), "layers": kinds[0]}, {}, weights
    listed = _cycle([names[kind] for kind in order])
    stage = {"name": name, "repeat": len(layers), "layers": listed}
    return stage, {"layers": dict(zip(names, kinds, strict=True))}, weights


def _written(layer: Layer) -> tuple[Data, Weights]:
    subs: list[Data] = []
    weights: Weights = {}
    count = 0
    for sub in layer:
        start = count
        branches = sub.branches if isinstance(sub, Beside) else (sub,)
        data: Data = {"parallel": []} if isinstance(sub, Beside) else {}
        for branch in branches:
            own = _branch(branch, str(count), weights)
            if isinstance(sub, Beside):
                data["parallel"].append(own)
            else:
                data |= own
            count += 1
        norm = dict(data.get("norm", {}))
        if isinstance(sub, Beside) and sub.pre is not None:
            norm["in"] = sub.pre.data
            weights |= under(f"{start}_norm", sub.pre.weights)
        if sub.after is not None:
            norm["after"] = sub.after.data
            weights |= under(f"{start}_after_norm", sub.after.weights)
        if norm:
            data["norm"] = norm
        if sub.skip != 1.0:
            data["skip"] = sub.skip
            if isinstance(sub, Sub):
                weights |= _gain_weights(f"{start}_skip", sub.skip_source, sub.skip_shift)
        subs.append(data)
    return {"sublayers": subs}, weights


def _branch(branch: Sub, name: str, weights: Weights) -> Data:
    data: Data = {"block": branch.block.data}
    weights |= under(name, branch.block.weights) | under(f"{name}_streams", branch.streams)
    norm: Data = {}
    for part, slot in ((branch.pre, "in"), (branch.out, "out")):
        if part is not None:
            norm[slot] = part.data
            weights |= under(f"{name}_{slot}_norm", part.weights)
    if norm:
        data["norm"] = norm
    if branch.late:
        data["late"] = branch.late
    if branch.gain != 1.0:
        data["gain"] = branch.gain
        weights |= _gain_weights(f"{name}_gain", branch.gain_source, branch.gain_shift)
    return data


def _gain_weights(name: str, gain: Source | None, shift: Source | None) -> Weights:
    """Those of a learned gain, by its name."""
    found = {name: gain, f"{name}_shift": shift}
    return {path: source for path, source in found.items() if source is not None}
