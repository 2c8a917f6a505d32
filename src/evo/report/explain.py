"""What a document builds, layer by layer: as data and as a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from evo.compiler.plan import Plan
from evo.dsl.canonical import to_data as spec_data
from evo.dsl.layers import LayerPlan, StagePlan
from evo.dsl.paths import MERGE, layer_path
from evo.dsl.plan import AdapterPlan, BlockPlan, matmul_flops
from evo.dsl.spec import Spec
from evo.report.costs import BYTES, costs


@dataclass(frozen=True)
class Row:
    """One line of the layer table: a block, or the norms, of `count` equal layers that hold `copies` sets of weights.

    The numbers are those of one layer. `part`: a block inside the one above, which counts it already.
    """

    layers: str
    role: str
    kind: str
    settings: str
    weights: str
    parameters: int
    flops_per_token: float
    cache_bytes_per_token: int = 0
    state_bytes: int = 0
    count: int = 1
    copies: int = 1
    part: bool = False


def rows(plan: Plan) -> list[Row]:
    """The layer table. The equal layers of a stage share their rows."""
    found = [*_embedding(plan)]
    for stage in plan.stages:
        found += _stage(stage, stage.name)
    return [*found, *_end(plan), *_ahead(plan)]


def to_data(plan: Plan) -> dict[str, Any]:
    """The whole plan as plain data: every layer with its blocks, shapes and costs, and the totals."""
    trained = {"trained_parameters": plan.trained_parameters, "weight_bytes": plan.weight_bytes}
    return {
        "width": plan.width,
        "vocab": plan.vocab,
        "context": plan.context,
        "stages": [
            {"name": stage.name, "from": list(stage.sources), "layers": list(_layers_data(stage))}
            for stage in plan.stages
        ],
        "weights": {path: list(weight.shape) for path, weight in plan.weights.items()},
        "totals": costs(plan).to_data() | (trained if plan.is_adapted else {}),
    }


def _layers_data(stage: StagePlan) -> Iterator[dict[str, Any]]:
    for name, layer in stage.running_layers():
        norms = [_block_data(layer.child(norm)) for norm in layer.norm_names()[:1]]
        names = (*layer.block_names(), *layer.other_names())
        parts = {part: _block_data(layer.child(part)) for part in names}
        path = layer_path(stage.name, name)
        yield {"path": path, "place": layer.wiring, "norm": norms[0] if norms else None, **parts}


def _block_data(block: BlockPlan) -> dict[str, Any]:
    return {
        "kind": block.kind,
        "settings": _settings_data(block),
        "parameters": block.parameters,
        "flops_per_token": block.flops,
        "cache_bytes_per_token": _cache(block),
        "state_bytes": _state(block),
        "children": {name: _block_data(child) for name, child in block.children},
    }


def _stage(stage: StagePlan, label: str, whose: str = "", runs: int = 1) -> Iterator[Row]:
    """Its own weights, its layers and whatever it has besides; then the same of the stages that it runs.

    whose: the stage that the weights are of, if they count there. runs: how often the stage does.
    """
    own, inner = _own(stage), list(stage.inner_stages())
    layers = [] if inner else list(stage.running_layers())
    turns, copies = runs * stage.turns, 0 if whose else 1
    if own is not None:
        yield replace(own, layers=label + whose, count=runs, copies=copies)
        yield from _adapters(stage.adapters)
    for indices in _equal_layers([layer for _, layer in layers]):
        yield from _layer(label, whose, layers, indices, turns)
    others = [
        (name, block) for name, block in stage.children if not block.is_layer and not isinstance(block, StagePlan)
    ]
    for index, (name, block) in enumerate(others):
        is_first = index == 0 and not layers
        is_counted = not any(block.blocks()) and not stage.weights_of  # in the maps' rows that it runs with
        row = _row(name, block)
        yield replace(row, layers=label if is_first else "", count=turns, copies=copies, part=is_counted)
    if stage.weights_of:
        whose = f" of {stage.weights_of}"
    for part in inner:
        yield from _stage(part, label, whose, runs * stage.turns_of(part))


def _own(stage: StagePlan) -> Row | None:
    """What a stage has beside its parts: the gains of a sum, or all weights of its own kind."""
    parameters = sum(weight.count for weight in stage.weights) + sum(part.parameters for _, part in stage.adapters)
    flops = stage.cost.flops + stage.turns * sum(adapter.flops for _, adapter in stage.adapters)
    if not parameters and not flops and not stage.cost.state:
        return None
    is_sum = [weight.name for weight in stage.weights] == [MERGE]
    kind, settings = ("sum", f"of {', '.join(stage.sources)}") if is_sum else (stage.kind, _settings(stage))
    numbers = (parameters, flops, BYTES * stage.cost.cache_growth, BYTES * stage.cost.state)
    return Row("", MERGE if is_sum else "", kind, settings, _weights(stage), *numbers)


def _equal_layers(layers: list[LayerPlan]) -> list[list[int]]:
    """The indices of the layers that are equal but for their weights, in the order of their first one."""
    groups: list[list[int]] = []
    for index, layer in enumerate(layers):
        for group in groups:
            if layers[group[0]] == layer:
                group.append(index)
                break
        else:
            groups.append([index])
    return groups


def _layer(label: str, whose: str, layers: list[tuple[str, LayerPlan]], indices: list[int], runs: int) -> Iterator[Row]:
    layer, built = layers[indices[0]][1], len({layers[index][0] for index in indices})
    count, copies = len(indices) * runs, 0 if whose else built
    label = f"{label} {_ranges(indices)}{whose or (' shared' if built < len(indices) else '')}"
    for index, role in enumerate(layer.block_names()):
        block = layer.child(role)
        yield replace(_row(role, block), layers=label if index == 0 else "", count=count, copies=copies)
        for name, child in block.children:
            if child.parameters or child.flops:
                yield replace(_row(f"  {name}", child), part=True)
        beside = [row for _, part in block.named_blocks("") for row in part.adapters]
        yield from _adapters(beside)
    if layer.weights:
        parameters = sum(weight.count for weight in layer.weights)
        numbers = (parameters, layer.cost.flops)
        yield Row("", "gains", "learned", "", _weights(layer), *numbers, count=count, copies=copies)
    for name in layer.other_names():
        yield replace(_row(name, layer.child(name)), count=count, copies=copies)
    norms = [layer.child(name) for name in layer.norm_names()]
    if not norms:
        return
    parameters, flops = sum(norm.parameters for norm in norms), sum(norm.flops for norm in norms)
    settings = ", ".join(filter(None, (f"{len(norms)} of them", layer.wiring)))
    kinds = ", ".join(dict.fromkeys(norm.kind for norm in norms))
    yield Row("", "norms", kinds, settings, _weights(norms[0]), parameters, flops, count=count, copies=copies)


def _adapters(beside: Sequence[tuple[str, AdapterPlan]]) -> Iterator[Row]:
    """Adapters by the names of their maps, in one row; the row above counts them."""
    if beside:
        names, adapters = zip(*beside, strict=True)
        settings = f"beside {' '.join(dict.fromkeys(names))}, {_settings(adapters[0])}".removesuffix(", ")
        numbers = (sum(adapter.parameters for adapter in adapters), sum(adapter.flops for adapter in adapters))
        yield Row("", "  adapters", adapters[0].kind, settings, "", *numbers, part=True)


def _row(role: str, block: BlockPlan) -> Row:
    numbers = (block.parameters, block.flops, _cache(block), _state(block))
    return Row("", role, block.kind, _settings(block), _weights(block), *numbers)


def _embedding(plan: Plan) -> Iterator[Row]:
    """The tables, and what stands between them and the first stage."""
    tables = (*plan.embedding, *plan.embedding_maps)
    weights = ", ".join(f"{weight.name} {_shape(weight.shape)}" for weight in tables)
    count = sum(weight.count for weight in tables)
    yield Row("embedding", "", "table", "", weights, count, matmul_flops(plan.embedding_maps))
    for role, block in (("order", plan.order), ("norm", plan.embedding_norm)):
        if block is not None:
            yield _row(role, block)


def _end(plan: Plan) -> Iterator[Row]:
    """The norm behind the stages, and the readout with what stands before and beside its matrix."""
    if plan.final_norm is not None:
        norm = plan.final_norm
        yield Row("final", "norm", norm.kind, "", _weights(norm), norm.parameters, norm.flops)
    kind = "tied" if plan.readout is None else "linear"
    settings = [] if plan.soft_cap is None else [f"soft_cap {plan.soft_cap:g}"]
    if plan.readout_mixture is not None:
        settings.append(f"{plan.readout_mixture[0]} softmaxes")
    shape = (plan.vocab, plan.read_width)
    shapes = ", ".join([_shape(shape), *(f"{weight.name} {_shape(weight.shape)}" for weight in plan.readout_maps)])
    count = sum(weight.count for weight in (plan.readout, *plan.readout_maps) if weight is not None)
    yield Row("readout", "", kind, ", ".join(settings), shapes, count, plan.read_flops)
    yield from (_row(name, block) for name, block in plan.readout_blocks)


def _ahead(plan: Plan) -> Iterator[Row]:
    """What predicts tokens beyond the next, and early exits, as they cost in training: decoding has none of them."""
    for index, (name, block) in enumerate(() if plan.ahead is None else plan.ahead.children):
        row = _row(name, block)
        yield replace(row, layers="" if index else "ahead", cache_bytes_per_token=0, state_bytes=0)
    if plan.tokens_ahead:
        yield Row("", "readouts", "shared", "", "", 0, plan.read_flops * plan.tokens_ahead)
    if plan.stages[-1].times_read > 1:
        yield Row("turns", "readouts", "shared", "", "", 0, plan.read_flops * (plan.stages[-1].times_read - 1))
    if plan.exits:
        yield Row("exits", "readouts", "shared", ", ".join(plan.exits), "", 0, plan.read_flops * len(plan.exits))


def _ranges(indices: list[int]) -> str:
    """0, 1, 2 and 5 as `0-2,5`."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and runs[-1][1] == index - 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def _settings_data(block: BlockPlan) -> dict[str, Any]:
    """Its settings as plain data."""
    return {key: spec_data(value) if isinstance(value, Spec) else value for key, value in block.settings.items()}


def _settings(block: BlockPlan) -> str:
    parts = [text for key, value in block.settings.items() if (text := _setting(key, value))]
    parts += [child.kind for _, child in block.children if child.settings and not child.parameters]
    return ", ".join(parts)


def _setting(key: str, value: Any) -> str:
    """A setting that is on, in words; nothing for one that is off or too long to read."""
    if value is True:
        return key
    if isinstance(value, Spec):  # what is as by default is not there: each needs its name, and what is off is told
        told = (f"{name} false" if item is False else _setting(name, item) for name, item in spec_data(value).items())
        return " ".join(filter(None, (key, *told)))
    if isinstance(value, dict):  # its kind, if it has one, says what it is, the rest tells what is on
        items = cast(dict[str, Any], value)
        kind = str(items.get("kind", ""))
        told = (_setting(name, item) for name, item in items.items() if name != "kind")
        return " ".join(filter(None, (key, kind, *told)))
    if isinstance(value, (int, float, str)) and value and value != "none":
        return f"{key} {value}"
    return ""


def _weights(block: BlockPlan) -> str:
    by_shape: dict[tuple[int, ...], list[str]] = {}
    for weight in block.weights:
        by_shape.setdefault(weight.shape, []).append(weight.name)
    return ", ".join(f"{' '.join(names)} {_shape(shape)}" for shape, names in by_shape.items())


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _cache(block: BlockPlan) -> int:
    return BYTES * sum(part.cost.cache_growth for part in block.blocks())


def _state(block: BlockPlan) -> int:
    return BYTES * sum(part.cost.state for part in block.blocks())
