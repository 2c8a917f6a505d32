"""A snapshot as one safetensors blob, and back. Never pickle.

The arrays of all pieces are joined by dtype into at most four tensors, because a header entry for each would cost more
than a small model's factors; those of int8 are entropy-coded. The metadata key `evo` is JSON; its `tensors` is a table
with one line a piece, in order: method, rank, shape (`128x512`, `-` for a scalar), name. From it each array's place
follows.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from evo.archive.snapshot import entropy
from evo.archive.snapshot.methods import METHODS, Layout
from evo.archive.snapshot.record import EncodedTensor, Snapshot, SnapshotError
from evo.base.digest import digest_bytes, digest_data

FORMAT = "evo-snapshot"
VERSION = 3
LONGEST_HEADER = 10**8
"""Bytes; safetensors' own limit."""
CODED = "coded"
STREAMS = {
    torch.uint8: CODED,
    torch.bfloat16: "scales",
    torch.float16: "half",
    torch.float32: "float",
}


def to_bytes(snapshot: Snapshot) -> bytes:
    """The blob. The same snapshot gives the same bytes.

    Raises:
        SnapshotError: a tensor's name with a line break in it.
    """
    streams = _join([array for piece in snapshot.pieces for array in piece.arrays])
    draft = _save(snapshot, streams, 0.0)
    return _save(snapshot, streams, snapshot.fp32_bytes / len(draft))


def _save(snapshot: Snapshot, streams: dict[str, Tensor], compression: float) -> bytes:
    head: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "tolerance": snapshot.tolerance,
        "loss_trained": snapshot.loss_trained,
        "loss_restored": snapshot.loss_restored,
        "evaluations": snapshot.evaluations,
        "fp32_bytes": snapshot.fp32_bytes,
        "compression": f"{compression:010.2f}",  # of a fixed width: the ratio must not change the size it tells of
        "base": snapshot.base_digest,
        "metadata": dict(sorted(snapshot.metadata.items())),
        "tensors": "\n".join(map(_to_line, snapshot.pieces)),
    }
    head["digest"] = _digest(head, streams)
    text = json.dumps(head, separators=(",", ":"), ensure_ascii=False)
    return save(streams, metadata={"evo": text})  # one key: the library writes several in an order of its own


def metadata_of(data: bytes) -> dict[str, str]:
    """The metadata of a blob whose content is what its digest says, nothing decoded. Raises what `from_bytes` does."""
    return dict(_verified(data)[0]["metadata"])


def _verified(data: bytes) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The head and the streams of a blob."""
    head = _head(data)
    if head.get("format") != FORMAT:
        raise SnapshotError("not a snapshot of this program: a safetensors file of another kind")
    if head.get("version") != VERSION:
        raise SnapshotError(f"a snapshot of format version {head.get('version')!r}; this program reads {VERSION}")
    try:
        streams = load(data)
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise SnapshotError(f"a damaged snapshot: {error}") from error
    if head.get("digest") != _digest({key: value for key, value in head.items() if key != "digest"}, streams):
        raise SnapshotError("a damaged snapshot: its digest does not match its content")
    return head, streams


def from_bytes(data: bytes) -> Snapshot:
    """The inverse of `to_bytes`.

    Raises:
        SnapshotError: not a snapshot, a newer one, or a damaged one; says which.
    """
    head, streams = _verified(data)
    if not all(bool(t.isfinite().all()) for t in streams.values() if t.is_floating_point()):
        raise SnapshotError("a damaged snapshot: it holds numbers that are not finite")
    try:
        pieces = _split([_from_line(line) for line in head["tensors"].splitlines()], streams)
        return Snapshot(
            pieces,
            head["base"],
            float(head["tolerance"]),
            float(head["loss_trained"]),
            float(head["loss_restored"]),
            int(head["evaluations"]),
            dict(head["metadata"]),
        )
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise SnapshotError(f"a damaged snapshot: {error}") from error


def read_blob(path: Path) -> bytes:
    """The bytes of a snapshot's file, of which no more is read than its header tells of; `from_bytes` reads them.

    Raises:
        SnapshotError: not a file, not a snapshot, or one of another length.
        OSError: it cannot be read.
    """
    if path.exists() and not path.is_file():
        raise SnapshotError("not a snapshot: not a file")
    with path.open("rb") as file:
        size, start = os.fstat(file.fileno()).st_size, file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if length > min(size, LONGEST_HEADER):
            raise SnapshotError("not a snapshot, or one that was cut short: its header is longer than the file")
        header = start + file.read(length)
        _head(header)
        try:
            ends = [int(row["data_offsets"][1]) for key, row in json.loads(header[8:]).items() if key != "__metadata__"]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise SnapshotError("a damaged snapshot: its header makes no sense") from error
        if len(header) + max(ends, default=0) != size:
            raise SnapshotError("a damaged snapshot: its length is not the one that its header tells of")
        return header + file.read()


def _head(data: bytes) -> dict[str, Any]:
    """The JSON of the metadata key; `safetensors` itself gives metadata from files only."""
    if len(data) < 8:
        raise SnapshotError("not a snapshot: shorter than a safetensors header")
    (length,) = struct.unpack("<Q", data[:8])
    if length > len(data) - 8:
        raise SnapshotError("not a snapshot, or one that was cut short: its header is longer than the file")
    try:
        return dict(json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["evo"]))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SnapshotError("not a snapshot: no header of this program") from error


def _join(arrays: Sequence[Tensor]) -> dict[str, Tensor]:
    """Arrays joined by dtype, in order; those of int8 as coded bytes."""
    coded = torch.from_numpy(entropy.pack([array.numpy() for array in arrays if array.dtype == torch.int8]))
    joined = {
        name: torch.cat([array for array in (*arrays, coded) if array.dtype == dtype] or [torch.empty(0, dtype=dtype)])
        for dtype, name in STREAMS.items()
    }
    return {name: tensor for name, tensor in joined.items() if tensor.numel()}


def _split(pieces: Sequence[EncodedTensor], streams: dict[str, Tensor]) -> tuple[EncodedTensor, ...]:
    """EncodedTensors with their arrays, cut from the streams in order; every number must be used."""
    layouts = [METHODS[piece.method].layout(piece.shape, piece.rank) for piece in pieces]
    arrays = {dtype: _cut(dtype, layouts, streams) for dtype in (torch.int8, *STREAMS)}
    return tuple(
        replace(piece, arrays=tuple(next(arrays[dtype]) for dtype, _ in layout))
        for piece, layout in zip(pieces, layouts, strict=True)
    )


def _cut(dtype: torch.dtype, layouts: Sequence[Layout], streams: dict[str, Tensor]) -> Iterator[Tensor]:
    """The arrays of one dtype, in order."""
    lengths = [length for layout in layouts for kind, length in layout if kind == dtype]
    if dtype == torch.int8:
        coded = streams.get(CODED, torch.empty(0, dtype=torch.uint8))
        return iter([torch.from_numpy(array.copy()) for array in entropy.unpack(coded.numpy(), lengths)])
    if dtype == torch.uint8:
        return iter(())
    stream = streams.get(STREAMS[dtype], torch.empty(0, dtype=dtype))
    if stream.dtype != dtype or stream.ndim != 1 or len(stream) != sum(lengths):
        raise ValueError(f"other {STREAMS[dtype]} numbers than its table of tensors tells of")
    return iter([array.clone() for array in stream.split(lengths)] if lengths else [])


def _to_line(piece: EncodedTensor) -> str:
    if len(piece.name.splitlines()) != 1:
        raise SnapshotError(f"a tensor's name must be one line of text, not {piece.name!r}")
    return f"{piece.method} {piece.rank} {'x'.join(map(str, piece.shape)) or '-'} {piece.name}"


def _from_line(line: str) -> EncodedTensor:
    method, rank, shape, name = line.split(" ", 3)
    dims = () if shape == "-" else tuple(map(int, shape.split("x")))
    if method not in METHODS or int(rank) < 0 or min(dims, default=0) < 0:
        raise ValueError(f"a table line that makes no sense: {line!r}")
    return EncodedTensor(name, dims, method, int(rank), ())


def _digest(head: dict[str, Any], streams: dict[str, Tensor]) -> str:
    arrays = [streams[name].view(torch.uint8).numpy().tobytes() for name in STREAMS.values() if name in streams]
    return digest_bytes(b"".join([digest_data(head).encode(), *arrays]))
