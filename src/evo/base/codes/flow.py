"""35x: documents whose tokens cannot flow so: routes, latent stages, loops, patches, memory tokens."""

from __future__ import annotations

from evo.base.codes.code import Code


def _stages(*lines: str) -> str:
    return "evo: 1\norganism:\n  width: 64\n  stages:\n" + "".join(f"    - {line}\n" for line in lines)


_NEAR = "{kind: attention, heads: 2}"


def _ahead(tokens: int) -> str:
    stages = _stages(f"{{name: body, mix: {_NEAR}}}")
    return f"{stages}  context: 8\n  ahead: {{kind: sequential, tokens: {tokens}}}\n"


FLOW = {
    "EVO350": Code(
        "Tokens that cannot be routed so",
        "A token is sent to no more mixers than there are. Each sees only the tokens that it is sent: it is causal, "
        "shares nothing with blocks outside, and is no route itself.",
        _stages(f"{{name: body, mix: {{route: [{_NEAR}, {{kind: convolution}}], top_k: 3}}}}"),
        _stages(f"{{name: body, mix: {{route: [{_NEAR}, {{kind: convolution}}], top_k: 2}}}}"),
    ),
    "EVO351": Code(
        "A code that cannot be told so",
        "A latent stage tells no more bits than its code has, free ones included, and its encoder is not there while "
        "decoding; what is added to keys and values needs a mixer that has some.",
        _stages(
            "{name: a, mix: " + _NEAR + "}",
            "{name: code, kind: latent, heads: 2, bits: 2, free_bits: 2.5}",
            "{name: b, from: a, kv_add: code, mix: " + _NEAR + "}",
        ),
        _stages(
            "{name: a, mix: " + _NEAR + "}",
            "{name: code, kind: latent, heads: 2, bits: 2, free_bits: 0.5}",
            "{name: b, from: a, kv_add: code, mix: " + _NEAR + "}",
        ),
    ),
    "EVO352": Code(
        "A loop that cannot run so",
        "A stage in a loop reads what the loop hands it. What that reads enters at the start or at every turn, and "
        "what would change nothing is said.",
        _stages(f"{{name: think, kind: loop, inject: none, start: zeros, of: {{name: body, mix: {_NEAR}}}}}"),
        _stages(f"{{name: think, kind: loop, inject: add, start: zeros, of: {{name: body, mix: {_NEAR}}}}}"),
    ),
    "EVO353": Code(
        "Tokens that cannot pass so",
        "A stage that few tokens pass sees nothing but them: it is causal, reads no other stage, shares no keys and "
        "values.",
        _stages(f"{{name: deep, kind: depths, of: {{name: body, from: embedding, mix: {_NEAR}}}}}"),
        _stages(f"{{name: deep, kind: depths, of: {{name: body, mix: {_NEAR}}}}}"),
    ),
    "EVO354": Code(
        "Patches that cannot be",
        "A context holds more than one patch; a stage over patches is causal, reads nothing else, and shares no keys. "
        "So is the model of a patcher. Cross attention reads a stage above that gives tokens vectors.",
        _stages(f"{{name: above, kind: patches, size: 256, width: 64, of: {{name: body, mix: {_NEAR}}}}}"),
        _stages(f"{{name: above, kind: patches, size: 8, width: 64, of: {{name: body, mix: {_NEAR}}}}}"),
    ),
    "EVO355": Code(
        "N-grams that cannot be",
        "Sizes of n-grams are different, and no larger than the context.",
        _stages("{name: grams, kind: ngrams, sizes: [3, 3]}", f"{{name: body, mix: {_NEAR}}}"),
        _stages("{name: grams, kind: ngrams, sizes: [3, 4]}", f"{{name: body, mix: {_NEAR}}}"),
    ),
    "EVO356": Code(
        "Tokens that cannot be predicted so",
        "A token further ahead lies within the context, heads have weights to differ in, and modules one behind "
        "another are layers like the last one.",
        _ahead(8),
        _ahead(2),
    ),
    "EVO357": Code(
        "Streams that cannot be",
        "Sublayers on several residual streams add to them: no norm stands behind a sum, and no skip scales it.",
        _stages(f"{{name: body, mix: {_NEAR}, norm: {{kind: rms, place: post}}, streams: {{kind: hyper}}}}"),
        _stages(f"{{name: body, mix: {_NEAR}, norm: {{kind: rms, place: sandwich}}, streams: {{kind: hyper}}}}"),
    ),
    "EVO358": Code(
        "Memory tokens or segments that cannot be",
        "A context goes on behind its first segment; a stage with memory tokens, or over segments, is causal, reads "
        "nothing else, and shares no keys.",
        _stages(f"{{name: body, kind: memory_tokens, every: 256, of: {{name: inner, mix: {_NEAR}}}}}"),
        _stages(f"{{name: body, kind: memory_tokens, every: 32, of: {{name: inner, mix: {_NEAR}}}}}"),
    ),
    "EVO359": Code(
        "Weights that cannot be another stage's",
        "A stage with the weights of another stands below it, reads as many stages, and hands it nothing but the "
        "stream; its adapters are trained beside maps that are trained too.",
        _stages(f"{{name: body, mix: {_NEAR}}}", "{name: again, weights_of: head}"),
        _stages(f"{{name: body, mix: {_NEAR}}}", "{name: again, weights_of: body}"),
    ),
}
