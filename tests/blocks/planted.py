"""A mixer with a fault for the flips to find."""

from typing import ClassVar

from evo.blocks.convolution.spec import ConvolutionSpec


class PlantedSpec(ConvolutionSpec):
    """A convolution with a field that nothing builds."""

    kind: ClassVar[str | None] = "planted"

    ignored: bool = False
    strength: float | None = None
