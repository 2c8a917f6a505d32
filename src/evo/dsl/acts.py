"""Words for activations: functions of one value without settings. Whatever has settings is a spec of the role `act`."""

from typing import Annotated, Literal

from evo.dsl.spec import RoleOf, Spec

Word = Literal[
    "relu", "relu2", "gelu", "silu", "gelu_tanh", "gelu_quick", "sigmoid", "tanh", "softplus", "identity"
]  # fmt: skip
Act = Annotated[Word | Spec, RoleOf("act")]
"""relu, relu squared (So et al. 2021), exact gelu, silu, gelu's tanh form (GPT-2) and x sigmoid(1.702 x), sigmoid,
tanh, softplus, or nothing; or a spec."""
