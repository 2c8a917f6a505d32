"""Makes the helpers of this folder importable by name, here and in workers, which inherit the search path."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run in this process."""
    from searches import Quiet, settings

    from evo.evolution import run

    folder = tmp_path_factory.mktemp("run") / "whole"
    run.start(folder, settings(), Quiet())
    return folder
