"""Floor 0: errors and diagnostics, digests, random streams, atomic files.

May import: the standard library and numpy. Never here: torch, pydantic, anything about models.
"""
