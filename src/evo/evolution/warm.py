"""Beginning a search warm: from the weights of finished variants instead of fresh draws."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from evo.archive.snapshot.record import SnapshotError
from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.base.rundirs import exact_beside, is_run, run_of
from evo.compiler.resolve import resolve
from evo.compiler.transplant import transplant
from evo.dsl.canonical import content_hash
from evo.dsl.paths import stage_path
from evo.evolution.ancestry import charge_of
from evo.evolution.candidate import candidate_id
from evo.evolution.documents import document_of
from evo.evolution.evaluate import pack_weights
from evo.evolution.founders import Founder, digest_of
from evo.evolution.journal import Journal
from evo.evolution.lineage import Lineage
from evo.evolution.rundir import RunDirectory
from evo.evolution.settings import Settings
from evo.evolution.trial import Trial
from evo.tasks.base import open_task
from evo.training.checkpoint import load_checkpoint


def variant_in(path: Path) -> Path:
    """The document of the best variant of a run; of any other path itself.

    Raises:
        DiagnosticError: the run cannot be read (EVO600), or has no generation yet (EVO625).
    """
    if not is_run(path):
        return path
    directory = RunDirectory(path)
    directory.load()
    with closing(Journal(directory.journal_file, only_read=True)) as journal:
        generations = journal.generations()
        if not generations:
            raise _refused(f"{path} has no finished generation", "let it go on first: evo resume")
        return directory.variant(journal.candidate(str(generations[-1].best)))


def warmed(settings: Settings, variants: Sequence[Path]) -> tuple[Settings, tuple[bytes, ...]]:
    """The settings of a search whose seeds begin from the weights of variants, one a seed, and these as safetensors.

    Weights are taken as they were trained where their run keeps them, otherwise as the snapshot has them.

    Raises:
        DiagnosticError: a file is no variant of a run, has no weights, learned from another text, or cannot be charged
            with its age, or two seeds are the same organism (EVO625); no weight of its stages has a place in the seed
            (EVO609); its run cannot be read (EVO600), or its snapshot (EVO602).
    """
    if len({content_hash(document_of(seed)) for seed in settings.seeds}) < len(settings.seeds):
        raise _refused("two of the seeds are the same organism", "begin from one of them")
    found = [_founding(settings, slot, path) for slot, path in enumerate(variants)]
    return replace(settings, founders=tuple(founder for founder, _ in found)), tuple(data for _, data in found)


def _founding(settings: Settings, slot: int, path: Path) -> tuple[Founder, bytes]:
    file = path.resolve()
    run = run_of(file)
    if run is None:
        help = "--warm takes a run, or a variant in its run directory: results/RUN/gen_0003/variant_07.yaml"
        raise _refused(f"{path} is no variant of a run, and has no weights", help)
    source = RunDirectory(run).load()
    _require_comparable(settings, slot, path, source)
    with closing(Journal(RunDirectory(run).journal_file, only_read=True)) as journal:
        lineage = Lineage(journal, source, run)
        generation, number = file.parent.name.partition("_")[2], file.name.partition(".")[0].partition("_")[2]
        try:
            ref = lineage.latest(candidate_id(int(generation), int(number)))
            trial, exact = journal.trial(ref), exact_beside(file)
            weights = load_checkpoint(exact).weights if exact.is_file() else lineage.weights(ref)
        except KeyError:
            raise _refused(f"{path} has no weights: it gave no scores", "begin from another variant") from None
        except SnapshotError as error:
            raise DiagnosticError([Diagnostic("EVO602", f"{path}: {error}")]) from None
        charge = charge_of(journal, [ref], settings.train_budget, source.founder_by_seed)
    _require_fit(settings, slot, path, weights)
    data = pack_weights(weights)
    return Founder(
        source=str(path),
        is_exact=exact.is_file(),
        offset=_trained(trial),
        charge=charge,
        digest=digest_of(data),
    ), data


def _trained(trial: Trial) -> int:
    return trial.start.offset + trial.steps


def _require_comparable(settings: Settings, slot: int, path: Path, source: Settings) -> None:
    """Raise DiagnosticError unless scores mean what they do elsewhere, and the age can be paid for (EVO625)."""
    task = open_task(document_of(settings.seeds[slot]).train.task, Path(settings.root))
    if task.digest != source.task_digest:
        help = "what is held out here may have been learned there; `evo train --from` fine-tunes"
        raise _refused(f"the weights of {path} come from another text than the search learns from", help)
    if source.founders and source.train_budget.unit != settings.train_budget.unit:
        message = f"the run of {path} began warm itself, and counts its age in {source.train_budget.unit}"
        raise _refused(message, f"give the search a budget in {source.train_budget.unit}")


def _require_fit(settings: Settings, slot: int, path: Path, weights: dict[str, Tensor]) -> None:
    """Raise DiagnosticError if none of a seed's stages would get a weight (EVO609): an option may have changed it."""
    document = document_of(settings.seeds[slot])
    plan = resolve(document.organism)
    _, transfer = transplant(plan, document.train.seed, weights)
    inside = {name for stage in plan.stages for name, _ in stage.named_weights(stage_path(stage.name))}
    if inside.isdisjoint((*transfer.copied, *transfer.resized)):
        help = "weights go by the names of stages and layers"
        raise DiagnosticError([Diagnostic("EVO609", f"no weight of the stages of {path} has a place here", None, help)])


def _refused(message: str, help: str) -> DiagnosticError:
    return DiagnosticError([Diagnostic("EVO625", message, None, help)])
