"""Commands of `evo`, run in this process as a person types them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from evo.cli.app import main


class Outcome(NamedTuple):
    """A command's exit code, and what it printed; bytes that are no text as lone surrogates."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its stdout as JSON."""
        return json.loads(self.out)


class Evo:
    """The program."""

    def __init__(self, capsys: pytest.CaptureFixture[bytes]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str | Path | int | float) -> Outcome:
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        code = caught.value.code
        out, err = (printed.decode(errors="surrogateescape") for printed in self._capsys.readouterr())
        return Outcome(code if isinstance(code, int) else 0, out, err)
