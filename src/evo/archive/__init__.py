"""Floor 2: what a search keeps. The CVT archive, its rules of acceptance, annealing, and weight snapshots.

| file | holds |
| --- | --- |
| `centroids.py` | cells of equal volume: Lloyd iterations on a KD-tree |
| `fitted.py` | cells where a sample lies: the same under annealing |
| `space.py` | which measures span an archive, their scale, and its cells |
| `factorability.py` | which measures tell the same: correlations, Bartlett's sphericity, Kaiser-Meyer-Olkin |
| `kernel_pca.py` | how many dimensions measures span, bent ones too |
| `store.py` | the data of an archive: one elite a cell, statistics, plain-data round trip |
| `rules.py` | who may enter an occupied cell: the better one, or by annealing a worse one |
| `cvt.py` | the archive: nearest centroid, batches, ties, placements |
| `annealing.py` | acceptance probability and mutation scale at a temperature |
| `snapshot/` | the change of weights, small; the only part that imports torch |

May import: evo.base, evo.dsl, evo.kernels, numpy, scipy; torch and safetensors inside `snapshot/` only.
Never here: training, the journal, files (an archive and a snapshot are data; who holds them writes them).
"""
