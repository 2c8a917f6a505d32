"""What is flipped of hosts that share most of what they hold with others."""

FOCUS = {
    "narrow": "mix",
    "conditioned": "mix",
    "lora": "adapters",
    "svf": "adapters",
    "product": "mix",
    "chain": "mix",
    "values, taps": "stages",
    "memory": "mix",
    "biases": "position",
    "tokens": "select",
    "blocks": "select",
    "whole blocks": "select",
    "compressed": "select",
    "pooled": "select",
    "values": "select",
    "means": "select",
    "streams": "streams",
    "spatial": "mix",
    "engram": "mix",
    "factors": "mix",
    "product keys": "ffn",
    "powers": "ffn",
    "mixed ends": "readout",
}
"""Hosts of which only what stands under a key is flipped: the rest is flipped in others."""
