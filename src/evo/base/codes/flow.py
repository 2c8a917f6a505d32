"""35x: documents whose tokens cannot flow so: routes, latent stages, loops, patches."""

from __future__ import annotations

from evo.base.codes.code import Code


def _stages(*lines: str) -> str:
    return "evo: 1\norganism:\n  width: 64\n  stages:\n" + "".join(f"    - {line}\n" for line in lines)


_NEAR = "{kind: attention, heads: 2}"

FLOW = {
    "EVO350": Code(
        "Tokens that cannot be routed so",
        "A token is sent to no more mixers than there are. Each sees only the tokens that it is sent: it is causal, "
        "shares nothing with blocks outside, and is no route itself.",
        _stages(f"{{name: body, mix: {{route: [{_NEAR}, {{kind: convolution}}], top_k: 3}}}}"),
        _stages(f"{{name: body, mix: {{route: [{_NEAR}, {{kind: convolution}}], top_k: 2}}}}"),
    ),
}
