"""Elman's exclusive or in time."""
