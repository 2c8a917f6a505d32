"""Layers that read sums of what all earlier layers gave."""
