"""How numbers are spelled on the page. What is missing or not finite is a dash."""

from __future__ import annotations

import math
from typing import Any

NOTHING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"


def finite(value: Any) -> float | None:
    """The number, or None where there is none or it is not finite."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None


def decimals(value: Any, places: int = 4) -> str:
    """A number to so many places."""
    number = finite(value)
    return NOTHING if number is None else _minus(f"{number:.{places}f}")


def signed(value: Any, places: int = 4) -> str:
    """A change, with its sign."""
    number = finite(value)
    return NOTHING if number is None else _minus(f"{number:+.{places}f}")


def percent(value: Any, places: int = 1) -> str:
    """A share."""
    number = finite(value)
    return NOTHING if number is None else _minus(f"{100 * number:.{places}f} %")


def signed_percent(value: Any, places: int = 1) -> str:
    """A relative change, with its sign."""
    number = finite(value)
    return NOTHING if number is None else _minus(f"{100 * number:+.{places}f} %")


def whole(value: Any) -> str:
    """A count in full, by thousands."""
    number = finite(value)
    return NOTHING if number is None else _minus(f"{number:,.0f}")


def short(value: Any) -> str:
    """A count as people read it: 950, 12.3 k, 4.56 M."""
    number = finite(value)
    if number is None:
        return NOTHING
    for unit, size in (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(number) >= 0.9995 * size:
            return _minus(f"{number / size:.3g} {unit}")
    return _minus(f"{number:.4g}")


def duration(seconds: Any) -> str:
    """Seconds as 42 s, 3 min 10 s or 2 h 05 min."""
    number = finite(seconds)
    if number is None:
        return NOTHING
    if number < 9.95:
        return f"{number:.1f} s"
    whole_seconds = round(number)
    if whole_seconds < 60:
        return f"{whole_seconds} s"
    minutes, rest = divmod(whole_seconds, 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """`1 variant`, `25 variants`."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def _minus(text: str) -> str:
    return text.replace("-", MINUS)
