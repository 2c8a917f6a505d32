"""Candidates of a search share the kernels that Triton compiles."""

import pytest

from evo.dsl.document import parse
from evo.kernels.triton_support import is_interpreting

pytest.importorskip("triton", reason="triton is not installed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(is_interpreting(), reason="notes what would be compiled; TRITON_INTERPRET=1 does not"),
]

DOCUMENT = (
    "evo: 1\norganism: {{width: {width}, context: {context}, stages: [{{name: body, repeat: {repeat}, mix: {mix}, "
    "ffn: {ffn}}}]}}\ntrain: {{batch: {batch}, steps: 9}}\n"
)


def asked(**settings):
    """The kernels of all passes of a candidate."""
    from kernels.compilations import Noted, compilations, noting

    noted = Noted()
    with noting(noted):
        compilations(parse(DOCUMENT.format(**settings)).document, noted)
    return set(noted.kernels)


KNOW_SIZES = ("attention.", "convolution.", "recurrence.", "fused.triton_norm.column_sums")
"""Kernels that are compiled for heads, widths or counts: with these at run time they were up to 1.5 times slower
(results/bench/compilations_h200.md)."""


@pytest.mark.parametrize(
    ("mix", "other"),
    [
        ("{kind: attention, heads: 4}", "{kind: attention, heads: 3}"),
        ("{kind: attention, heads: 4, kv_heads: 2}", "{kind: attention, heads: 3, kv_heads: 1}"),
        ("{kind: recurrence, heads: 4}", "{kind: recurrence, heads: 4}"),
        ("{kind: rg_lru, heads: 4}", "{kind: rg_lru, heads: 3}"),
        ("{kind: convolution, size: 4}", "{kind: convolution, size: 4}"),
    ],
)
def test_sizes_share_kernels(mix, other):
    """Heads, width, depth, context, batch and a layer's ratio give no new kernels inside a power of two, but of those
    that know them."""
    known = asked(width=256, context=128, repeat=1, batch=32, mix=mix, ffn="{kind: gated, ratio: 3.0}")
    new = asked(width=192, context=112, repeat=2, batch=48, mix=other, ffn="{kind: gated, ratio: 3.5}") - known
    names = {kernel.name for kernel in known}
    assert any(name.startswith("fused.") for name in names)
    assert not {kernel.name for kernel in new if not kernel.name.startswith(KNOW_SIZES)}


def test_experts_share_kernels():
    """How many experts there are, and how many a token meets, gives no new kernels."""
    sizes = {"width": 256, "context": 128, "repeat": 1, "batch": 32, "mix": "{kind: convolution}"}
    known = asked(**sizes, ffn="{kind: experts, count: 4, top: 2}")
    assert any(kernel.name == "fused.triton_permute.unpermute" for kernel in known)
    assert asked(**sizes, ffn="{kind: experts, count: 6, top: 3}") <= known
