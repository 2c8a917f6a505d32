"""Linear recurrences with a matrix state: linear attention, retention, gated linear attention, (gated) delta rule."""
