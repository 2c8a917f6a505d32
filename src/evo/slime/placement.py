"""Which device a pseudopod belongs to: a hash of the cell that it behaves like, and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence


def device_of(cell: int, devices: Sequence[str]) -> str:
    """The device of a cell of behaviour space: hash(cell) mod their number, the same in every process.

    Pseudopods that behave alike share a cell, and so a device. Raises ValueError where there is no device.
    """
    if not devices:
        raise ValueError("no device is left")
    digest = hashlib.blake2b(str(cell).encode(), digest_size=8).digest()
    return devices[int.from_bytes(digest, "big") % len(devices)]


def placed(cells: Mapping[int, int], devices: Sequence[str]) -> dict[str, list[int]]:
    """The slots of each device, by the cell of each slot. With a device less, the same hash spreads them anew."""
    found: dict[str, list[int]] = {device: [] for device in devices}
    for slot in sorted(cells):
        found[device_of(cells[slot], devices)].append(slot)
    return found
