"""The archive of a pool: the best pseudopod of each behaviour, its weights as low-rank factors. Plain data only."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evo.archive.cvt import CVTArchive
from evo.archive.snapshot.change import ChangeStack
from evo.archive.snapshot.methods import METHODS, Layout
from evo.archive.snapshot.record import EncodedTensor, Snapshot
from evo.archive.snapshot.restore import restore
from evo.archive.store import Elite
from evo.blocks.transfer import Arriving

Floats = NDArray[np.float64]
LEVEL = 1e-6
"""The distortion at which the snapshot's encoder holds a weight: its share of the outputs' power, a coefficient. Of
weights as they are drawn it loses a fifth, of those of lower rank a twentieth."""


@dataclass(frozen=True)
class Genome:
    """The weights of one pseudopod as the snapshot's encoder holds them: bytes and nothing else.

    blob: a line of JSON, [name, shape, method, rank] of each weight; then all their arrays, in Huffman codes alone. The
    file of a snapshot has its integers in range ANS, which takes as many bytes and, of one head, ten milliseconds to be
    read, in which nothing else runs: newborns would be waited for.
    """

    blob: bytes

    @classmethod
    def of(cls, pieces: Sequence[EncodedTensor]) -> Genome:
        """Encoded weights, on the host, as a blob."""
        table = [[piece.name, piece.shape, piece.method, piece.rank] for piece in pieces]
        arrays = (array.view(torch.uint8).numpy().tobytes() for piece in pieces for array in piece.arrays)
        coder = zlib.compressobj(level=1, strategy=zlib.Z_HUFFMAN_ONLY)
        return cls(json.dumps(table).encode() + b"\n" + coder.compress(b"".join(arrays)) + coder.flush())

    @classmethod
    def read(cls, blob: bytes) -> Genome:
        """A blob that was saved. Raises ValueError where it is none."""
        try:
            json.loads(blob.partition(b"\n")[0])
        except ValueError as error:
            raise ValueError("an elite's weights are in another form") from error
        return cls(blob)

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return len(self.blob)

    def weights(self) -> dict[str, Tensor]:
        """The weights, float32 on the CPU, by name."""
        table, _, coded = self.blob.partition(b"\n")
        arrays = BytesIO(zlib.decompress(coded))
        pieces = [
            EncodedTensor(name, tuple(shape), method, rank, _read(arrays, METHODS[method].layout(tuple(shape), rank)))
            for name, shape, method, rank in json.loads(table)
        ]
        snapshot = Snapshot(tuple(pieces), "", 0.0, 0.0, 0.0, 0)
        return restore({piece.name: torch.zeros(piece.shape) for piece in pieces}, snapshot, check_base=False)


def _read(arrays: BytesIO, layout: Layout) -> tuple[Tensor, ...]:
    """The next arrays, of these dtypes and lengths."""
    parts = [(dtype, bytearray(arrays.read(length * dtype.itemsize))) for dtype, length in layout]
    return tuple(torch.frombuffer(part, dtype=dtype) if part else torch.empty(0, dtype=dtype) for dtype, part in parts)


def encoded(weights: Mapping[str, Tensor]) -> list[Genome]:
    """The genomes of G pseudopods of one shape, by their weights in stacks, (G, ...) each on the host.

    On the CPU: a decomposition of one head is so small that on a GPU it would be waiting for its launches.
    """
    pieces: list[list[EncodedTensor]] = []
    for name, weight_G in weights.items():
        trained_G = weight_G.detach().float()
        count = len(trained_G)
        pieces.append(ChangeStack((name,) * count, trained_G.double(), trained_G, (None,) * count).at(LEVEL))
    return [Genome.of(own) for own in zip(*pieces, strict=True)]


class Elites:
    """A CVT archive of pseudopods; see `evo.archive.cvt`. While one lives its weights are in its slot; when it dies,
    and holds a cell, they are kept as a genome, which the one thread of `coder` makes while training goes on."""

    def __init__(self, archive: CVTArchive, coder: ThreadPoolExecutor) -> None:
        self.archive, self.coder = archive, coder
        self._kept: dict[str, Future[Genome]] = {}

    def __len__(self) -> int:
        return len(self.archive)

    @property
    def genomes(self) -> dict[str, Genome]:
        """Those of the dead that hold a cell, by name, once all of them are made."""
        return {name: coming.result() for name, coming in self._kept.items()}

    def genome(self, name: str) -> Genome:
        """That of one of the dead, once it is made. Raises KeyError where it is not kept."""
        return self._kept[name].result()

    def judge(self, names: Sequence[str], fitness_B: Floats, measures_BM: Floats) -> int:
        """Place the living anew, wherever they stood; how many of them hold a cell now."""
        for name in names:
            self.archive.remove(name)
        placements = self.archive.add(names, fitness_B, measures_BM)
        self._forget_displaced(names)
        return sum(placement.is_elite for placement in placements)

    def keep(self, weights: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Keep the weights of those that die, by name, if they hold a cell; all of them in one stack.

        They are read as they are now, and may be changed at once.
        """
        holders = self._holders()
        held = [name for name in weights if name in holders]
        if not held:
            return
        stacks = {path: torch.stack([weights[name][path].detach() for name in held]) for path in weights[held[0]]}
        arriving = Arriving(stacks)
        coming = self.coder.submit(lambda: encoded(arriving.wait()))
        for index, name in enumerate(held):  # one thread takes them in order, so what they wait for is there
            self._kept[name] = self.coder.submit(lambda index=index: coming.result()[index])

    def nearest(self, wanted_M: Floats) -> Elite | None:
        """The elite whose measures are nearest to wanted ones, the first among equals; None where there is none."""
        elites = self.archive.elites()
        if not elites:
            return None
        distance_E = np.linalg.norm(np.array([elite.measures for elite in elites]) - wanted_M, axis=1)
        return elites[int(distance_E.argmin())]

    def refine(self, measures_BM: Floats, rate: float) -> None:
        """Move the centroid nearest to each point by `rate` of the way (MacQueen's k-means), and place all anew."""
        centroids_CM = self.archive.centroids_CM.copy()
        for point_M, cell in zip(measures_BM, self.archive.cell_of(measures_BM).tolist(), strict=True):
            centroids_CM[cell] += rate * (point_M - centroids_CM[cell])
        elites, offset = self.archive.elites(), self.archive.offset
        self.archive = CVTArchive(centroids_CM, offset)
        if elites:
            objectives, measures = [elite.objective for elite in elites], [elite.measures for elite in elites]
            self.archive.add([elite.id for elite in elites], objectives, measures)
        self._forget_displaced(())

    def drop_worst(self) -> bool:
        """Forget the dead elite of the lowest fitness; whether there was one."""
        dead = [elite for elite in self.archive.elites() if str(elite.id) in self._kept]
        if not dead:
            return False
        worst = min(dead, key=lambda elite: elite.objective)
        self.archive.remove(worst.id)
        del self._kept[str(worst.id)]
        return True

    def _holders(self) -> set[str]:
        """Who holds a cell."""
        return {str(elite.id) for elite in self.archive.elites()}

    def _forget_displaced(self, living: Sequence[str]) -> None:
        """Drop the genomes of those who hold no cell any more, and of those who live."""
        kept = self._holders() - set(living)
        self._kept = {name: coming for name, coming in self._kept.items() if name in kept}

    @property
    def nbytes(self) -> int:
        """Bytes of all genomes."""
        return sum(genome.nbytes for genome in self.genomes.values())

    def to_data(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Plain data that JSON keeps exactly, and the genomes by name as bytes."""
        blobs = {name: torch.frombuffer(bytearray(g.blob), dtype=torch.uint8) for name, g in self.genomes.items()}
        return {"archive": self.archive.to_data()}, blobs

    @classmethod
    def from_data(cls, data: Mapping[str, Any], blobs: Mapping[str, Tensor], coder: ThreadPoolExecutor) -> Elites:
        """The inverse of `to_data`. Raises ValueError or KeyError for data of another form."""
        elites = cls(CVTArchive.from_data(data["archive"]), coder)
        for name, blob in blobs.items():
            made = elites._kept[name] = Future[Genome]()
            made.set_result(Genome.read(blob.cpu().numpy().tobytes()))
        return elites


def to_bytes(data: Any) -> Tensor:
    """Plain data as a uint8 tensor, to be kept beside others."""
    return torch.frombuffer(bytearray(json.dumps(data, sort_keys=True).encode()), dtype=torch.uint8)


def from_bytes(tensor: Tensor) -> Any:
    """The inverse of `to_bytes`."""
    return json.loads(tensor.cpu().numpy().tobytes())
