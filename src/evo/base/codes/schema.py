"""2xx: keys, types, ranges and kinds."""

from __future__ import annotations

from evo.base.codes.code import DOCUMENT, Code, broken

SCHEMA = {
    "EVO200": Code(
        "Unknown key",
        "The language is strict: a key it does not know is an error, since a setting that nobody reads is a model "
        "other than the one meant.",
        DOCUMENT.replace("heads: 2", "heads: 2, kvheads: 1"),
        DOCUMENT.replace("heads: 2", "heads: 2, kv_heads: 1"),
    ),
    "EVO201": Code(
        "A key is missing",
        "Almost everything has a default; this has none that would be right.",
        *broken("  width: 64\n", ""),
    ),
    "EVO202": Code(
        "A value of the wrong type",
        "Types are not converted: '64' in quotes is text, true is no number, and 1.0 is not a whole one.",
        *broken("64", "'64'"),
    ),
    "EVO203": Code(
        "A value out of range",
        "The number is too small, too large or not finite, the list too short or too long, or the text is not a name.",
        *broken("64", "0"),
    ),
    "EVO204": Code(
        "Not one of the choices",
        "The field takes one of a few words.",
        DOCUMENT.replace("heads: 2", "heads: 2, qk_norm: layer"),
        DOCUMENT.replace("heads: 2", "heads: 2, qk_norm: rms"),
    ),
    "EVO210": Code(
        "Unknown kind",
        "`kind` chooses the block, norm, position encoding, optimizer and so on. Names of published models are not "
        "kinds: they are documents in `examples/`.",
        *broken("kind: attention", "kind: atention"),
    ),
    "EVO211": Code(
        "A kind is missing",
        "A mapping here must say what it is, by `kind` or, for composites, by its one key such as `parallel`.",
        *broken("{kind: attention, heads: 2}", "{heads: 2}"),
    ),
    "EVO212": Code(
        "An installed package's kind cannot be used",
        "Packages bring kinds by entry points in the group `evo.kinds`, named `role.kind`. One that names no role or a "
        "kind that is there already, or does not lead to a class of that `kind`, is never passed over in silence.",
        source="command",
    ),
    "EVO220": Code(
        "Another language version",
        "The document was written for a newer evo, or for none. Upgrade evo to read it.",
        *broken("evo: 1", "evo: 99"),
    ),
}
