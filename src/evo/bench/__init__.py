"""Floor 6: measuring. Every claim is a ratio of two things timed side by side in one run.

May import everything below. Never here: a number that was not measured in that run, or a speed-up of a failing check.
"""
