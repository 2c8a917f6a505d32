"""`evo explain CFG`: what a document builds. Also what a code, a kind or a field of the language means."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Annotated

import typer

from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.cli import view
from evo.cli.caches import Cache, Heavy, Kept, Window, cache_policy, warn_tipped
from evo.cli.documents import Json, Overrides, read_valid

DEVICE_KINDS = ("cpu", "cuda", "mps")
WORDS = re.compile(r"(?!.*\.ya?ml$)[A-Za-z_]\w*(\.\w+)*")
"""What may name a part of the language, and no file of a document."""


def command(
    context: typer.Context,
    subject: Annotated[
        str,
        typer.Argument(
            metavar="CFG|NAME", help="A document; a code (EVO210), or codes; a part of the language (attention.heads)."
        ),
    ],
    kernels: Annotated[
        bool, typer.Option("--kernels", help="Show which kernels each layer trains on, and why.")
    ] = False,
    overrides: Overrides = None,
    cache: Cache = Kept.full,
    window: Window = None,
    heavy: Heavy = None,
    device: Annotated[
        str | None, typer.Option(help="With --kernels: cpu (if left out), cuda or mps; it need not be here.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Show what a document builds, or what a word means.

    Of a document: numbers are those of one layer; FLOPs are those of a forward pass over a full context; bytes are
    those of bf16. `evo explain codes` lists the error codes, `train.optimizer` says what may stand there, `attention`
    which fields it has, `attention.heads` what one of them means, with its type, range and default.
    """
    if device is not None and not kernels:
        raise typer.BadParameter("only --kernels asks for a device", context, param_hint="--device")
    if re.fullmatch(r"EVO\d+", subject, re.IGNORECASE) and not Path(subject).exists():
        return _explain_code(subject.upper(), as_json)
    if not Path(subject).exists() and WORDS.fullmatch(subject):
        from evo.cli.explain_language import explain_language

        return _list_codes(as_json) if subject == "codes" else explain_language(subject, as_json)
    if kernels:
        return _explain_kernels(Path(subject), device or "cpu", overrides, as_json)
    return _explain_document(Path(subject), overrides, as_json, (cache, window, heavy))


def _explain_document(
    path: Path, overrides: list[str] | None, as_json: bool, kept_as: tuple[Kept, int | None, int | None]
) -> int:
    from evo.blocks.cache.policy import EVERYTHING
    from evo.compiler.resolve import resolve
    from evo.dsl.canonical import content_hash
    from evo.report.explain import to_data

    [loaded] = read_valid(path, overrides=overrides)
    document = loaded.document
    plan, policy = resolve(document.organism), cache_policy(*kept_as)
    warn_tipped(plan, policy)
    kept = {} if policy == EVERYTHING else {policy.label: plan.cache_bytes(plan.context, policy)}
    if as_json:
        head = {"name": document.name, "content_hash": content_hash(document)}
        view.print_json("explain", {**head, **to_data(plan), **({"kept_bytes": kept} if kept else {})})
        return 0
    view.say(f"{document.name or path.stem}: width {plan.width}, vocab {plan.vocab}, context {plan.context}")
    view.say(f"content hash {content_hash(document)}\n")
    _print_layers(plan)
    for label, count in kept.items():
        view.say(f"kept with {label} after a full context: {count:,} bytes")
    return 0


def _explain_kernels(path: Path, device: str, overrides: list[str] | None, as_json: bool) -> int:
    from dataclasses import asdict

    from evo.compiler.kernels import dtypes_on, kernel_choices
    from evo.compiler.resolve import resolve

    [loaded] = read_valid(path, overrides=overrides)
    document, train = loaded.document, loaded.document.train
    kind = _device_kind(device)
    choices = kernel_choices(
        resolve(document.organism),
        device=kind,
        dtype={"auto": dtypes_on(kind)[0], "bf16": "bfloat16", "fp32": "float32"}[train.precision],
        batch=train.batch,
        tokens=document.context,
    )
    if as_json:
        view.print_json("explain kernels", {"device": device, "layers": [asdict(choice) for choice in choices]})
        return 0
    rows = [["layer", "kernels", "backend", "passed over"]]
    for choice in choices:
        passed = "; ".join(f"{name}: {', '.join(why)}" for name, why in choice.rejected.items())
        rows.append([choice.layer, choice.family, choice.backend, passed or "-"])
    view.say(view.table(rows, left=4))
    return 0


def _device_kind(device: str) -> str:
    kind = device.partition(":")[0]
    if kind not in DEVICE_KINDS:
        help = f"known: {', '.join(DEVICE_KINDS)}; it need not be here"
        raise DiagnosticError([Diagnostic("EVO510", f"'{device}' is not a device", None, help)])
    return kind


def _print_layers(plan: object) -> None:
    from evo.compiler.plan import Plan
    from evo.report.costs import LABELS, costs
    from evo.report.explain import rows

    assert isinstance(plan, Plan)
    shown = rows(plan)
    lines = [["layers", "", "block", "parameters", "FLOPs/token", "cache B/token", "state B"]]
    for row in shown:
        numbers = (row.parameters, row.flops_per_token, row.cache_bytes_per_token, row.state_bytes)
        lines.append([row.layers, row.role, row.kind, *map(view.count, numbers)])
    head, *body = view.table(lines, left=3).splitlines()
    view.say(head)
    indent = " " * (max(len(line[0]) for line in lines) + max(len(line[1]) for line in lines) + 4)
    for row, line in zip(shown, body, strict=True):
        view.say(line)
        for details in filter(None, (row.settings, row.weights)):
            view.say(textwrap.fill(details, view.width(), initial_indent=indent, subsequent_indent=indent))
    totals = [[LABELS[key], view.count(value)] for key, value in costs(plan).to_data().items()]
    if plan.is_adapted:
        totals.insert(1, ["trained parameters", view.count(plan.trained_parameters)])
        totals.insert(2, ["weight bytes while training", view.count(plan.weight_bytes)])
    view.say(f"\n{view.table(totals)}")


def _list_codes(as_json: bool) -> int:
    from evo.base.codes import CODES

    if as_json:
        view.print_json("explain", {"codes": {code: entry.title for code, entry in CODES.items()}})
    else:
        view.say(view.table([(code, entry.title) for code, entry in CODES.items()], left=2))
    return 0


def _explain_code(code: str, as_json: bool) -> int:
    from evo.base.codes import CODES

    if code not in CODES:
        raise DiagnosticError(
            [Diagnostic("EVO005", f"there is no code {code}", None, "`evo explain codes` lists them")]
        )
    entry = CODES[code]
    if as_json:
        view.print_json("explain", {"code": code, **entry.to_data()})
        return 0
    view.say(f"{code}: {entry.title}\n\n{textwrap.fill(entry.explanation, view.width())}")
    for title, text in (("Wrong", entry.wrong), ("Fixed", entry.fixed)):
        if text:
            body = "\n".join(f"    {line}".rstrip() for line in text.splitlines())
            view.say(f"\n{title}:\n\n{body}")
    return 0
