"""1xx: what keeps a text from being one YAML document, and what files of the project must look like."""

from __future__ import annotations

from evo.base.codes.code import DOCUMENT, Code

SYNTAX = {
    "EVO100": Code(
        "Not YAML",
        "The text breaks a rule of YAML, often a missing bracket, quote or colon shortly before the place shown.",
        DOCUMENT.replace("heads: 2}", "heads: 2"),
        DOCUMENT,
    ),
    "EVO101": Code(
        "A key stands twice",
        "A mapping holds each key once. Which of the two was meant cannot be known, so neither is preferred.",
        DOCUMENT.replace("  width: 64\n", "  width: 64\n  width: 128\n"),
        DOCUMENT,
    ),
    "EVO102": Code(
        "A tab indents a line",
        "YAML is indented with spaces; how wide a tab is nobody can say.",
        DOCUMENT.replace("  width", "\twidth"),
        DOCUMENT,
    ),
    "EVO103": Code(
        "Too many values",
        "Aliases may repeat a value, but a document that contains itself, or that expands to more than some ten "
        "thousand values, is refused.",
        DOCUMENT.replace("mix: {kind", "mix: &again {parallel: [*again, *again], kind"),
        DOCUMENT.replace(
            "mix: {kind: attention, heads: 2}", "mix: {parallel: [&again {kind: attention, heads: 2}, *again]}"
        ),
    ),
    "EVO104": Code(
        "Nested too deeply",
        "No document of the language needs more than a dozen levels; one with more than forty was made by accident.",
        "evo: 1\norganism: " + "[" * 50 + "]" * 50 + "\n",
        DOCUMENT,
    ),
    "EVO105": Code(
        "A second document in one file",
        "One file holds one document. `---` begins another.",
        DOCUMENT + "---\n" + DOCUMENT,
        "---\n" + DOCUMENT,
    ),
    "EVO106": Code(
        "A tag",
        "`!name` and `!!name` ask a YAML reader for another type. The language has no tags; write the value plainly.",
        DOCUMENT.replace("64", "!!int 64"),
        DOCUMENT,
    ),
    "EVO107": Code(
        "Nothing there",
        "The file is empty or holds comments only. The shortest document names its version, a width and one stage.",
        "# to be written\n",
        DOCUMENT,
    ),
    "EVO108": Code(
        "A key that is not text",
        "Keys are names. A list or a mapping, or an alias, cannot be one.",
        DOCUMENT + "? [train]\n: {steps: 10}\n",
        DOCUMENT + "train: {steps: 10}\n",
    ),
    "EVO109": Code(
        "A character that YAML forbids",
        "Control characters, and halves of surrogate pairs, cannot stand in YAML text; most come from a damaged file.",
        DOCUMENT + "name: a\x07b\n",
        DOCUMENT + "name: ab\n",
    ),
    "EVO110": Code(
        "A comment would be lost",
        "The canonical form keeps the comments at the top of a file and has no place for others. `evo fmt` leaves "
        "such a file alone, unless --force tells it to drop them.",
        "evo fmt examples/commented.yaml",
        "evo fmt --force examples/commented.yaml",
        "command",
    ),
    "EVO111": Code(
        "A generated file is stale",
        "The files in `dsl_schemas/` and `docs/language.md` are made from the spec classes; this one differs from what "
        "they say now.",
        "evo schema --check",
        "evo schema",
        "command",
    ),
    "EVO112": Code(
        "An override that is not KEY=VALUE",
        "`--set` takes a path of keys, names of stages and indices of lists, then `=`, then a value as the document "
        "would have it. `null` stands for nothing.",
        "evo train examples/first.yaml --set train.steps",
        "evo train examples/first.yaml --set train.steps=200",
        "command",
    ),
    "EVO113": Code(
        "An override that leads nowhere",
        "The path of `--set` goes into a value with nothing inside it, or names an entry that a list does not have.",
        "evo train examples/first.yaml --set organism.stages.head.repeat=2",
        "evo train examples/first.yaml --set organism.stages.body.repeat=2",
        "command",
    ),
    "EVO114": Code(
        "A document that cannot be extended",
        "`extends` names another document, by a path that starts beside this one. It must be there, and no document "
        "may extend itself, also not in a roundabout way.",
        "extends: base.yaml\norganism: {width: 128}\n",
        DOCUMENT,
    ),
    "EVO115": Code(
        "No entry of that name to change",
        "Where a list of named entries is changed, such as the stages of a document that is extended, a mapping says "
        "by name what changes. A list in its place replaces all of them.",
        """\
evo: 1
define:
  trunk:
    - {name: body, mix: {kind: attention, heads: 2}}
organism:
  width: 64
  stages: {use: trunk, bodi: {repeat: 2}}
""",
        """\
evo: 1
define:
  trunk:
    - {name: body, mix: {kind: attention, heads: 2}}
organism:
  width: 64
  stages: {use: trunk, body: {repeat: 2}}
""",
    ),
    "EVO116": Code(
        "A use of what is not defined",
        "`{use: NAME}` stands for what the table `define` has under that name, with changes beside it if that is a "
        "mapping. A definition cannot stand for itself.",
        DOCUMENT.replace("{kind: attention, heads: 2}", "{use: near}"),
        "define:\n  near: {kind: attention, heads: 2}\n"
        + DOCUMENT.replace("{kind: attention, heads: 2}", "{use: near}"),
    ),
    "EVO117": Code(
        "A definition that nothing uses",
        "What stands under `define` does nothing until `{use: NAME}` names it.",
        "define:\n  near: {kind: attention, heads: 2}\n" + DOCUMENT,
        "define:\n  near: {kind: attention, heads: 2}\n"
        + DOCUMENT.replace("{kind: attention, heads: 2}", "{use: near}"),
    ),
}
