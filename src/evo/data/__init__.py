"""Floor 1: text. The shipped corpora, a person's own files, the held-out split, and batches of bytes.

May import: the standard library, numpy, `evo.base`. Never here: torch, a global random state, a download, or a training
byte that is also a held-out byte.
"""
