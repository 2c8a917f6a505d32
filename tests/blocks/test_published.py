"""Architectures as their papers have them, written by who only knows the language: each decodes as it trains."""

from __future__ import annotations

import pytest
import torch
import yaml
from block_variants import document, plan
from published_mixtures import MIXTURES
from published_stages import MORE

from evo.compiler.build import build
from evo.compiler.check import problems
from evo.compiler.organism import Organism

STAGES: dict[str, str] = {
    **MORE,
    **MIXTURES,
    "Primer (2109.08668): taps behind q, k and v, squared relu": """
        - {name: body, repeat: 2, mix: {kind: attention, heads: 2, taps: {size: 3}}, ffn: {kind: dense, act: relu2}}
    """,
    "Canon layers A, B and C (Allen-Zhu 2025)": """
        - name: body
          repeat: 2
          mix:
            chain:
              - {kind: convolution, maps: false, residual: true}
              - {kind: attention, heads: 2, taps: {size: 4, residual: true}}
          ffn: {kind: none}
        - name: top
          layers:
            sublayers:
              - block: {chain: [{kind: convolution, maps: false, residual: true}, {kind: gated}]}
                norm: {in: {kind: rms}}
    """,
    "ResFormer (2410.17897): first values in all layers": """
        - {name: first, mix: {kind: attention, heads: 2, values_to: first}}
        - {name: body, repeat: 2, mix: {kind: attention, heads: 2, values_from: first}}
    """,
    "Forgetting Transformer (2503.02130)": """
        - {name: body, repeat: 2, mix: {kind: attention, heads: 2, forget: true, position: {kind: none}, qk_norm: rms}}
    """,
    "FoX Pro (2503.02130), and KV shifting (2411.19574)": """
        - name: body
          repeat: 2
          mix:
            kind: attention
            heads: 2
            forget: true
            position: {kind: none}
            qk_norm: {kind: rms, gain: heads}
            inner_norm: {kind: rms, gain: heads}
            gate: channel
            taps: {by: token, size: 2, "on": [k, v]}
        - {name: shift, mix: {kind: attention, heads: 2, taps: {by: head, size: 2, "on": [k, v]}}}
    """,
    "softpick, sigmoid and stick-breaking attention (2504.20966, 2409.04431, 2410.17980)": """
        - {name: body, repeat: 2, mix: {kind: attention, heads: 2, weigh: softpick}}
        - {name: sticks, mix: {kind: attention, heads: 2, weigh: stick_breaking}, position: {kind: none}}
        - {name: top, repeat: 2, mix: {kind: attention, heads: 2, weigh: sigmoid}}
    """,
    "softmax1, rectified and sparse attention (Miller 2023, 2309.08586, 1602.02068, 1909.00015)": """
        - {name: body, repeat: 2, mix: {kind: attention, heads: 2, weigh: softmax1}}
        - {name: rectified, repeat: 2, mix: {kind: attention, heads: 2, weigh: relu2, inner_norm: {kind: rms}}}
        - name: top
          repeat: 2
          mix: [{kind: attention, heads: 2, weigh: sparsemax}, {kind: attention, heads: 2, weigh: entmax}]
    """,
    "DyT, Derf and ScaleNorm: without norms (2503.10622, 2512.10938, 1910.05895)": """
        - {name: body, repeat: 2, mix: {kind: attention, heads: 2}, norm: {kind: squashed}}
        - {name: erf, mix: {kind: attention, heads: 2}, norm: {kind: squashed, by: erf, shift: true}}
        - {name: scaled, mix: {kind: attention, heads: 2}, norm: {kind: l2, gain: one}}
    """,
    "GTrXL (1910.06764) and highways": """
        - {name: body, repeat: 2, streams: {kind: gated}, mix: {kind: attention, heads: 2, position: {kind: xl}}}
        - {name: high, streams: {kind: gated, form: highway}, mix: {kind: attention, heads: 2}, ffn: {kind: dense}}
    """,
    "talking heads (2003.02436) and multi-token attention (2504.00927)": """
        - {name: body, repeat: 2, mix: {kind: attention, heads: 2, mix_scores: {before: 2, after: 2}}}
        - name: many
          mix: {kind: attention, heads: 2, mix_scores: {queries: 6, keys: 11, after: 2}, inner_norm: {kind: rms}}
    """,
    "scalable softmax (2501.19399) and rectified routing (ReMoE, 2412.14711)": """
        - name: body
          repeat: 2
          mix: {kind: attention, heads: 2, temperature: {form: log, slope: 0.43, period: 1}}
          ffn: {kind: experts, count: 4, top: 4, router: {score: relu, renormalise: false}}
    """,
    "product-key memory (1907.05242), PEER (2407.04153) and Memory+ (2412.09764)": """
        - name: body
          repeat: 3
          mix: {kind: attention, heads: 2}
          ffn:
            - {kind: product_keys, keys: 6, heads: 2, top: 3, dim: 8, q_norm: {kind: layer}}
            - {kind: product_keys, keys: 6, heads: 2, top: 3, dim: 8, of: neurons}
            - {kind: product_keys, keys: 6, heads: 2, top: 3, dim: 8, gate: true}
    """,
    "gMLP (2105.08050), random synthesizers (2005.00743) and learned Toeplitz matrices": """
        - {name: body, repeat: 2, mix: {kind: spatial, inner: 24, norm: {kind: layer}}, ffn: {kind: none}}
        - {name: mixed, mix: {kind: spatial, heads: 2, weigh: softmax, act: identity, gate: false}}
        - {name: toeplitz, mix: {kind: spatial, heads: 2, by: distance, act: silu, gate_act: silu}}
    """,
    "PolyNorm, PolyReLU (2411.03884) and rational activations (2409.10594)": """
        - name: body
          repeat: 3
          mix: {kind: attention, heads: 2}
          ffn:
            - {kind: dense, act: {kind: polynomial}}
            - {kind: dense, act: {kind: polynomial, of: relu}}
            - {kind: dense, act: {kind: rational}}
    """,
    "DeltaProduct (2502.10297)": """
        - {name: body, repeat: 2, mix: {kind: recurrence, heads: 2, writes: 2, beta_range: 2.0}}
    """,
    "HGRN2 (2404.07904)": """
        - name: body
          repeat: 2
          mix:
            kind: recurrence
            heads: 2
            update: outer
            keys: decay
            decay: {kind: channel, narrow: false, temperature: 1.0}
            feature: identity
            conv: 0
            act: silu
            gate: none
            normalizer: {kind: rms, groups: 1}
    """,
    "Based (2402.18668): Taylor features and small windows": """
        - name: body
          repeat: 3
          mix:
            - {kind: convolution, size: 3}
            - kind: recurrence
              heads: 2
              key_dim: 3
              update: outer
              decay: none
              feature: taylor
              normalizer: sum
              conv: 0
              gate: none
            - {kind: attention, heads: 2, stencil: {kind: window, size: 4}}
    """,
    "Gemma 3n's vectors of tokens in each layer": """
        - name: body
          repeat: 2
          layers:
            sublayers:
              - {block: {kind: attention, heads: 2}, norm: {in: {kind: rms}, out: {kind: rms}}}
              - {block: {kind: gated}, norm: {in: {kind: rms}, out: {kind: rms}}}
              - {block: {kind: token_table, channels: 8, embedded: {kind: rms}}, norm: {out: {kind: rms}}}
    """,
    "nGPT (2410.01131): steps on a sphere": """
        - name: body
          repeat: 2
          layers:
            sublayers:
              - block: {kind: attention, heads: 2, qk_norm: {kind: l2, gain: heads}, scale: 2.8}
                norm: {out: {kind: l2}, after: {kind: l2}}
                gain: {kind: learned, per: channel, init: 0.05}
                skip: {kind: rest}
              - block: {kind: gated}
                norm: {out: {kind: l2}, after: {kind: l2}}
                gain: {kind: learned, per: channel, init: 0.05}
                skip: {kind: rest}
    """,
    "Samba (2406.07522): scans and windows in turn": """
        - name: body
          repeat: 2
          mix: [{kind: selective_scan, state: 4}, {kind: attention, heads: 2, stencil: {kind: window, size: 5}}]
    """,
    "YOCO (2405.05254): one cache for the upper half": """
        - name: self
          repeat: 2
          mix: {kind: recurrence, heads: 2, update: outer, decay: {kind: token, form: logsigmoid}, feature: identity}
        - {name: cache, mix: {kind: attention, heads: 2, kv_to: global}}
        - {name: cross, repeat: 2, mix: {kind: attention, heads: 2, kv_from: global}}
    """,
    "Hymba (2411.13676): meta tokens, attention and a scan side by side": """
        - name: body
          kind: memory_tokens
          every: null
          count: 3
          of:
            name: heads
            repeat: 2
            mix:
              parallel:
                - {kind: attention, heads: 2, stencil: {kind: window, size: 5, sinks: 3}}
                - {kind: selective_scan, state: 4}
    """,
    "SWAN-GPT (2504.08719): windows with rope, then all without": """
        - name: body
          repeat: 4
          mix:
            - {kind: attention, heads: 2, position: {kind: none}, temperature: {period: 8}}
            - {kind: attention, heads: 2, stencil: {kind: window, size: 4}}
    """,
}
"""Stages by title, with tiny sizes."""


def organism(title: str) -> Organism:
    """The organism of some stages in float64, every weight drawn."""
    found = build(plan(yaml.safe_load(STAGES[title])), 0).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return found


@pytest.mark.parametrize("title", STAGES)
def test_a_published_architecture_decodes_as_it_trains(title: str):
    """It is valid without a warning; token by token it gives what it gives at once; every weight learns."""
    assert not list(problems(document(yaml.safe_load(STAGES[title]))))
    model = organism(title)
    x = torch.randint(0, 256, (2, 12), generator=torch.Generator().manual_seed(2))
    whole, state, pieces = model(x), model.initial_state(), []
    for chunk in x.split([5, *[1] * 7], dim=1):
        logits, state = model.extend(chunk, state)
        pieces.append(logits)
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, rtol=1e-9, atol=1e-9)
    whole.square().sum().backward()
    weights = dict(model.named_parameters())
    learned = {name for name, weight in weights.items() if weight.grad is not None and weight.grad.any()}
    assert learned == set(model.plan.trained)
