"""evo: evolve neural architectures written as text.

    load(path)              the document in a file, all faults found at once
    plan(source)            every dimension and every weight as numbers, with costs; loads no torch
    build(source)           the torch module, with initial weights or, of a checkpoint, with the trained ones
    diff(before, after)     the patch between two documents
    apply(patch, document)  the changed document
    mutate(source)          mutated children of a document, untrained
    train(source, out)      what `evo train` does; gives the held-out scores, leaves a checkpoint
    open_run(folder)        a run directory: its variants, elites, archive, lineages, models
    Search                  a search that is asked for trials and told their evaluations
    Evaluation              what was measured of a trial
    SlimeMoldEncoder        a pool of pseudopods as a torch module, vectors in and out
    DiagnosticError         what all of them raise for a user's mistake

A source is a document, or the path of a file that holds one. These names are what the package promises; its modules are
private by convention. Importing it defines names and nothing else: torch and pydantic are loaded by the first use.
"""

TYPE_CHECKING = False  # as type checkers read it; `typing` would be most of what importing costs
if TYPE_CHECKING:
    from evo.api.documents import apply, diff, load, plan
    from evo.api.models import build
    from evo.api.runs import open_run
    from evo.api.search import Search
    from evo.api.slime.encoder import SlimeMoldEncoder
    from evo.api.training import mutate, train
    from evo.base.diagnostics import DiagnosticError
    from evo.evolution.trial import Evaluation

__version__ = "0.1.0"
__all__ = [
    "DiagnosticError",
    "Evaluation",
    "Search",
    "SlimeMoldEncoder",
    "apply",
    "build",
    "diff",
    "load",
    "mutate",
    "open_run",
    "plan",
    "train",
]

_HOMES = {
    "DiagnosticError": "evo.base.diagnostics",
    "Evaluation": "evo.evolution.trial",
    "Search": "evo.api.search",
    "SlimeMoldEncoder": "evo.api.slime.encoder",
    "apply": "evo.api.documents",
    "build": "evo.api.models",
    "diff": "evo.api.documents",
    "load": "evo.api.documents",
    "mutate": "evo.api.training",
    "open_run": "evo.api.runs",
    "plan": "evo.api.documents",
    "train": "evo.api.training",
}
"""The module of each public name."""


if not TYPE_CHECKING:  # a type checker shall complain of names that are not there

    def __getattr__(name: str) -> object:
        """A public name, imported when it is first asked for."""
        if name not in _HOMES:
            raise AttributeError(f"module 'evo' has no attribute '{name}'")
        from importlib import import_module

        value = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return value


def __dir__() -> list[str]:
    """The public names beside what is here already."""
    return sorted({*globals(), *__all__})
