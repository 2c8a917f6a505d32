"""The table of commands: a name, where its function is, and its line in `evo --help`, which imports none of them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec


@dataclass(frozen=True)
class Row:
    """One command. `help` repeats the first line of its docstring; a test compares them."""

    target: str
    help: str

    @property
    def module(self) -> str:
        """The module that holds it."""
        return self.target.partition(":")[0]

    @property
    def attribute(self) -> str:
        """The name of the function, or of the group of subcommands, in that module."""
        return self.target.partition(":")[2]


ROWS: dict[str, Row] = {
    "validate": Row("evo.cli.validate:command", "Check documents and show every fault."),
    "new": Row("evo.cli.new:command", "Write a starter document."),
    "fmt": Row("evo.cli.fmt:command", "Rewrite documents in their canonical form."),
    "render": Row("evo.cli.render:command", "Write a document with every default filled in."),
    "diff": Row("evo.cli.diff:command", "Show the patch between two documents and what it costs."),
    "apply": Row("evo.cli.apply:command", "Apply a patch to a document."),
    "explain": Row("evo.cli.explain:command", "Show what a document builds, or what a word means."),
    "schema": Row("evo.cli.schema:command", "Write the JSON Schemas of the language."),
    "train": Row("evo.cli.train:command", "Train an organism on its task."),
    "generate": Row("evo.cli.generate:command", "Sample text from a checkpoint."),
    "import": Row("evo.cli.import_model:command", "Read a Hugging Face model, or a GGUF file, as a document."),
    "export": Row("evo.cli.export_model:command", "Write a checkpoint as a model of another tool."),
    "scale": Row("evo.cli.scale:command", "Write a document's organism at another size."),
    "ladder": Row("evo.cli.ladder:command", "Train a variant and baselines at several sizes."),
    "mutate": Row("evo.cli.mutate:command", "Write mutated children of a document."),
    "measures": Row("evo.cli.measures:command", "Say which behaviour measures tell the same."),
    "evolve": Row("evo.cli.evolve:command", "Evolve a population of documents."),
    "resume": Row("evo.cli.resume:command", "Continue an interrupted run."),
    "status": Row("evo.cli.status:command", "Say where a run stands."),
    "watch": Row("evo.cli.watch:command", "Follow a run that another process carries out."),
    "serve": Row("evo.cli.serve:command", "Show the report of a run in a browser while it goes on."),
    "runs": Row("evo.cli.runs:command", "List the runs of a folder."),
    "elites": Row("evo.cli.elites:command", "List the elites of a run."),
    "compare": Row("evo.cli.compare:command", "Show variants side by side: patch, costs, scores, learning."),
    "prune": Row("evo.cli.prune:command", "Remove the files of a run that its journal can write again."),
    "snapshot": Row("evo.cli.snapshot:command", "Look into, or restore, low-rank snapshots."),
    "doctor": Row("evo.cli.doctor:command", "Say what was found here, and what is chosen."),
    "profile": Row("evo.cli.profile:command", "Time an organism's forward and backward pass."),
    "slo": Row("evo.cli.slo:command", "Check a training's metrics against objectives."),
    "git-driver": Row("evo.cli.git_driver:command", "Compare and merge documents in git by what they mean."),
    "bench": Row("evo.cli.bench:command", "Measure speed side by side."),
}


def present() -> dict[str, Row]:
    """The rows whose module is installed, in the order of the table."""
    return {name: row for name, row in ROWS.items() if find_spec(row.module) is not None}
