"""Published architectures that need nothing but what others asked for: stages of the language alone."""

MORE: dict[str, str] = {
    "SpaceByte (2404.14408): global blocks where words begin": """
        - {name: local, mix: {kind: attention, heads: 2, stencil: {kind: window, size: 6}}}
        - name: global
          kind: depths
          patcher: {kind: space}
          share: 0.3
          of: {name: body, repeat: 2, mix: {kind: attention, heads: 2}}
        - {name: last, mix: {kind: attention, heads: 2, stencil: {kind: window, size: 6}}}
    """,
    "YOCO (2405.05254): one cache of keys and values for the upper half": """
        - {name: self, repeat: 2, mix: {kind: attention, heads: 2, stencil: {kind: window, size: 5}}}
        - {name: first, mix: {kind: attention, heads: 2, kv_to: shared}}
        - {name: cross, repeat: 2, mix: {kind: attention, heads: 2, kv_from: shared}}
    """,
    "CLA and MLKV (2405.12981, 2406.09297): neighbours share keys and values": """
        - name: body
          repeat: 4
          mix:
            - {kind: attention, heads: 2, kv_heads: 1, kv_to: kv}
            - {kind: attention, heads: 2, kv_heads: 1, kv_from: kv}
    """,
    "Macaron (1906.02762): half a feed-forward on either side": """
        - name: body
          repeat: 2
          layers:
            sublayers:
              - {block: {kind: dense, act: relu}, norm: {in: {kind: layer}}, gain: 0.5}
              - {block: {kind: attention, heads: 2}, norm: {in: {kind: layer}}}
              - {block: {kind: dense, act: relu}, norm: {in: {kind: layer}}, gain: 0.5}
          norm_end: {kind: layer}
    """,
    "sandwich transformer (1911.03864): attention below, feed-forwards above": """
        - {name: low, repeat: 2, mix: {kind: attention, heads: 2}, ffn: {kind: none}}
        - {name: middle, mix: {kind: attention, heads: 2}, ffn: {kind: dense}}
        - {name: high, repeat: 2, layers: {sublayers: [{block: {kind: dense}, norm: {in: {kind: rms}}}]}}
    """,
    "DenseFormer (2402.02622): each block reads a weighed sum of all before it": """
        - {name: b1, mix: {kind: attention, heads: 2}}
        - {name: b2, from: [embedding, b1], mix: {kind: attention, heads: 2}}
        - {name: b3, from: [embedding, b1, b2], mix: {kind: attention, heads: 2}}
    """,
    "relaxed recursive transformers (2410.20672): shared blocks, low-rank maps of each use": """
        - name: first
          kind: adapted
          adapters: {kind: lora, rank: 2}
          of: {name: block, mix: {kind: attention, heads: 2}}
        - {name: second, weights_of: first, adapters: {kind: lora, rank: 2}}
    """,
    "Arctic (Snowflake 2024): experts beside a dense feed-forward": """
        - name: body
          repeat: 2
          layers:
            sublayers:
              - {block: {kind: attention, heads: 2}, norm: {in: {kind: rms}}}
              - parallel:
                  - {block: {kind: gated}, norm: {in: {kind: rms}}}
                  - {block: {kind: experts, count: 4, top: 2}, norm: {in: {kind: rms}}}
    """,
    "NormFormer (2110.09456): gains of heads, norms behind attention, inside the feed-forward": """
        - name: body
          repeat: 2
          layers:
            sublayers:
              - block: {kind: attention, heads: 2, head_gain: true}
                norm: {in: {kind: layer}, out: {kind: layer}}
              - {block: {kind: dense, inner_norm: {kind: layer}}, norm: {in: {kind: layer}}}
    """,
    "gated attention units (2202.10447): one gated head in place of both sublayers": """
        - name: body
          repeat: 2
          mix: {kind: attention, heads: 1, head_dim: 8, value_dim: 24, weigh: relu2, gate: channel, gate_act: silu}
          ffn: {kind: none}
    """,
    "Samba (2406.07522) and aMLP (2105.08050): a scan, a window; a tiny attention beside spatial gates": """
        - {name: scan, mix: {kind: selective_scan, state: 4}}
        - {name: near, mix: {kind: attention, heads: 2, stencil: {kind: window, size: 5}}}
        - name: gates
          mix: {parallel: [{kind: spatial, inner: 24, norm: {kind: layer}}, {kind: attention, heads: 1, head_dim: 8}]}
          ffn: {kind: none}
    """,
}
