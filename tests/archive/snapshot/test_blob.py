"""The blob: exact round trip, the same bytes, no pickle, and clear errors for everything else."""

import json
import os
import struct
from dataclasses import asdict
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.archive.snapshot.models import distance, made_up

from evo.archive.snapshot.blob import from_bytes, read_blob, to_bytes
from evo.archive.snapshot.encode import encode
from evo.archive.snapshot.entropy import LEAST_LANES
from evo.archive.snapshot.methods import METHODS
from evo.archive.snapshot.record import EncodedTensor, Snapshot, SnapshotError
from evo.archive.snapshot.restore import digest_weights, restore
from evo.archive.snapshot.summary import summarise

BASE, TRAINED = made_up(rank=2, noise=0.1)
SNAPSHOT = encode(BASE, TRAINED, {}, distance(TRAINED), metadata={"parent": "gen_0001/variant_03", "spec": "ab12 é"})
BLOB = to_bytes(SNAPSHOT)
NAMES = st.text(st.characters(blacklist_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=12)


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """Snapshots of any methods, shapes, ranks and names, with random content."""
    pieces = []
    for name in draw(st.lists(NAMES, unique=True, max_size=5)):
        method = draw(st.sampled_from(sorted(METHODS)))
        least = 1 if method == "factors" else 0
        shape = tuple(draw(st.lists(st.integers(1, 9), min_size=least, max_size=3)))
        rank = draw(st.integers(0, 3)) if method == "factors" else 0
        arrays = tuple(
            torch.randint(0, 100, (length,)).to(dtype) for dtype, length in METHODS[method].layout(shape, rank)
        )
        pieces.append(EncodedTensor(name, shape, method, rank, arrays))
    numbers = st.floats(allow_nan=False, allow_infinity=False)
    return Snapshot(tuple(pieces), "0" * 32, draw(numbers), draw(numbers), draw(numbers), 5, {"a": draw(st.text())})


@settings(deadline=None)
@given(snapshots())
def test_round_trip_is_exact(snapshot: Snapshot) -> None:
    """Reading what was written gives every number, name and text back, and writing it again the same bytes."""
    blob = to_bytes(snapshot)
    again = from_bytes(blob)
    assert to_bytes(again) == blob
    assert asdict(summarise(again)) == asdict(summarise(snapshot))
    for ours, theirs in zip(snapshot.pieces, again.pieces, strict=True):
        assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(ours.arrays, theirs.arrays, strict=True))


def test_a_read_snapshot_restores_the_same_weights() -> None:
    """Weights restored from the bytes equal those restored from memory, and other libraries can open the file."""
    restored = restore(BASE, from_bytes(BLOB))
    assert all(torch.equal(tensor, restored[name]) for name, tensor in restore(BASE, SNAPSHOT).items())
    assert list(restored) == list(BASE)
    assert abs(sum(t.nbytes for t in safetensors.torch.load(BLOB).values()) - SNAPSHOT.payload_bytes) < 6 * LEAST_LANES


def test_the_header_tells_what_was_measured() -> None:
    """The metadata holds version, tolerance, both losses, ranks, fp32 bytes, the true ratio and the caller's text."""
    (length,) = struct.unpack("<Q", BLOB[:8])
    head = json.loads(json.loads(BLOB[8 : 8 + length])["__metadata__"]["evo"])
    assert (head["format"], head["version"], head["tolerance"]) == ("evo-snapshot", 3, 0.01)
    assert (head["loss_trained"], head["loss_restored"]) == (1.0, SNAPSHOT.loss_restored)
    assert float(head["compression"]) == pytest.approx(SNAPSHOT.fp32_bytes / len(BLOB), abs=0.01)
    assert head["metadata"] == {"parent": "gen_0001/variant_03", "spec": "ab12 é"}
    piece = next(piece for piece in SNAPSHOT.pieces if piece.name == "a.weight")
    assert f"factors {piece.rank} 64x48 a.weight" in head["tensors"].splitlines()


def test_the_summary_adds_up() -> None:
    """Rows tell method, rank and bytes of each tensor; totals are those of the file."""
    summary = summarise(SNAPSHOT)
    assert summary.nbytes == len(BLOB)
    assert summary.fp32_bytes == sum(4 * tensor.numel() for tensor in BASE.values())
    assert sum(row.nbytes for row in summary.rows) == SNAPSHOT.payload_bytes
    assert [row.name for row in summary.rows] == sorted(BASE)
    assert summary.compression == summary.fp32_bytes / summary.nbytes


@settings(deadline=None, max_examples=300)
@given(st.integers(0, len(BLOB) - 1), st.integers(1, 255))
def test_a_changed_byte_is_noticed(place: int, flip: int) -> None:
    """A damaged byte raises SnapshotError, or changed nothing that is read."""
    damaged = bytearray(BLOB)
    damaged[place] ^= flip
    try:
        read = from_bytes(bytes(damaged))
    except SnapshotError:
        return
    assert to_bytes(read) == BLOB


@settings(deadline=None)
@given(st.integers(0, len(BLOB) - 1))
def test_a_cut_file_is_noticed(length: int) -> None:
    """A file cut short anywhere raises SnapshotError."""
    with pytest.raises(SnapshotError):
        from_bytes(BLOB[:length])


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_junk_is_refused(data: bytes) -> None:
    """Any other bytes raise SnapshotError and nothing else."""
    with pytest.raises(SnapshotError):
        from_bytes(data)


def test_foreign_files_are_told_apart() -> None:
    """A checkpoint, a pickle, a foreign format and a newer version each get their own words."""
    with pytest.raises(SnapshotError, match="no header of this program"):
        from_bytes(safetensors.torch.save({"w": torch.zeros(3)}))
    with pytest.raises(SnapshotError, match="not a snapshot"):
        from_bytes(b"\x80\x04\x95 pickled things")
    with pytest.raises(SnapshotError, match="another kind"):
        from_bytes(safetensors.torch.save({}, metadata={"evo": "{}"}))
    newer = json.dumps({"format": "evo-snapshot", "version": 4})
    with pytest.raises(SnapshotError, match="version 4"):
        from_bytes(safetensors.torch.save({}, metadata={"evo": newer}))
    nested = "[" * 100_000
    with pytest.raises(SnapshotError, match="no header"):
        from_bytes(safetensors.torch.save({}, metadata={"evo": nested}))


def test_names_are_single_lines() -> None:
    """A tensor's name with a line break cannot be written, and that is said."""
    piece = EncodedTensor("a\nb", (2,), "same", 0, ())
    with pytest.raises(SnapshotError, match="one line"):
        to_bytes(Snapshot((piece,), "", 0.0, 1.0, 1.0, 1))


def test_another_base_is_refused() -> None:
    """Another base is refused by names, shapes and values; the check of values alone can be turned off."""
    moved = {name: tensor + 1.0 for name, tensor in BASE.items()}
    with pytest.raises(SnapshotError, match="another base"):
        restore(moved, SNAPSHOT)
    restored = restore(moved, SNAPSHOT, check_base=False)
    torch.testing.assert_close(restored["norm"], restore(BASE, SNAPSHOT)["norm"] + 1.0)
    with pytest.raises(SnapshotError, match="'norm'"):
        restore({name: tensor for name, tensor in BASE.items() if name != "norm"}, SNAPSHOT)
    with pytest.raises(SnapshotError, match=r"'norm': base of shape \(3,\)"):
        restore(BASE | {"norm": torch.zeros(3)}, SNAPSHOT)


def test_base_digest_ignores_order_only() -> None:
    """The digest of weights does not depend on their order, and does on names, shapes and values."""
    digest = digest_weights(BASE)
    assert digest_weights(dict(reversed(BASE.items()))) == digest
    assert digest_weights(BASE | {"norm": BASE["norm"] + 1}) != digest
    assert digest_weights(BASE | {"norm": BASE["norm"][None]}) != digest


def test_files_are_read_as_far_as_their_header_tells(tmp_path: Path) -> None:
    """A snapshot's file gives its bytes; devices, pipes, sparse giants and files of another length are not read."""
    (tmp_path / "s").write_bytes(BLOB)
    assert read_blob(tmp_path / "s") == BLOB
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "giant").open("wb") as file:
        file.truncate(2**40)
    (tmp_path / "longer").write_bytes(BLOB + b"x")
    for name in ("pipe", "giant", "longer"):
        with pytest.raises(SnapshotError):
            read_blob(tmp_path / name)
    with pytest.raises(SnapshotError):
        read_blob(Path("/dev/zero"))
