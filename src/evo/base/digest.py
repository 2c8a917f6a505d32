"""Content hashes: stable across processes, machines and Python versions."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def digest_bytes(data: bytes) -> str:
    """The 32-digit hexadecimal BLAKE2b digest of some bytes."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def digest_data(data: Any) -> str:
    """The digest of plain data (mappings, lists, text, numbers, booleans, None), whatever the order of keys."""
    return digest_bytes(json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode())
