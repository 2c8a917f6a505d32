"""Parts of a recurrence that do not go together."""

from collections.abc import Iterator

from evo.blocks.norm.spec import NormSpec
from evo.blocks.position.turning import turning_problems
from evo.blocks.recurrence.decays import DecaySpec
from evo.blocks.recurrence.fields import POSITIVE, RecurrenceFields
from evo.dsl.spec import Fault, Scope, dividing

WORDS = ("head", "token", "channel")
"""Kinds of decay that a word stands for."""


def faults(spec: RecurrenceFields, scope: Scope) -> Iterator[Fault]:
    free = spec.key_dim is None or spec.value_dim is None
    if free and scope.width % spec.heads:
        message = f"{spec.heads} heads do not divide the width {scope.width}"
        yield Fault("EVO300", ("heads",), message, "change heads or width, or set key_dim and value_dim")
        return
    if spec.update == "delta" and spec.feature != "l2" and spec.integrator == "explicit":
        message = f"the delta rule is stable only with keys of unit length, not with feature {spec.feature}"
        yield Fault("EVO305", ("feature",), message, "write feature: l2, integrator: exact, or update: outer")
    if spec.update == "delta" and spec.bonus:
        yield Fault("EVO305", ("bonus",), "a bonus belongs to update: outer", "write it, or bonus: false")
    if spec.normalizer == "sum" and spec.bonus:
        message = "a bonus may be negative, and normalizer sum divides by a sum that must be positive"
        yield Fault("EVO305", ("bonus",), message, "write normalizer: rms, or leave the bonus out")
    if spec.normalizer == "sum" and (spec.feature not in (*POSITIVE, "fourier") or spec.update != "outer"):
        message = "normalizer sum divides by a sum that is positive only with update outer and a feature such as elu"
        yield Fault("EVO305", ("normalizer",), message, "write normalizer: rms, or feature: elu and update: outer")
    yield from _option_problems(spec, scope)
    yield from turning_problems(spec.position, spec.dims(scope)[0], "a recurrence")


def _option_problems(spec: RecurrenceFields, scope: Scope) -> Iterator[Fault]:
    if spec.heads % spec.groups:
        message = f"{spec.groups} key_heads do not divide {spec.heads} heads"
        yield Fault("EVO301", ("key_heads",), message, dividing(spec.heads))
    if spec.write in ("step", "trapezoid") and (spec.rule is None or not spec.rule.has_step):
        message = "no step sets this decay, so nothing can be written by it"
        yield Fault("EVO305", ("write",), message, "write decay: token, or write: plain")
    elif spec.write in ("step", "share", "trapezoid", "rest") and spec.update == "delta":
        message = "the delta rule writes by a share of its own anyway"
        yield Fault("EVO305", ("write",), message, "write update: outer, or write: plain")
    elif spec.write == "rest" and (spec.rule is None or spec.rule.is_by_channel):
        message = "no head has a decay of its own, whose rest could be written"
        yield Fault("EVO305", ("write",), message, "write decay: token or head, or write: plain")
    yield from _share_problems(spec)
    yield from _read_problems(spec)
    yield from _turn_problems(spec, scope)
    if isinstance(spec.decay, DecaySpec) and spec.decay.label in WORDS and spec.decay == type(spec.decay)():
        message = f"the word {spec.decay.label} says the same"
        yield Fault("EVO330", ("decay",), message, f"write decay: {spec.decay.label}", "warning")
    if spec.act == ("silu" if spec.conv else "none"):
        yield Fault("EVO330", ("act",), f"{spec.act} is what it means to leave it out", "remove it", "warning")
    if isinstance(spec.normalizer, NormSpec):
        yield from spec.normalizer.head_problems(spec.heads, spec.dims(scope)[1], ("normalizer",))
    if spec.normalizer == "sum" and spec.skip:
        yield Fault("EVO305", ("skip",), "a weighted mean has nothing beside it", "write normalizer: rms")

    yield from _key_problems(spec, scope)


def _read_problems(spec: RecurrenceFields) -> Iterator[Fault]:
    """Ways to read a state that do not fit how it is written."""
    is_by_channel = spec.rule is not None and spec.rule.is_by_channel
    both = {"decay": is_by_channel, "bonus": spec.bonus}
    beside_solve = {
        **both,
        "update": spec.update == "delta",
        "write": spec.write in ("channel", "trapezoid"),
        "normalizer": spec.normalizer == "sum",
        "feature": not spec.keeps_channels,
        "levels": spec.levels,
    }
    beside_ranks = {
        "update": spec.update == "delta",
        "normalizer": spec.normalizer != "none",
        "feature": not spec.keeps_channels,
        "keys": spec.keys == "decay",
        **both,
        "solve": spec.solve > 0,
        "levels": spec.levels,
        "feature_map": spec.feature_map,
        "correct": spec.correct,
        "reading_to": spec.reading_to is not None,
    }
    for other in (name for name, is_there in beside_ranks.items() if spec.ranks > 1 and is_there):
        message = f"several keys and queries at once do not go together with this '{other}'"
        yield Fault("EVO305", ("ranks",), message, f"change {other}, or write ranks: 1")
    is_twice = spec.write == "trapezoid"
    beside_levels = {**both, "write": is_twice, "writes": spec.written > 1, "erase": spec.erased == "channel"}
    for name, others in (("solve", beside_solve), ("levels", beside_levels)):
        wrong = [other for other, is_there in others.items() if is_there]
        if getattr(spec, name) and wrong:
            message = f"'{name}' reads sums of whole tokens, which this '{wrong[0]}' does not leave"
            yield Fault("EVO305", (name,), message, f"change {wrong[0]}, or leave {name} out")
    if is_twice and spec.bonus:
        yield Fault("EVO305", ("bonus",), "a token that is written again has no bonus", "write write: step")


def _turn_problems(spec: RecurrenceFields, scope: Scope) -> Iterator[Fault]:
    """What cannot turn by angles of tokens."""
    if not spec.turns:
        return
    if spec.dims(scope)[0] % 2:
        message = f"a key of {spec.dims(scope)[0]} channels is not made of pairs"
        yield Fault("EVO305", ("turns",), message, "write an even key_dim")
    others = {
        "feature": not spec.keeps_channels,
        "normalizer": spec.normalizer == "sum",
        "keys": spec.keys == "decay",
        "writes": spec.written > 1,
        "solve": spec.solve > 0,
    }
    for other in (name for name, is_there in others.items() if is_there):
        message = f"'turns' does not go together with this '{other}', which is not the same however keys stand"
        yield Fault("EVO305", ("turns",), message, f"change {other}, or leave turns out")


def _share_problems(spec: RecurrenceFields) -> Iterator[Fault]:
    """Shares of what is written and taken out that do not fit each other."""
    is_delta, by_channel = spec.update == "delta", "channel" in (spec.write, spec.erased)
    if is_delta and spec.write == "channel" and spec.erased != "channel":
        message = "a key can give up no share of each value channel"
        yield Fault("EVO305", ("write",), message, "write erase: channel as well, or write: plain")
    if is_delta and spec.integrator != "explicit" and spec.erase != "written":
        message = f"an {spec.integrator} step takes out the share that it writes"
        yield Fault("EVO305", ("integrator",), message, "write erase: written, or integrator: explicit")
    if is_delta and by_channel and spec.written > 1:
        field = "erase" if spec.erased == "channel" else "write"
        message = "a token that writes several times has no shares by channel"
        yield Fault("EVO305", (field,), message, "write writes: 1")
    if spec.write == "channel" and spec.normalizer == "sum":
        message = "a sum of weights has no channels of values"
        yield Fault("EVO305", ("write",), message, "write write: share, or normalizer: rms")
    if spec.correct and spec.written > 1:
        yield Fault("EVO305", ("correct",), "a token that writes several times has no one key", "write writes: 1")
    if spec.correct and spec.keys == "decay":
        yield Fault("EVO305", ("correct",), "keys made of a decay correct no query", "write keys: own")


def _key_problems(spec: RecurrenceFields, scope: Scope) -> Iterator[Fault]:
    """Decays, features and keys that do not fit each other."""
    others = {
        "update": spec.update == "delta",
        "normalizer": spec.normalizer == "sum",
        "keys": spec.keys == "decay",
        "solve": spec.solve > 0,
    }
    for other in (name for name, is_there in others.items() if spec.qk_bias and is_there):
        message = f"with this '{other}' keys are not what they are plus a vector"
        yield Fault("EVO305", ("qk_bias",), message, f"change {other}, or leave qk_bias out")
    if isinstance(spec.qk_norm, NormSpec):
        yield from spec.qk_norm.head_problems(spec.groups * spec.ranks, spec.dims(scope)[0], ("qk_norm",))
        if spec.keys == "decay" or spec.written > 1:
            other = "keys" if spec.keys == "decay" else "writes"
            message = f"with this '{other}' a token has no key of each head to normalise"
            yield Fault("EVO305", ("qk_norm",), message, f"change {other}, or leave qk_norm out")
    if spec.feature_map and spec.written > 1:
        message = "a token that writes several times has no key of each head to map"
        yield Fault("EVO305", ("feature_map",), message, "write writes: 1, or leave feature_map out")
    is_by_channel = spec.rule is not None and spec.rule.is_by_channel
    if not spec.keeps_channels and (is_by_channel or spec.bonus):
        field = "bonus" if spec.bonus else "decay"
        yield Fault("EVO305", (field,), f"features {spec.feature} have no channels of keys", "write another feature")
    if spec.keys == "decay" and not is_by_channel:
        message = "keys made of a decay need one of each key channel"
        yield Fault("EVO305", ("keys",), message, "write decay: channel, or keys: own")
    elif spec.keys == "decay" and (spec.update == "delta" or spec.position is not None):
        field = "update" if spec.update == "delta" else "position"
        yield Fault("EVO305", (field,), "keys made of a decay are neither of unit length nor turned", "write keys: own")
    if spec.written > 1 and spec.skip:
        yield Fault("EVO305", ("skip",), "a token that writes several values has none to add", "write skip: false")
