"""What all tests share: `strategies` is importable by name; Hypothesis keeps no deadline and draws the same every time.

`pytest --hypothesis-profile=explore` draws anew, to look for faults that the gate does not know.
"""

import sys
from pathlib import Path

from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent))
COMMON = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", COMMON)
settings.register_profile("evo", COMMON, derandomize=True)
settings.load_profile("evo")
