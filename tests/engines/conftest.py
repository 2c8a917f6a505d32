"""Makes `sample_jobs` importable by name, here and in workers, which inherit the search path."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _sample_jobs_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
