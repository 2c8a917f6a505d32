"""Makes the helpers of this folder importable by name, here and in workers, which inherit the search path."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
