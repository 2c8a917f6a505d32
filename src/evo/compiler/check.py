"""Faults of meaning: what is well formed and still cannot be, or does nothing. All of a document at once."""

from __future__ import annotations

import pathlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple, TypeAlias

from evo.base.diagnostics import Diagnostic, DiagnosticError, in_order, printable, suggestion
from evo.blocks.adapters.spec import AdapterSpec
from evo.blocks.ahead.spec import AheadSpec
from evo.blocks.norm.spec import NormSpec
from evo.blocks.position.spec import PositionSpec, acts_on_heads
from evo.compiler.check_search import search_problems
from evo.compiler.plan import Plan
from evo.compiler.resolve import all_stages, organism_scope, reads, resolve, stage_scope, stages_of
from evo.dsl.document import Document, Loaded
from evo.dsl.organism import OrganismSpec, StageSpec
from evo.dsl.references import ABSOLUTE, mixer_count, named, placed, reached
from evo.dsl.spec import INPUT, KV, TOKENS, Fault, Spec, spec_fields
from evo.dsl.task import TaskSpec
from evo.dsl.tree import Path, specs

Living: TypeAlias = list[tuple[Path, Spec]]
"""The specs that something reads, each with its path."""
MAX_MIXERS = 10_000
MAX_NAME_BYTES = 200
UNSAFE = frozenset('/\\:*?"<>|')
"""What a file's name may not hold on one system or another."""
RESERVED = frozenset(["CON", "PRN", "AUX", "NUL", *(f"{name}{i}" for name in ("COM", "LPT") for i in range(10))])
"""Names that Windows keeps for devices."""
PASSED_ON = {INPUT: "the input", TOKENS: "the token ids", KV: "what is added to keys and values"}
"""What a pass hands on under a name, which no stage's output may then have."""


def check(loaded: Loaded) -> list[Diagnostic]:
    """Every fault of meaning, errors and warnings, in the order of the file."""
    found = [_diagnostic(problem, loaded) for problem in problems(loaded.document)]
    return in_order([*loaded.warnings, *found])


def missing_files(loaded: Loaded, root: pathlib.Path) -> list[Diagnostic]:
    """The files that a document names and that are not there. root: the folder that relative paths start from."""
    task = loaded.document.train.task
    assert isinstance(task, TaskSpec)
    return [_diagnostic(placed(fault, "train", "task"), loaded) for fault in task.missing(root)]


def require_valid(loaded: Loaded) -> Document:
    """The document, if it has no error; raises DiagnosticError with all of them otherwise."""
    errors = [diagnostic for diagnostic in check(loaded) if diagnostic.severity == "error"]
    if errors:
        raise DiagnosticError(errors, loaded.sources)
    return loaded.document


def problems(document: Document) -> list[Fault]:
    """The faults with paths from the document's root."""
    return checked(document).faults


class Checked(NamedTuple):
    """The faults of a document, and its plan unless they leave none."""

    faults: list[Fault]
    plan: Plan | None


def checked(document: Document) -> Checked:
    """The faults with paths from the document's root, and the plan in which the last of them were looked for."""
    organism = document.organism
    crowds = list(_too_many_mixers(organism))
    if crowds:
        return Checked(crowds, None)  # looking into each of so many would take too long
    found = list(_meant(document))
    if any(fault.severity == "error" for fault in found):
        return Checked(found, None)
    plan = resolve(organism)
    return Checked([*found, *_planned(organism, plan)], plan)


def _meant(document: Document) -> Iterator[Fault]:
    """What each part of a document says of itself and of its surroundings."""
    organism = document.organism
    living = _living(organism)
    yield from _wiring(organism, living)
    assert isinstance(organism.norm, NormSpec)
    yield from organism.norm.stream_problems(organism.width, ("organism", "norm"))
    yield from _end_norms(organism)
    of_stages = list(_of_stages(organism))
    yield from of_stages
    if all(problem.severity == "warning" for problem in of_stages):
        yield from _ahead(document)
    yield from _unused(organism, living)
    yield from _train_problems(document, living)
    yield from _name(document)
    yield from search_problems(document)


def _of_stages(organism: OrganismSpec) -> Iterator[Fault]:
    """What each stage says of itself."""
    for index, stage in enumerate(organism.stages):
        for problem in stage.problems(stage_scope(organism, index)):
            where = (
                problem.path[1:] if problem.path[:1] == (ABSOLUTE,) else ("organism", "stages", index, *problem.path)
            )
            yield replace(problem, path=where)


def _end_norms(organism: OrganismSpec) -> Iterator[Fault]:
    """The norms of embedding and readout."""
    embedding, readout = organism.embedding, organism.readout
    if isinstance(embedding.norm, NormSpec):
        placed = embedding.placed_width(organism.width)
        yield from embedding.norm.slot_problems(placed, ("organism", "embedding", "norm"))
    if readout.transform is not None and isinstance(readout.transform.norm, NormSpec):
        width = readout.read_width(embedding, organism.width)
        yield from readout.transform.norm.slot_problems(width, ("organism", "readout", "transform", "norm"))
    if readout.tie and readout.transform is not None and readout.transform.width is not None:
        message = "the readout uses the embedding's weights, which say how wide the transform is"
        help = "remove it, or write tie: false"
        yield Fault("EVO330", ("organism", "readout", "transform", "width"), message, help, "warning")
    if embedding.width == organism.width:
        message = "the embedding is as wide as the stream anyway, and would be projected to the same width"
        yield Fault("EVO330", ("organism", "embedding", "width"), message, "remove it", "warning")


def _ahead(document: Document) -> Iterator[Fault]:
    """Tokens that cannot be predicted behind the last stage, or over so few tokens as training reads."""
    organism = document.organism
    if isinstance(organism.ahead, AheadSpec):
        scope = replace(stage_scope(organism, len(organism.stages) - 1), context=document.context)
        for problem in organism.ahead.problems_behind(stages_of(organism)[-1], scope):
            yield replace(problem, path=("organism", "ahead", *problem.path))


def _name(document: Document) -> Iterator[Fault]:
    """A name that could not be the name of a folder on every system: results go to `results/NAME`."""
    name = document.name
    if name is None:
        return
    is_reserved = name.partition(".")[0].rstrip().upper() in RESERVED
    if is_reserved or name[-1] in ". " or name[0] == " " or any(c in UNSAFE or not c.isprintable() for c in name):
        message = f"'{printable(name)}' cannot be the name of a folder, which results are put into"
        yield Fault("EVO344", ("name",), message, "letters, digits, '-', '_' and '.' inside are always fine")
    elif len(name.encode(errors="replace")) > MAX_NAME_BYTES:
        message = f"the name is longer than a folder's may be ({MAX_NAME_BYTES} bytes of UTF-8)"
        yield Fault("EVO344", ("name",), message, "write a shorter one")


def _diagnostic(problem: Fault, loaded: Loaded) -> Diagnostic:
    severity = "warning" if problem.severity == "warning" else "error"
    path = _inherited(problem, loaded.document.organism) or problem.path
    return Diagnostic(problem.code, problem.message, loaded.node.at(path), problem.help, severity)


def _inherited(problem: Fault, organism: OrganismSpec) -> Path | None:
    """Where the field at fault is written, if it belongs to a spec that was written elsewhere."""
    if problem.inherited is None:
        return None
    spec, field = problem.inherited
    if field not in spec.model_fields_set:
        return None
    return next(((*path, field) for path, found in specs(organism, ("organism",)) if found is spec), None)


def _too_many_mixers(organism: OrganismSpec) -> Iterator[Fault]:
    total = 0
    known: dict[str, int] = {}
    for index, stage in enumerate(organism.stages):
        assert isinstance(stage, StageSpec)
        total += sum(mixer_count(entry, organism.parts, known) * times for entry, times in stage.entries())
        if total > MAX_MIXERS:
            message = f"up to this stage the document stands for more than {MAX_MIXERS:,} mixers"
            yield Fault(
                "EVO322", ("organism", "stages", index), message, "lower repeat, or name fewer mixers in one another"
            )
            return


def _wiring(organism: OrganismSpec, living: Living) -> Iterator[Fault]:
    names = [stage.name for stage in organism.stages if isinstance(stage, StageSpec)]
    counts = Counter(names)
    read: set[str] = set()
    for index, name in enumerate(names):
        path = ("organism", "stages", index)
        if counts[name] > 1 and names.index(name) != index:
            yield Fault("EVO313", (*path, "name"), f"a stage named '{name}' stands above", "names tell stages apart")
        if name in PASSED_ON:
            yield Fault("EVO313", (*path, "name"), f"'{name}' is the name of {PASSED_ON[name]}", "write another name")
        for slot, listed in reads(organism, index):
            read.update(listed)
            yield from _sources(organism, names, index, slot, listed)
    yield from _exits(organism, names)
    yield from _read_by_turn(organism)
    read.update(*(spec.signals for _, spec in living))
    for index, name in enumerate(names[:-1]):
        if name not in read:
            help = "add it to a later stage's `from`, or remove it"
            yield Fault("EVO312", ("organism", "stages", index), f"nothing reads stage '{name}'", help)


def _read_by_turn(organism: OrganismSpec) -> Iterator[Fault]:
    """Stages that training reads out between turns, where nothing reads them out."""
    last = ("organism", "stages", len(organism.stages) - 1)
    for path, spec in specs(organism, ("organism",)):
        if isinstance(spec, StageSpec) and spec.is_read_by_turn and path != last:
            message = "losses are those of what the last stage gives, and another reads this"
            yield Fault("EVO352", (*path, "halt", "by"), message, "write by: states, or make it the last stage")


def _exits(organism: OrganismSpec, names: list[str]) -> Iterator[Fault]:
    """Stages that cannot be read out early."""
    after = () if organism.readout.exits is None else organism.readout.exits.after
    inner = names[:-1]
    for position, name in enumerate(after):
        where = ("organism", "readout", "exits", "after", position)
        if name in after[:position]:
            yield Fault("EVO310", where, f"'{name}' is listed twice", "remove it")
        elif name == names[-1]:
            yield Fault("EVO310", where, f"'{name}' is the last stage, which is read out anyway", "name an inner one")
        elif name not in inner:
            help = f"{suggestion(name, inner)}known here: {', '.join(inner)}" if inner else "there is one stage alone"
            yield Fault("EVO310", where, f"no stage is named '{name}'", help)


def _sources(
    organism: OrganismSpec, names: list[str], index: int, slot: str, listed: tuple[str, ...]
) -> Iterator[Fault]:
    field = stages_of(organism)[index].source_fields()[slot]
    path = ("organism", "stages", index, field.key)
    earlier = [INPUT, *names[:index]]
    if not listed:
        yield Fault("EVO310", path, "a stage must read something", f"known here: {', '.join(earlier)}")
    for position, source in enumerate(listed):
        where = (*path, position) if field.many else path
        if source in earlier:
            if source in listed[:position]:
                yield Fault("EVO310", where, f"'{source}' is listed twice", "remove it")
        elif source in names:
            yield Fault("EVO314", where, f"'{source}' does not come before this stage", "data flows downwards")
        else:
            help = f"{suggestion(source, earlier)}known here: {', '.join(earlier)}"
            yield Fault("EVO310", where, f"no stage is named '{source}'", help)


def _planned(organism: OrganismSpec, plan: Plan) -> Iterator[Fault]:
    """What only the plans of blocks tell: values that they read by name, and what adapters can stand beside."""
    spec = organism.adapters
    if isinstance(spec, AdapterSpec):
        blocks = [block for stage in plan.stages for block in stage.blocks()]
        found = spec.problems_on([block for block in blocks if not block.is_adapter])
        yield from (replace(problem, path=("organism", "adapters", *problem.path)) for problem in found)
    for index, path, name in plan.unmet_inputs():
        message = f"{path} reads '{name}', which no block before it provides"
        yield Fault("EVO315", ("organism", "stages", index), message, "put it into a stage that provides it")


def _unused(organism: OrganismSpec, living: Living) -> Iterator[Fault]:
    used = set(named(organism.stages, organism.parts))
    for name in organism.pseudopods:
        if name not in used:
            path = ("organism", "pseudopods", name)
            yield Fault(
                "EVO321", path, f"no stage uses pseudopod '{name}'", "remove it, or name it in a mix", "warning"
            )
    for name in organism.layers:
        path = ("organism", "layers", name)
        if name in organism.pseudopods:
            yield Fault("EVO323", path, f"a pseudopod is named '{name}' too", "names tell the parts apart")
        elif name not in used:
            yield Fault("EVO321", path, f"no stage uses layer '{name}'", "remove it, or name it in a stage", "warning")
    yield from _unread_settings(organism)
    for path, spec in living:
        for key, shape in spec_fields(type(spec)).items():
            if shape.name in spec.unread & spec.model_fields_set:
                message = "nothing reads it beside what stands here"
                yield Fault("EVO330", (*path, key), message, "remove it", "warning")


def _unread_norm(organism: OrganismSpec, stages: list[StageSpec]) -> Iterator[Fault]:
    """The organism's norm where every stage has its own: only what has no place reads it, as the final norm does."""
    if any(stage.reads_norm for stage in stages):
        return
    is_read = not stages[-1].is_normed or any(spec.copies_norm for _, spec in specs(organism, ("organism",)))
    if "norm" in organism.model_fields_set and not is_read:
        yield Fault("EVO330", ("organism", "norm"), "every stage has a norm of its own", "remove it", "warning")
    elif "place" in organism.norm.model_fields_set:
        message = "every stage has a norm of its own, and no other norm has a place"
        yield Fault("EVO330", ("organism", "norm", "place"), message, "remove it", "warning")


def _unread_settings(organism: OrganismSpec) -> Iterator[Fault]:
    stages = [stage for stage in organism.stages if isinstance(stage, StageSpec)]
    yield from _unread_norm(organism, stages)
    inheriting = {id(stage): _inherits_position(organism, stage) for stage in stages}
    for path, stage in all_stages(organism):
        path = (*path, "position")
        if stage.own_position is not None and not _inherits_position(organism, stage):
            yield Fault("EVO330", path, "no mixer of this stage reads it", "remove it", "warning")
        elif stage.own_position is not None and not any(map(acts_on_heads, (stage.own_position, organism.position))):
            yield Fault("EVO330", path, "no position encoding acts on heads here anyway", "remove it", "warning")
    explicit = "position" in organism.model_fields_set
    is_for_mixers = isinstance(organism.position, PositionSpec) and organism.position.acts_on != "embedding"
    if explicit and is_for_mixers and not any(s.own_position is None and inheriting[id(s)] for s in stages):
        yield Fault("EVO330", ("organism", "position"), "no mixer reads it", "remove it", "warning")


def _inherits_position(organism: OrganismSpec, stage: StageSpec) -> bool:
    """Whether some mixer of the stage takes its position encoding from the stage."""
    return any(spec.reads_position for spec in reached(stage, organism.parts))


def _train_problems(document: Document, living: Living) -> Iterator[Fault]:
    train, organism = document.train, document.organism
    if train.context is not None and train.context > organism.context:
        message = f"training on {train.context} tokens exceeds the organism's context of {organism.context}"
        yield Fault("EVO340", ("train", "context"), message, f"{organism.context} at most, or raise organism.context")
    if train.task.tokens_given >= document.context:
        message = f"of {document.context} tokens {train.task.tokens_given} are given, so none is left to predict"
        yield Fault("EVO349", ("train", "task", "given"), message, "lower it, or raise the context")
    yield from train.task.problems_with(organism)
    if train.life is not None:
        yield from train.life.problems_with(organism, train.steps if train.budget is None else None)
        if organism.adapters is not None:
            message = "adapters leave pools as they are, in which nothing could be born or die"
            yield Fault("EVO336", ("train", "life"), message, "remove one of them")
    scope = organism_scope(organism)
    if train.budget is not None:
        yield from (
            replace(problem, path=("train", "budget", *problem.path)) for problem in train.budget.problems(scope)
        )
        if train.steps != type(train).model_fields["steps"].default:
            yield Fault("EVO346", ("train", "budget"), "train has both steps and a budget", "leave one of them out")
    for key, shape in spec_fields(type(train)).items():
        if shape.kind and (spec := getattr(train, shape.name)) is not None:
            found = spec.problems(scope)
            yield from (replace(problem, path=("train", key, *problem.path)) for problem in found)
    if train.task.needs_causal:
        yield from _leaks(document, living)


def is_causal(document: Document) -> bool:
    """Whether no output of the organism sees later inputs, by what its parts declare."""
    return all(spec.is_causal for _, spec in _living(document.organism))


def _leaks(document: Document, living: Living) -> Iterator[Fault]:
    given = document.train.task.tokens_given
    for path, spec in living:
        if spec.both_ways is None or spec.both_ways > given:
            message = f"a mixer that is not causal sees the {document.train.task.tokens_are} it is to predict"
            says_so = "causal" in spec_fields(type(spec))
            where = (*path, "causal") if says_so else path
            help = "remove causal: false" if says_so else f"choose another {path[-1]}"
            others = "" if spec.both_ways is None else f"let the task give {spec.both_ways} tokens (given), "
            yield Fault("EVO343", where, message, f"{others}{help}, or choose another task")


def _living(organism: OrganismSpec) -> Living:
    """Every spec of the organism's stages and of the pseudopods that they name."""
    used = set(named(organism.stages, organism.parts))
    found = specs(organism.embedding, ("organism", "embedding"))
    for key, table in (("pseudopods", organism.pseudopods), ("layers", organism.layers)):
        for name, spec in table.items():
            if name in used:
                found += specs(spec, ("organism", key, name))
    for index, stage in enumerate(organism.stages):
        found += specs(stage, ("organism", "stages", index))
    return found
