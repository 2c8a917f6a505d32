"""Short convolutions of queries, keys and values: what each is made of besides its own token."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field

from evo.dsl.genes import FIXED, Gene
from evo.dsl.plan import ZEROS, Init, Weight, linear, taps, vector
from evo.dsl.spec import AsTuple, Fault, Spec

Tapped = Literal["q", "k", "v"]


def wrong_names(names: Sequence[str], known: Collection[str], field: str) -> Iterator[Fault]:
    """Names in a list that no projection has, or that stand in it twice."""
    for index, name in enumerate(names):
        if name not in known or name in names[:index]:
            message = f"there is no projection '{name}' here" if name not in known else f"'{name}' stands above"
            yield Fault("EVO308", (field, index), message, "remove it")


class TapsSpec(Spec):
    """act(conv(p)) of a projection p, causal and each channel by itself (Primer, So et al. 2109.08668); with `mix`,
    act(mix(conv(p))), where a second convolution mixes the channels of a head (CCA, Figliolia et al. 2510.04476)."""

    by: Literal["channel", "head", "token"] = "channel"
    """What has taps of its own: each channel; each head (KV shifting, 2411.19574); or each head of each token, by
    shares: softmax of [0, W x], the own token's logit first (the data-dependent shift of FoX Pro, 2503.02130)."""

    size: Annotated[int, Field(ge=2, le=64), Gene(2, 8, "+1")] = 3
    """Taps: how many tokens each query, key or value is made of, its own included."""
    on: Annotated[tuple[Tapped, ...], AsTuple, Field(min_length=1), FIXED] = ("q", "k", "v")
    """The projections that have one."""
    mix: Annotated[int | None, Field(ge=1, le=64), Gene(1, 4, "+1", optional=True)] = None
    """Taps of the second convolution, each a matrix a head; there is none if left out."""
    bias: Annotated[bool, FIXED] = False
    """Whether each convolution has a bias; what the second one reads before the first token is that of the first."""
    residual: Annotated[bool | Literal["paired"], FIXED] = False
    """Whether the projection itself is added (Inkling, Canon layers). paired: to a query is added its mean with the key
    that it reads, and to a key the mean of what is added to its queries (CCA)."""
    act: Annotated[Literal["none", "silu"], FIXED] = "none"
    """What follows the taps, before what is added."""

    def faults(self, known: Collection[str]) -> Iterator[Fault]:
        """What cannot be. known: the projections that there are."""
        yield from wrong_names(self.on, known, "on")
        if self.residual == "paired" and {"q", "k"} != set(self.on):
            message = "means are those of queries and keys, which both have taps then, and nothing else has"
            yield Fault("EVO308", ("residual",), message, "write on: [q, k], or residual: true")

    def weights(self, sizes: Mapping[str, tuple[int, int]], read: Mapping[str, tuple[int, int]]) -> list[Weight]:
        """Those of each projection. sizes: how many heads it has, and how wide these are. read: projections by name, of
        which the second number is how wide their input is."""
        found: list[Weight] = []
        for name in self.on:
            heads, dim = sizes[name]
            if self.by == "token":
                found.append(linear(f"{name}_shares", (self.size - 1) * heads, read[name][1]))
            else:
                found.append(taps(f"{name}_taps", heads if self.by == "head" else heads * dim, self.size))
            if self.mix is not None:
                shape, draw = (heads, dim, self.mix * dim), Init("normal", (self.mix * dim) ** -0.5)
                found.append(Weight(f"{name}_mix", shape, draw, ("stack", "out", "in"), "matrix"))
            if self.bias:
                kinds = ("taps",) if self.mix is None else ("taps", "mix")
                found += [vector(f"{name}_{kind}_bias", heads * dim, ZEROS) for kind in kinds]
        return found

    def kept(self, sizes: Mapping[str, tuple[int, int]]) -> int:
        """Values that decoding keeps: what each convolution read at all tokens of its taps but one."""
        channels = sum(heads * dim for heads, dim in (sizes[name] for name in self.on))
        return channels * (self.size - 1 + (self.mix or 1) - 1)
