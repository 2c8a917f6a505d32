"""More architectures as their papers have them: what mixes layers, tokens' values, chunks and states."""

MIXTURES: dict[str, str] = {
    "xLSTM's first blocks (2405.04517)": """
        - {name: matrix, mix: {kind: mlstm, heads: 2, cap: null, wide: {}}, ffn: {kind: none}}
        - {name: scalar, mix: {kind: rnn, heads: 2, input: exponential, conv: 4, norm: {kind: layer, groups: 2}}}
    """,
    "gated state spaces (2206.13947)": """
        - name: body
          repeat: 2
          mix:
            chain:
              - product:
                  - chain:
                      - {kind: linear, act: gelu}
                      - {kind: state_space, act: identity, maps: false}
                      - {kind: linear}
                  - {kind: linear}
                act: gelu
                norm: none
              - {kind: linear}
    """,
    "Hedgehog (2402.04347): learned features of both signs": """
        - name: body
          repeat: 2
          mix:
            kind: recurrence
            heads: 2
            update: outer
            decay: none
            feature: signs
            feature_map: true
            conv: 0
            gate: none
            normalizer: sum
    """,
    "power attention (2507.04239) and ReBased (2402.10644): squares of scores, forgotten; of normed q and k": """
        - name: power
          mix: {kind: recurrence, heads: 2, key_dim: 3, update: outer, feature: squares, conv: 0, normalizer: sum}
        - name: rebased
          mix:
            kind: recurrence
            heads: 2
            key_dim: 3
            update: outer
            decay: none
            feature: squares
            qk_norm: {kind: layer, gain: heads}
            conv: 0
            gate: none
            normalizer: sum
    """,
    "Differential Transformer V2 (Ye et al. 2026): second heads taken from first ones": """
        - {name: body, repeat: 2, mix: {kind: attention, heads: 4, kv_heads: 2, subtract: true}}
    """,
    "nanochat (2025): gated values of tokens in every other layer, norms without gains": """
        - name: body
          repeat: 4
          mix:
            - kind: attention
              heads: 2
              qk_norm: {kind: rms, gain: false}
              position: {kind: rope, backwards: true}
              token_values: {gate: head, reads: 6}
            - {kind: attention, heads: 2, qk_norm: {kind: rms, gain: false}, position: {kind: rope, backwards: true}}
          ffn: {kind: dense, act: relu2}
          norm: {kind: rms, gain: false}
    """,
    "modded-nanogpt (2024): a table of values for the first and the last layer, the embedding in all, skips": """
        - name: first
          mix: {kind: attention, heads: 2, token_values: {to: ve}}
          ffn: {kind: dense, act: relu2}
        - {name: middle, from: [first, embedding], mix: {kind: attention, heads: 2}, ffn: {kind: dense, act: relu2}}
        - name: last
          from: [middle, first, embedding]
          mix: {kind: attention, heads: 2, token_values: {from: ve}}
          ffn: {kind: dense, act: relu2}
    """,
    "attention residuals (2603.15031), one by one and in blocks": """
        - {name: full, repeat: 2, mix: {kind: attention, heads: 2}, streams: {kind: attended}}
        - {name: blocks, repeat: 3, mix: {kind: convolution}, streams: {kind: attended, every: 2}}
    """,
    "BitNet b1.58 (2402.17764): maps of -m, 0 and m": """
        - name: ternary
          kind: recast
          of:
            name: body
            repeat: 2
            mix: {kind: attention, heads: 2, inner_norm: {kind: rms, groups: 1}}
            ffn: {kind: gated, act: relu2, inner_norm: {kind: rms}}
    """,
    "nGPT (2410.01131): maps of unit vectors, steps on a sphere, gains of hidden channels": """
        - name: sphere
          kind: recast
          weights: unit
          of:
            name: body
            repeat: 2
            layers:
              sublayers:
                - block: {kind: attention, heads: 2, qk_norm: {kind: l2, gain: heads}, qk_norm_at: position, scale: 2.8}
                  norm: {out: {kind: l2}, after: {kind: l2}}
                  gain: {kind: learned, per: channel, init: 0.05}
                  skip: {kind: rest}
                - block: {kind: gated, gain: 4.0}
                  norm: {out: {kind: l2}, after: {kind: l2}}
                  gain: {kind: learned, per: channel, init: 0.05}
                  skip: {kind: rest}
    """,
    "Music Transformer (1809.04281): vectors of distances by head": """
        - name: body
          repeat: 2
          mix: {kind: attention, heads: 2, position: {kind: relative, furthest: 6, per: head}}
          ffn: {kind: dense, act: relu}
    """,
    "SambaY (2507.06607): gated memories and one cache in the upper half": """
        - name: self
          repeat: 2
          mix: [{kind: selective_scan, state: 2, reading_to: m}, {kind: attention, heads: 2, kv_to: global}]
        - name: cross
          repeat: 2
          mix: [{kind: gated_memory, of: m}, {kind: attention, heads: 2, kv_from: global}]
    """,
    "Canon layers (Allen-Zhu 2025) at all four places": """
        - name: body
          layers:
            sublayers:
              - block:
                  chain:
                    - {kind: convolution, maps: false, residual: true}
                    - {kind: attention, heads: 2, taps: {size: 4, residual: true}}
                norm: {in: {kind: rms}}
              - block:
                  chain:
                    - {kind: convolution, maps: false, residual: true}
                    - {kind: gated, taps: {size: 4}}
                norm: {in: {kind: rms}}
    """,
    "H-Net (2507.07955) of two stages: chunks of chunks": """
        - {name: encoder, mix: {kind: selective_scan, state: 2}, ffn: {kind: none}}
        - name: outer
          kind: chunks
          size: 2.0
          width: 24
          of:
            name: inner
            kind: chunks
            size: 2.0
            width: 32
            of: {name: main, mix: {kind: attention, heads: 2}}
        - {name: decoder, mix: {kind: selective_scan, state: 2}, ffn: {kind: none}}
    """,
    "dynamic and lightweight convolutions (1901.10430)": """
        - name: body
          repeat: 2
          mix:
            - {kind: dynamic_convolution, heads: 4, size: 3}
            - {kind: dynamic_convolution, heads: 4, size: 5, by: learned}
          ffn: {kind: dense, act: relu}
    """,
    "FLASH's unit (2202.10447), and Mega (2209.10655) in chunks": """
        - {name: flash, mix: {kind: gated_attention, dim: 8, position: {kind: rope}, scale: 1.0}, ffn: {kind: none}}
        - name: mega
          norm: {kind: layer, place: post}
          mix:
            kind: gated_attention
            dim: 8
            weigh: softmax
            averages: 4
            steps: true
            stencil: {kind: block, size: 4}
            position: {kind: rope}
          ffn: {kind: dense, act: silu}
    """,
    "layer-integrated memory (2502.09245): keys and values of all layers before": """
        - name: body
          repeat: 3
          mix:
            - {kind: attention, heads: 2, mix_layers: {to: a}}
            - {kind: attention, heads: 2, mix_layers: {to: b, of: a}}
            - {kind: attention, heads: 2, mix_layers: {of: [a, b]}}
    """,
    "Performer (2009.14794), and cosFormer (2202.08791)": """
        - name: performer
          mix: {kind: recurrence, heads: 2, update: outer, decay: none, feature: drawn, conv: 0, normalizer: sum}
        - name: cosformer
          mix: {kind: recurrence, heads: 2, update: outer, decay: none, feature: cosines, conv: 0, normalizer: sum}
    """,
    "the Attention Free Transformer (2105.14103): local, full, of distances, and simple": """
        - name: body
          repeat: 4
          mix:
            - {kind: spatial, weigh: softmax, keys: true, window: 4, act: identity, gate_act: sigmoid}
            - {kind: spatial, weigh: softmax, keys: true, rank: 4, act: identity, gate_act: sigmoid}
            - {kind: spatial, weigh: softmax, keys: true, by: distance, heads: 2, window: 4, act: identity}
            - {kind: spatial, weigh: softmax, keys: true, by: nothing, act: identity, gate_act: sigmoid}
    """,
    "adaptive attention span (1905.07799): of heads, and of tokens": """
        - name: body
          repeat: 2
          mix:
            - {kind: attention, heads: 2, position: {kind: queried}, span: {soft: 4}}
            - {kind: attention, heads: 2, position: {kind: queried}, span: {soft: 4, by: token}}
          ffn: {kind: dense, act: relu}
    """,
    "Infini-attention (2404.07143), with both updates": """
        - name: body
          repeat: 2
          mix:
            - {kind: compressive, heads: 2, segment: 4, position: {kind: rope}}
            - {kind: compressive, heads: 2, segment: 4, update: delta, position: {kind: rope}}
    """,
    "Transformer-XL (1901.02860): segments that send no gradient back": """
        - kind: segments
          name: xl
          hand: states
          every: 4
          of:
            name: body
            repeat: 2
            norm: {kind: layer, place: post}
            mix: {kind: attention, heads: 2, position: {kind: xl}, stencil: {kind: window, size: 5}}
            ffn: {kind: dense, act: relu}
    """,
    "Mamba-3 (2603.15569) of several inputs and outputs": """
        - name: body
          repeat: 2
          mix:
            kind: recurrence
            heads: 2
            key_heads: 1
            update: outer
            feature: identity
            decay: {kind: token, form: product}
            write: trapezoid
            turns: true
            ranks: 2
            qk_norm: {kind: rms}
            qk_bias: true
            skip: true
            conv: 0
            normalizer: none
            scale: 1.0
    """,
}
