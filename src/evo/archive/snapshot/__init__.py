"""Snapshots: the weights of a trained variant as a small file, whose loss of quality is measured and bounded.

| file | holds |
| --- | --- |
| `record.py` | a snapshot in memory, its summary, its error |
| `factors.py` | activation-weighted low-rank factors of a stack of changes |
| `quantise.py` | rounding to int8 by one step for all coefficients |
| `entropy.py` | small integers as about two bits each |
| `methods.py` | the ways to hold one tensor's change, as a table |
| `change.py` | the changes of a stack of tensors, and how each is held at a distortion level |
| `encode.py` | the highest distortion level whose measured loss stays within the tolerance |
| `restore.py` | base and snapshot to weights |
| `blob.py` | a snapshot to one safetensors blob and back |
| `summary.py` | what is in a snapshot, in numbers |

May import: evo.base, evo.kernels.structure, torch, safetensors. Never here: pickle, files, a model.
"""
