"""Zero-cost proxies: the settings."""

from typing import ClassVar

from evo.dsl.surrogate import SurrogateSpec


class GradientNormSpec(SurrogateSpec):
    """The norm of the first batch's gradient, before anything is learned (Abdelfattah et al. 2021)."""

    kind: ClassVar[str | None] = "gradient_norm"
    builder: ClassVar[str] = "evo.evolution.surrogates.proxies.surrogate:GradientNorm"


class SynflowSpec(SurrogateSpec):
    """Synaptic flow: what all paths through the network carry together, whatever the data (Tanaka et al. 2020)."""

    kind: ClassVar[str | None] = "synflow"
    builder: ClassVar[str] = "evo.evolution.surrogates.proxies.surrogate:Synflow"
