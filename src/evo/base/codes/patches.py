"""4xx: patches."""

from __future__ import annotations

from evo.base.codes.code import Code

PATCHES = {
    "EVO400": Code(
        "A patch does not fit",
        "Every edit says what it expects to find. This one finds something else, so the patch was made from another "
        "document. Nothing is changed.",
        "evo_patch: 1\nedits:\n  - {path: organism.width, old: 512, new: 128}\n",
        "evo_patch: 1\nedits:\n  - {path: organism.width, old: 64, new: 128}\n",
        "patch",
    ),
    "EVO401": Code(
        "Not a patch",
        "A patch holds its version and a list of edits, each with a `path` and `old`, `new` or both; `at` is the "
        "index of an entry that comes or leaves. `evo diff --patch` writes one.",
        "evo_patch: 1\nedits:\n  - {path: organism.width, to: 128}\n",
        "evo_patch: 1\nedits:\n  - {path: organism.width, old: 64, new: 128}\n",
        "patch",
    ),
    "EVO402": Code(
        "Two changes of one value",
        "A three-way merge of documents found a value that both sides changed, each to another. The file has both "
        "between git's markers; everything that only one side changed is merged already.",
        "git merge other",
        "git checkout --theirs mine.yaml",
        "command",
    ),
}
