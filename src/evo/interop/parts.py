"""The pieces that a family is made of: plain data of the language, and beside it where each weight lies.

A `Source` says how one weight is found in a checkpoint. What it does is a view (a slice, a transposition, a reshape),
so that the same source puts the weight back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

Data = dict[str, Any]
View = Callable[[Any], Any]


def whole(tensor: Any) -> Any:
    """All of a tensor."""
    return tensor


def transposed(tensor: Any) -> Any:
    """A matrix that is stored (in, out), as GPT-2's."""
    return tensor.transpose(-1, -2)


@dataclass(frozen=True)
class Source:
    """Where one weight lies: ours = view(theirs) * scale + add, in our shape.

    name: the tensor in the checkpoint, or several that it may be called, `|` between them; `{i}` stands for the layer's
    number. view: the part of it that is meant. plus:
    further tensors that are added, with the part of each; on the way back they are zeros.
    """

    name: str
    view: View = whole
    scale: float = 1.0
    add: float = 0.0
    plus: tuple[tuple[str, View], ...] = ()

    def at(self, prefix: str) -> Source:
        """The same below a prefix."""
        return replace(self, name=prefix + self.name, plus=tuple((prefix + name, view) for name, view in self.plus))


Weights = dict[str, Source]


def under(prefix: str, weights: Mapping[str, Source]) -> Weights:
    """Our names below a prefix."""
    return {f"{prefix}.{name}" if prefix else name: source for name, source in weights.items()}


@dataclass(frozen=True)
class Part:
    """A block or a norm: its data, and its weights by our names below it."""

    data: Data
    weights: Weights = field(default_factory=dict)


def times(weights: Mapping[str, Source], factors: Mapping[str, float]) -> Weights:
    """The same, some of them times a constant that the other model multiplies by as it runs."""
    own = {name: replace(weights[name], scale=weights[name].scale * factor) for name, factor in factors.items()}
    return {**weights, **own}


def rows(start: int, count: int) -> View:
    """Some rows of a tensor."""
    return lambda tensor: tensor[start : start + count]


def split_by_head(heads: int, *sizes: int) -> list[View]:
    """The rows of several maps that lie in one matrix head by head: so many of the first, of the second, ..."""
    ends = [sum(sizes[: index + 1]) for index in range(len(sizes))]
    return [partial(_of_heads, heads, end - size, end) for size, end in zip(sizes, ends, strict=True)]


def _of_heads(heads: int, start: int, end: int, tensor: Any) -> Any:
    return tensor.unflatten(0, (heads, -1))[:, start:end]


def linear(ours: str, theirs: str, view: View = whole, bias: bool = False, scale: float = 1.0) -> Weights:
    """A linear map, and its bias under the names that torch gives both."""
    found = {ours: Source(f"{theirs}.weight", view, scale)}
    if bias:
        found[f"{ours}_bias"] = Source(f"{theirs}.bias", view, scale)
    return found


def gains(theirs: str, bias: bool = False, add: float = 0.0, name: str = "weight") -> Weights:
    """The gains, and perhaps the bias, of a norm."""
    found = {"gain": Source(f"{theirs}.{name}", add=add)}
    if bias:
        found["bias"] = Source(f"{theirs}.bias")
    return found


def rms(theirs: str, eps: float, *, one_plus: bool = False, **data: Any) -> Part:
    """An RMS norm; one_plus: gains are stored less one."""
    own = {} if data.get("gain") is False else gains(theirs, add=float(one_plus))
    return Part({"kind": "rms", "eps": eps, **data}, own)


def layer(theirs: str, eps: float, *, bias: bool = True, one_plus: bool = False, **data: Any) -> Part:
    """A layer norm."""
    own = {} if data.get("gain") is False else gains(theirs, bias, add=float(one_plus))
    return Part({"kind": "layer", "eps": eps, **({} if bias else {"bias": False}), **data}, own)


ACTS: dict[str, Any] = {
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_python": "gelu",
    "quick_gelu": "gelu_quick",
    "swish": "silu",
    "relu2": "relu2",
    "relu": "relu",
    "gelu": "gelu",
    "silu": "silu",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
    "linear": "identity",
    "gelu_accurate": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "leaky_relu": {"kind": "leaky_relu"},
    "gelu_10": {"kind": "pointwise", "of": "gelu_10"},
    "hardswish": {"kind": "pointwise", "of": "hard_swish"},
    "laplace": {"kind": "pointwise", "of": "laplace"},
    "mish": {"kind": "pointwise"},
    "relu6": {"kind": "pointwise", "of": "relu6"},
    "sqrtsoftplus": {"kind": "pointwise", "of": "sqrt_softplus"},
}
"""What activations are called elsewhere, and here."""


def act_of(name: Any) -> Any:
    """What an activation is called here; one that is written out stays as it is."""
    return ACTS.get(name, name) if isinstance(name, str) else name


def ffn(data: Data, weights: Weights) -> Part:
    """A feed-forward, with defaults left out."""
    return Part({key: value for key, value in data.items() if value not in (None, False)}, weights)


def gated(theirs: str, hidden: int, act: Any, *, bias: bool = False, names: tuple[str, ...] = ()) -> Part:
    """down(act(gate x) * up x). names: of gate, up and down."""
    gate, up, down = names or ("gate_proj", "up_proj", "down_proj")
    weights = {
        **linear("gate", f"{theirs}.{gate}", bias=bias),
        **linear("up", f"{theirs}.{up}", bias=bias),
        **linear("down", f"{theirs}.{down}", bias=bias),
    }
    return ffn({"kind": "gated", "hidden": hidden, "act": act_of(act), "bias": bias}, weights)


def gated_fused(theirs: str, hidden: int, act: Any, *, fused: str = "gate_up_proj", down: str = "down_proj") -> Part:
    """The same with gate and up one above the other in one matrix."""
    weights = {
        **linear("gate", f"{theirs}.{fused}", rows(0, hidden)),
        **linear("up", f"{theirs}.{fused}", rows(hidden, hidden)),
        **linear("down", f"{theirs}.{down}"),
    }
    return ffn({"kind": "gated", "hidden": hidden, "act": act_of(act)}, weights)


def dense(theirs: str, hidden: int, act: Any, *, bias: bool = True, up: str = "fc1", down: str = "fc2") -> Part:
    """down(act(up x)). up, down: names, a dot joins them to `theirs`."""
    join = f"{theirs}." if theirs else ""
    weights = {**linear("up", f"{join}{up}", bias=bias), **linear("down", f"{join}{down}", bias=bias)}
    return ffn({"kind": "dense", "hidden": hidden, "act": act_of(act), "bias": bias}, weights)
