"""The program `evo`: finds the command, runs it, and turns what it raises into text and an exit code."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from evo import __version__
from evo.cli import guard, view
from evo.cli.commands import ROWS, present
from evo.cli.help_page import Command

EXIT_CODES = """\
\b
Exit codes:
  0    fine
  1    the input has errors, or differs where that was asked
  2    the command line is wrong
  70   evo itself failed; a short report says where the traceback is
  130  interrupted
  141  nobody reads the output any more
  143  ended by SIGTERM
"""
_COMMAND_LINE: tuple[type[Exception], ...] = (typer.Exit, typer.Abort, typer.BadParameter.__mro__[2])
"""What the parser itself raises and prints; the last is click's own root, which typer does not name."""


class _Commands(TyperGroup):
    """Knows every command by its row; imports the one that is called."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = {name: TyperCommand(name, help=row.help) for name, row in present().items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, found, rest = super().resolve_command(ctx, args)
        return name, found and load(str(name)), rest

    def invoke(self, ctx: Any) -> Any:
        as_json = "--json" in ctx.args
        try:
            status = super().invoke(ctx)
        except BrokenPipeError:
            status = _closed()
        except _COMMAND_LINE:
            raise
        except Exception as error:
            faults, status = guard.judged(error, debug=ctx.params["debug"])
            try:
                view.show_error(str(ctx.invoked_subcommand), faults, as_json)
            except BrokenPipeError:
                status = _closed()
            except OSError:  # stdout takes nothing more, such as on a full disk
                view.show_error(str(ctx.invoked_subcommand), faults, as_json=False)
        raise typer.Exit(status if isinstance(status, int) else 0)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EXIT_CODES,
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"evo {__version__}")
        raise typer.Exit


@app.callback()
def _program(  # pyright: ignore[reportUnusedFunction]
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Where evo itself fails, show the traceback.")] = False,
) -> None:
    """Evolve neural architectures written as YAML.

    `evo COMMAND --help` tells more; `evo explain EVO210` explains an error code.
    """


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and exit the process."""
    gc.set_threshold(100_000, 20, 20)  # start-up frees nothing, and looking for garbage meanwhile is a fifth of it
    arguments = list(sys.argv[1:] if args is None else args)
    _open_closed()
    view.escape_unspellable()
    if sys.platform == "darwin":  # torch reads it once, when imported: what MPS lacks runs on the CPU, with a warning
        os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
    try:
        app(arguments, prog_name="evo")
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        _flush()


def _open_closed() -> None:
    """Let a stream that our caller closed go nowhere; a file that is opened later would take its number."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_RDWR), number)
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def load(name: str) -> Any:
    """A command by its row, imported, as the parser calls it."""
    row = ROWS[name]
    found = getattr(importlib.import_module(row.module), row.attribute)
    if isinstance(found, typer.Typer):
        for inner in found.registered_commands:
            inner.cls, inner.epilog = Command, EXIT_CODES
        found.info.epilog = EXIT_CODES
        return get_command(found)
    single = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    settings = {"help_option_names": ["-h", "--help"]}
    single.command(name, cls=Command, context_settings=settings, epilog=EXIT_CODES)(found)
    return get_command(single)


def _flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _closed()
    except OSError as error:  # what is left goes to a full disk
        _closed()
        view.show([guard.os_fault(error)])
        sys.exit(guard.INPUT)


def _closed() -> int:
    """Nobody reads our output any more: let the rest of it, and the interpreter's last flush, go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 141
