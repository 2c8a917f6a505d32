"""`evo doctor`: what this machine has, and what evo chooses on it."""

from __future__ import annotations

from dataclasses import asdict

from evo.cli import view
from evo.cli.documents import Json
from evo.cli.options import Device


def command(
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Say what was found here, and what is chosen.

    Devices, memory, optional packages; device, precision and kernels of a training.
    """
    from evo.training.hardware import chosen, found

    parts = {"found": list(found()), "chosen": list(chosen(device))}
    if as_json:
        view.print_json("doctor", {part: [asdict(line) for line in lines] for part, lines in parts.items()})
        return
    cells: list[tuple[str, ...]] = []
    for part, lines in parts.items():
        cells += [(part, "", ""), *((f"  {line.what}", line.value, line.why) for line in lines)]
    view.say(view.table(cells, left=3))
