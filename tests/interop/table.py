"""What can be imported, and how near it comes: `python tests/interop/table.py [TYPE ...]` prints the table.

With `--write`, it goes to `examples/zoo/README.md`. It takes a few minutes for all.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).parents[2]


def rows(kinds: list[str]) -> list[list[str]]:
    """A line a type: lines of YAML, differences, and what is missing."""
    from tiny import parity, twin

    found: list[list[str]] = []
    for kind in kinds:
        try:
            pair = twin(kind)
            far = parity(pair)
        except Exception as error:
            found.append([kind, "", "", "", "", f"{type(error).__name__}: {str(error).splitlines()[0][:90]}"])
            continue
        numbers = [f"{number:.0e}" for number in (far.prefill, far.steps, far.gradients)]
        found.append([kind, str(pair.lines), *numbers, ""])
    return found


def main(arguments: list[str]) -> None:
    """Print, or write, the table."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as ALL

    from evo.interop.families import types

    named = [word for word in arguments if not word.startswith("-")]
    kinds = named or [kind for kind in ALL if kind in types()]
    found = rows(kinds)
    head = ["type", "lines", "prefill", "steps", "gradients", "fault"]
    lines = [f"| {' | '.join(row)} |" for row in (head, ["---"] * 6, *found)]
    whole = sum(row[-1] == "" for row in found)
    missing = [kind for kind in ALL if kind not in types()]
    text = (
        f"{whole} of the {len(ALL)} causal language models of transformers are read. Not yet: {', '.join(missing)}.\n\n"
    )
    text += "\n".join(lines)
    print(text)
    if "--write" in arguments:
        page = ROOT / "examples" / "zoo" / "README.md"
        page.parent.mkdir(exist_ok=True)
        intro = (
            "# Imported architectures\n\nWritten by `python tests/interop/table.py --write`: tiny models with large "
            "random weights, in float64;\ndifferences are shares of the largest logit or gradient.\n\n"
        )
        page.write_text(f"{intro}{text}\n", encoding="utf-8")


if __name__ == "__main__":
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    warnings.filterwarnings("ignore")
    sys.path.insert(0, str(Path(__file__).parent))
    main(sys.argv[1:])
