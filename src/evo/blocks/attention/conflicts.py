"""Parts of an attention that do not go together."""

from collections.abc import Iterator, Mapping

from evo.dsl.spec import Fault

NOT_BESIDE: dict[str, tuple[str, tuple[str, ...]]] = {
    "persistent": ("keys of no token have no place that a selection or a distance could tell", ("select", "scores")),
    "taps": ("queries of another's keys and values keep no past that taps could reach", ("kv_from",)),
    "weigh": ("it needs a softmax over its tokens' keys alone", ("select", "persistent", "sink_logit")),
    "values": (
        "keys that are the values are kept once, for its own queries",
        ("persistent", "differ", "v_norm", "kv_to", "values_to", "values_from", "token_values"),
    ),
    "tied": (
        "a key is kept as its value and as what all heads share, for its own queries",
        (
            "taps",
            "select",
            "persistent",
            "qk_norm",
            "v_norm",
            "key_gain",
            "kv_to",
            "values_to",
            "values_from",
            "token_values",
            "selective",
            "bias by keys",
        ),
    ),
    "mix_layers": (
        "heads of several layers meet as they are projected, keys apart from values",
        ("values_of", "factors", "head_maps"),
    ),
    "subtract": (
        "a pair of its own heads, which nothing else tells apart, gives one output",
        ("differ", "head_experts", "head_maps"),
    ),
    "differ_from": (
        "its key heads serve unlike numbers of queries",
        ("gate", "low_rank", "taps", "select", "persistent", "selective", "bias by keys"),
    ),
    "low_rank": ("experts have maps of their own", ("head_experts",)),
    "forget": (
        "gates are those of its own earlier keys, all of them",
        ("select", "persistent", "kv_from", "not causal"),
    ),
    "selective": (
        "what its queries pass over are its own earlier keys, all of them",
        ("select", "persistent", "kv_from", "not causal", "stencil", "mix_scores.queries", "factors"),
    ),
    "span": (
        "it makes a softmax's weights smaller by how far its tokens' keys are from a query",
        ("weigh", "select", "persistent", "mix_scores.queries", "head_experts"),
    ),
    "factors": (
        "keys and values are kept as factors, of which its own heads are made",
        (
            "taps",
            "head_experts",
            "low_rank",
            "differ",
            "qk_norm",
            "v_norm",
            "key_gain",
            "values_of",
            "kv_from",
            "kv_to",
            "values_to",
            "values_from",
            "token_values",
            "persistent",
            "bias by keys",
        ),
    ),
    "head_maps": (
        "each of its own heads has several maps of what is its own",
        ("head_experts", "low_rank", "factors", "differ", "taps", "values_of", "kv_from"),
    ),
    "mix_scores": ("it mixes what all of a head's tokens make of all keys", ("select", "persistent")),
    "mix_scores.queries": (
        "products of neighbours are mixed where each query sees all that is before it, and nothing is added to them",
        ("kv_from", "forget", "stencil", "bias by distance"),
    ),
    "mix_scores.compose": (
        "tokens say sums of the products of one query with one of its own keys",
        ("mix_scores.queries", "kv_from"),
    ),
    "mix_scores.network": (
        "it reads what the position encoding adds to products, and nothing else that is added",
        ("span", "forget", "selective"),
    ),
    "head_experts": (
        "a token's heads are not its neighbour's, and this tells heads apart",
        (
            "gate",
            "sink_logit",
            "differ",
            "forget",
            "select",
            "q taps",
            "head_gain",
            "head_shares",
            "head gains",
            "scores",
            "mix_scores",
            "selective",
        ),
    ),
}
"""Of a field: why it goes with none of some parts, and these."""


FIELDS: dict[str, tuple[str, ...]] = {"tied": ("values",)}
"""Where a part stands whose field has another name."""


def conflicts(has: Mapping[str, bool]) -> Iterator[Fault]:
    """A fault for each two that are there. has: whether an attention has each part."""
    for field, (why, others) in NOT_BESIDE.items():
        for other in others:
            if has[field] and has[other]:
                where = FIELDS.get(field, tuple(field.split(".")))
                message = f"'{where[0]}' does not go together with '{other}': {why}"
                yield Fault("EVO308", where, message, "leave out one of them")
