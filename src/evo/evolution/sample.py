"""Draws: a new value for a gene, a fresh spec of a role."""

from __future__ import annotations

import math
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import numpy as np
from pydantic.fields import FieldInfo

from evo.dsl.genes import Drawn, Fixed, Gene
from evo.dsl.index import kind_class, kinds
from evo.dsl.spec import Spec, SpecField, spec_fields

SAMPLED_OPTIONS = 0.35
"""How likely a fresh spec leaves the default of a field with choices or a gene."""


def choices(info: FieldInfo) -> list[Any]:
    """The values of a boolean or literal field, and those that a union offers beside others; empty for any other."""
    return _choices(info.annotation)


def _choices(annotation: Any) -> list[Any]:
    if annotation is bool:
        return [False, True]
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    is_union = get_origin(annotation) in (Union, UnionType)
    return [value for member in get_args(annotation) for value in _choices(member)] if is_union else []


def is_integer(info: FieldInfo) -> bool:
    """Whether the field holds an int (or an int and null)."""
    return info.annotation is int or int in get_args(info.annotation)


def draw_number(gene: Gene, info: FieldInfo, rng: np.random.Generator) -> int | float:
    """A value from the gene's range: log-uniform for scales and doublings, uniform otherwise."""
    if gene.step == "x2":
        low, high = math.ceil(math.log2(gene.low)), math.floor(math.log2(gene.high))
        value: float = 2.0 ** int(rng.integers(low, high + 1))
    elif gene.step == "scale" and gene.low > 0:
        value = math.exp(rng.uniform(math.log(gene.low), math.log(gene.high)))
    else:
        value = rng.uniform(gene.low, gene.high)
    return _fit(value, gene, info)


def move_number(value: Any, gene: Gene, info: FieldInfo, scale: float, rng: np.random.Generator) -> Any:
    """A neighbour of a gene's value; steps shrink with `scale` in (0, 1] and never vanish. May be null if optional."""
    if value is None or (value == 0 and gene.step in ("x2", "scale")):  # no factor leads away from zero
        return draw_number(gene, info, rng)
    if gene.optional and rng.random() < 0.15:
        return None
    sign = 1 if rng.random() < 0.5 else -1
    if gene.step == "x2":
        moved = value * 2.0**sign
    elif gene.step == "+1":
        moved = value + sign * max(1, round(abs(rng.normal()) * 2 * scale))
    elif gene.step == "scale":
        moved = value * math.exp(rng.normal() * 0.5 * scale + sign * 0.05)
    else:
        moved = value + (rng.normal() * 0.25 * scale + sign * 0.01) * (gene.high - gene.low)
    fitted = _fit(moved, gene, info, value)
    if fitted == value and is_integer(info):
        fitted = _fit(value + sign * gene.multiple, gene, info, value)  # a step that rounding swallowed
    return fitted


def raise_number(value: float, gene: Gene, info: FieldInfo, scale: float, rng: np.random.Generator) -> int | float:
    """A higher neighbour of a gene's value, or the value itself where it is as high as the gene goes."""
    steps = {"x2": value * 2.0, "+1": value + max(1, round(abs(rng.normal()) * 2 * scale))}
    factor = math.exp(abs(rng.normal()) * 0.5 * scale + 0.05)
    share = abs(rng.normal()) * 0.25 * scale + 0.01
    steps |= {"scale": value * factor, "linear": value + share * (gene.high - gene.low)}
    fitted = _fit(steps[gene.step], gene, info, value)
    if fitted == value and is_integer(info):
        fitted = _fit(value + gene.multiple, gene, info, value)
    return fitted


def _fit(value: float, gene: Gene, info: FieldInfo, before: float | None = None) -> int | float:
    """The value inside the gene's range: rounded to three digits, or to whole multiples for an int."""
    low = gene.low if before is None else min(gene.low, before)
    high = gene.high if before is None else max(gene.high, before)
    value = min(max(value, low), high)
    if is_integer(info):
        return max(gene.multiple, round(value / gene.multiple) * gene.multiple) if gene.multiple > 1 else round(value)
    return float(f"{value:.3g}")


def drawable(role: str) -> list[str]:
    """The kinds of a role that can be drawn: each required field is a gene, a choice, or a spec of another role."""
    fields = {kind: spec_fields(kind_class(role, kind)).values() for kind in kinds(role)}
    return [kind for kind, own in fields.items() if all(can_draw(field, role) for field in own)]


def draw_spec(role: str, rng: np.random.Generator, kind: str | None = None) -> Spec:
    """A fresh spec of a role: a kind, its required fields drawn from their genes, some options left their default."""
    names = drawable(role)
    cls = kind_class(role, kind or names[int(rng.integers(len(names)))])
    return cls.model_validate(draw_fields(cls, rng))


def draw_fields(cls: type[Spec], rng: np.random.Generator) -> dict[str, Any]:
    """Values by field name: of the required fields that can be drawn, and of some that leave their default."""
    drawn = {shape.name: _draw_field(shape, rng) for shape in spec_fields(cls).values()}
    return {name: value for name, value in drawn.items() if value is not None}


def waits(shape: SpecField) -> bool:
    """Whether it is a number that nothing stands for, and that no draw may put there: it moves once it is written."""
    gene = shape.meta(Gene)
    return gene is not None and not gene.optional and not shape.info.is_required() and shape.default is None


def can_draw(shape: SpecField, role: str) -> bool:
    """Whether a spec of a role can be drawn as far as this field goes."""
    if not shape.info.is_required():
        return True
    is_spec = shape.kind is not None and shape.kind.role != role and not shape.many and not shape.table
    return shape.meta(Fixed) is None and (shape.meta(Gene) is not None or bool(choices(shape.info)) or is_spec)


def _draw_field(shape: SpecField, rng: np.random.Generator) -> Any:
    if shape.meta(Fixed) is not None or waits(shape):
        return None
    if not shape.info.is_required() and rng.random() >= SAMPLED_OPTIONS:
        return None
    gene = shape.meta(Gene)
    if gene is not None:
        return draw_number(gene, shape.info, rng)
    if options := choices(shape.info):
        return options[int(rng.integers(len(options)))]
    if shape.kind and not shape.many and (shape.info.is_required() or shape.meta(Drawn) is not None):
        return draw_spec(shape.kind.role, rng)
    return None
