"""What all tests share: `strategies` and `commands` are importable by name, `evo` runs a command.

Hypothesis keeps no deadline and draws the same every time; `pytest --hypothesis-profile=explore` draws anew, to look
for faults that the gate does not know.
"""

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent))

COMMON = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", COMMON)
settings.register_profile("evo", COMMON, derandomize=True)
settings.load_profile("evo")


@pytest.fixture
def evo(capsys: pytest.CaptureFixture[str]):
    """The program: call it with arguments."""
    from commands import Evo

    return Evo(capsys)
