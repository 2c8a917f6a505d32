"""What beginning to train imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
BEGIN = """
import sys
from pathlib import Path
import evo
from evo.dsl.canonical import to_yaml
from evo.dsl.tree import replaced
from evo.evolution.evaluate import TrialJob, begin
for name in sys.argv[1:]:
    document = evo.load(name)
    few = {("train", "batch"): 2, ("train", "context"): min(document.context, 80)}  # a chunk of recurrences and a piece
    begin(TrialJob(to_yaml(replaced(document, few)), str(Path(name).parent)))
    assert "torch._dynamo" not in sys.modules, name
"""


@pytest.mark.slow
def test_beginning_to_train_imports_no_compiler() -> None:
    """torch.compile's modules take seconds, in each worker of a search; an operation on the meta device that torch has
    in Python alone brings them in."""
    paths = [EXAMPLES / "gated_deltanet.yaml", *sorted(EXAMPLES.glob("*.yaml"))[::4]]
    ran = subprocess.run([sys.executable, "-c", BEGIN, *map(str, paths)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
