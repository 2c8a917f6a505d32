"""Blocks one behind the other as one mixer."""
