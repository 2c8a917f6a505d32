"""`evo measures CFG`: what a search's archive can tell apart."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evo.cli import view
from evo.cli.documents import Json, Overrides, read_valid
from evo.cli.options import MOST_SEED, Device

if TYPE_CHECKING:
    from evo.archive.factorability import Factorability


def command(
    cfg: Annotated[Path, typer.Argument(help="The document that is mutated.")],
    sample: Annotated[int, typer.Option(min=8, max=100_000, help="How many random mutants are probed.")] = 64,
    mutations: Annotated[int, typer.Option(min=1, max=100, help="The most mutations of one.")] = 8,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Seeds every draw.")] = 0,
    device: Device = "auto",
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Say which behaviour measures tell the same.

    Random mutants of the document are built and probed untrained: correlations, Bartlett's test of sphericity, and
    Kaiser-Meyer-Olkin over their measures, and kernel PCA for what is bent. A pair that correlates by 0.9 or more is
    redundant. Exits with 1 where Kaiser-Meyer-Olkin is below 0.5, so that the measures span no space.
    """
    from evo.archive.factorability import adequacy, factorability
    from evo.archive.kernel_pca import kernel_pca
    from evo.base.diagnostics import Diagnostic, DiagnosticError
    from evo.dsl.canonical import to_yaml
    from evo.dsl.tree import replaced
    from evo.engines.inline import InlineSpec
    from evo.engines.jobs import Limits, make_engine
    from evo.evolution import probing
    from evo.evolution.rundir import root_of
    from evo.evolution.settings import Settings
    from evo.training.behaviour import MEASURES
    from evo.training.device import choose_device

    (loaded,) = read_valid(cfg, overrides=overrides)
    evolve = replaced(loaded.document.evolve, {("seed",): seed})
    text, root = to_yaml(loaded.document), str(root_of(cfg))
    settings = Settings(seeds=(text,), root=root, evolve=evolve, device=str(choose_device(device)))
    with make_engine(InlineSpec(), Limits()) as engine:
        found = probing.sample(settings, engine, {"seed": text}, sample, mutations)
    try:
        verdict = factorability(MEASURES, found.points)
    except ValueError as error:
        message, help = (
            f"of {sample} mutants {len(found.mutants)} could be probed: {error}",
            "ask for a larger --sample",
        )
        raise DiagnosticError([Diagnostic("EVO623", message, None, help)]) from None
    varying = [MEASURES.index(name) for name in verdict.names]
    components = kernel_pca(found.points[:, varying])
    used, fault = set(evolve.measures), adequacy(verdict)
    spare = [pair for pair in verdict.redundant if {pair[0], pair[1]} <= used]
    if as_json:
        shares = components.shares_C[: len(MEASURES)].tolist()
        kernel = {"kernel_dims": components.dims(), "kernel_shares": shares}
        view.print_json("measures", {**asdict(verdict), **kernel, "used": list(evolve.measures)})
    else:
        _show(verdict, evolve.measures)
        view.say(f"kernel PCA: {components.dims()} components hold 90 % of the variance")
        if fault is not None:
            view.say_wrapped(f"{fault.severity}: {fault.message}")
        for one, two, correlation in spare:
            view.say_wrapped(
                f"warning: evolve.measures has {one} and {two}, which tell the same ({correlation:+.2f}): drop one"
            )
    if fault is not None and fault.severity == "error":
        raise typer.Exit(1)


def _show(found: Factorability, used: tuple[str, ...]) -> None:
    rows: list[tuple[str, ...]] = [("measure", "in archive", "KMO", *map(str, range(1, len(found.names) + 1)))]
    for place, name in enumerate(found.names):
        numbers = [f"{value:+.2f}" for value in found.correlations[place]]
        mark = "yes" if name in used else "no"
        rows.append((f"{place + 1} {name}", mark, f"{found.kmo_each[place]:.2f}", *numbers))
    view.say(view.table(rows))
    view.say(f"{found.count} mutants; Kaiser-Meyer-Olkin {found.kmo:.2f} over all of them")
    bartlett = f"chi2({found.freedom}) = {found.chi_square:.1f}, p = {found.p_value:.2g}"
    view.say(f"Bartlett's test of sphericity: {bartlett}")
    view.say_wrapped(f"eigenvalues of the correlations: {', '.join(f'{value:.2f}' for value in found.eigenvalues)}")
    for name in found.constant:
        view.say(f"{name} is the same everywhere")
    for one, two, correlation in found.redundant:
        view.say(f"redundant: {one} and {two} ({correlation:+.2f})")
