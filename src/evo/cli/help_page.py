"""What `evo COMMAND --help` shows of a command's arguments and options."""

from __future__ import annotations

import re
from typing import Any

from typer.core import TyperCommand

UNREACHED = re.compile(r"(\d[\d.]*)<=x<=\d{6,}(?:\.0)?(?=[];])")
"""A range whose upper end only keeps nonsense out: whoever goes beyond is told of it."""


class Command(TyperCommand):
    """A command whose arguments are written in capitals, as they stand in the usage of every other one."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        for parameter in self.params:
            if parameter.param_type_name == "argument" and parameter.metavar is None:
                parameter.metavar = parameter.name.upper()

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Arguments first, then options, as a person reads them: one of a list as what it is, no limit out of reach."""
        for title, kind in (("Arguments", "argument"), ("Options", "option")):
            records = [p.get_help_record(ctx) for p in self.get_params(ctx) if p.param_type_name == kind]
            rows = [(_named(record[0]), _limited(record[1])) for record in records if record is not None]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


def _named(name: str) -> str:
    return re.sub(r"<list\[(\w+)\]>", lambda found: f"<{found[1].lower()}>", name.replace(" range>", ">"))


def _limited(help: str) -> str:
    return UNREACHED.sub(lambda found: f"x>={found[1].removesuffix('.0')}", help)
