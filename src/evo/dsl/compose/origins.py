"""Relative paths start at the file that wrote them: how the whole document has to write them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from evo.base.rundirs import SETTINGS, run_of
from evo.dsl.build import Builder
from evo.dsl.compose.overrides import SOURCE
from evo.dsl.task import TaskSpec
from evo.dsl.train import TrainSpec
from evo.dsl.yaml import STDIN, Node, node_of, read_file


def rooted(node: Node, file: str) -> Node:
    """The document with the files that its task names as they must be written from the folder of `file`."""
    train = node.child("train")
    task = train and train.child("task")
    if task is None:
        return node
    own = folder_of(file)
    others = {folder_of(name) for name in _files(task)} - {own}
    spec = Builder(node).spec(TrainSpec, ("train",)) if others else None
    if not isinstance(spec, TrainSpec):
        return node
    assert isinstance(spec.task, TaskSpec)
    for folder in sorted(others):
        task = _moved(task, node_of(spec.task.relocated(folder, own)), folder)
    return _with(node, ("train", "task"), task)


def folder_of(file: str) -> Path:
    """The folder that paths in a file start from: its own; of a run's variant, the run's root; of `--set`, this one."""
    if file in (SOURCE, STDIN):
        return Path.cwd()
    path = Path(file).resolve()
    run = run_of(path)
    if run is None:
        return path.parent
    root = read_file(run / SETTINGS)[0].child("root")
    return (run / str(root.plain() if root else ".")).resolve()


def _files(node: Node) -> Iterator[str]:
    if isinstance(node.value, dict):
        for entry in node.value.values():
            yield from _files(entry.node)
    elif isinstance(node.value, tuple):
        for item in node.value:
            yield from _files(item)
    elif node.span is not None and isinstance(node.value, str):
        yield node.span.file


def _moved(node: Node, moved: Node, folder: Path) -> Node:
    """The node with the texts that were written in a folder as they stand in `moved`."""
    if isinstance(node.value, dict):
        entries = {
            key: entry
            if (other := moved.child(key)) is None
            else replace(entry, node=_moved(entry.node, other, folder))
            for key, entry in node.value.items()
        }
        return replace(node, value=entries)
    if isinstance(node.value, tuple):
        items = moved.value if isinstance(moved.value, tuple) else (moved,)
        return replace(node, value=tuple(_moved(x, y, folder) for x, y in zip(node.value, items, strict=True)))
    is_there = node.span is not None and isinstance(node.value, str) and folder_of(node.span.file) == folder
    return replace(node, value=moved.value) if is_there else node


def _with(node: Node, path: tuple[str, ...], value: Node) -> Node:
    if not path:
        return value
    assert isinstance(node.value, dict)
    entry = node.value[path[0]]
    return replace(node, value={**node.value, path[0]: replace(entry, node=_with(entry.node, path[1:], value))})
