"""report.html: one self-contained page."""

from __future__ import annotations

from html import escape
from typing import Any


def page(report: dict[str, Any]) -> str:
    """The page of a search report."""
    return f"<!doctype html><title>{escape(report['run'])}</title><pre>{escape(report['diff_from_seed'])}</pre>\n"
