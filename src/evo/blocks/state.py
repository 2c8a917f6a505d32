"""What blocks keep between two chunks of a sequence."""

from __future__ import annotations


class State:
    """What a block keeps between two chunks of a sequence. Frozen dataclasses."""
