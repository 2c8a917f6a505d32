"""Floor 6: what a run says to people and to programs. Reads run directories; never changes a result.

May import everything below.
"""
