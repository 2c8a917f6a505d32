"""What all tests share: `strategies` is importable by name, and Hypothesis keeps no deadline on a busy machine."""

import sys
from pathlib import Path

from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent))
settings.register_profile("evo", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("evo")
