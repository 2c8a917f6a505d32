"""Every option that is a number has limits, whatever is typed."""

import importlib
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import typer

from evo.cli.commands import ROWS, present

FIRST = str(Path(__file__).parents[2] / "examples" / "first.yaml")
ARGUMENTS = {"resume": ["{folder}"], "generate": ["{folder}"], "ladder": ["{folder}/good.yaml", FIRST], "bench": []}
"""What commands take instead of one document."""


def commands() -> Iterator[tuple[tuple[str, ...], Callable[..., Any]]]:
    """Every command and subcommand: the words that call it, and its function."""
    for name in present():
        found = getattr(importlib.import_module(ROWS[name].module), ROWS[name].attribute)
        if isinstance(found, typer.Typer):
            inner = [info.callback for info in found.registered_commands if info.callback]
            yield from (((name, function.__name__), function) for function in inner)
        else:
            yield (name,), found


def is_number(parameter: inspect.Parameter) -> bool:
    """Whether an option takes an int or a float."""
    kind = get_args(parameter.annotation)[0] if get_args(parameter.annotation) else parameter.annotation
    return bool({int, float} & {kind, *get_args(kind)})


OPTIONS = [
    (words, f"--{name.replace('_', '-')}")
    for words, function in commands()
    for name, parameter in inspect.signature(function, eval_str=True).parameters.items()
    if is_number(parameter)
]


def test_there_are_such_options():
    """The list below is not empty by a change of typer's names."""
    assert {"--workers", "--max-memory", "--population", "--count", "--tokens"} <= {option for _, option in OPTIONS}


@pytest.mark.parametrize(("words", "option"), OPTIONS)
@pytest.mark.parametrize("value", ["1" + "0" * 30, "-1", "inf", "nan", "-inf"])
def test_a_number_beyond_all_limits_is_refused(
    evo, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words, option: str, value: str
):
    """At once, by the option's limits (2) or those of the field that it stands for (1): nothing is begun."""

    def began(*_: object, **__: object) -> None:
        raise AssertionError("the command went on")

    for begin in ("evolution.run.start", "training.run.TrainingRun.open", "evolution.mutate.mutants"):
        monkeypatch.setattr(f"evo.{begin}", began)
    arguments = [text.format(folder=tmp_path) for text in ARGUMENTS.get(words[0], [str(good)])]
    outcome = evo(*words, *arguments, option, value)
    assert outcome.code in (1, 2)
    assert option in outcome.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["good.yaml"]
