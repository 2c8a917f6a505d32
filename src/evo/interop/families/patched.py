"""Models over patches of bytes: the Byte Latent Transformer."""

from evo.interop.assemble import Layer, Model, Sub, stage_of
from evo.interop.attention import attention, projections, rope
from evo.interop.config import Config, refuse
from evo.interop.parts import Data, Part, Source, Weights, gated, linear, rms, under

ENCODER, DECODER, GLOBAL, PATCHER = (
    f"model.{name}" for name in ("local_encoder", "local_decoder", "global_transformer", "patcher")
)


def blt(c: Config) -> Model:
    """Bytes with hashed n-grams, local layers, a global model over patches, and local layers that read it."""
    encoder, decoder, whole, patcher = (
        c.part(f"{name}_config") for name in ("encoder", "decoder", "global", "patcher")
    )
    _require_known(c, encoder, patcher)
    window, norm = c.get("local_attention_window_len"), rms(f"{DECODER}.norm", decoder.rms_norm_eps)
    first = _Run(encoder, ENCODER, norm.data, window)
    last = _Run(decoder, DECODER, norm.data, window, patches=c.cross_attn_k)
    below, weights = first.stage("encoder")
    small, small_weights = _Run(patcher, PATCHER, norm.data, patcher.get("sliding_window")).stage("bytes")
    large, large_weights = _Run(whole, GLOBAL, norm.data).stage("body")
    above, above_weights = last.stage("decoder")
    named = above.pop("named", None)
    grams: Data = {"name": "grams", "kind": "ngrams", "sizes": c.encoder_hash_byte_group_size}
    grams |= {"rows": c.encoder_hash_byte_group_vocab, "functions": c.encoder_hash_byte_group_nb_functions}
    patched: Data = {"name": "patches", "kind": "dynamic_patches", "size": 1, "skip": 2.0, "slots": c.cross_attn_k}
    patched |= first.heads
    patched["patcher"] = {"kind": "entropy", "width": patcher.hidden_size, "of": small, "loss": 0.0}
    patched["patcher"]["threshold"] = float(c.patching_threshold)
    patched["of"] = large
    if whole.hidden_size != c.cross_attn_k * encoder.hidden_size:
        patched["width"] = whole.hidden_size
    if first.norm("").data != norm.data:
        patched["norm"] = first.norm("").data
    organism: Data = {
        "width": encoder.hidden_size,
        "vocab": c.vocab_size,
        "context": c.max_position_embeddings,
        "norm": norm.data,
        **({"layers": named} if named else {}),
        "stages": [grams, below, patched, {**above, "from": "encoder"}],
        "readout": {"tie": bool(c.get("tie_word_embeddings", False))},
    }
    weights |= {
        "embedding.weight": Source(f"{ENCODER}.embed_tokens.weight"),
        "stages.grams.table": Source("model.encoder_hash_tok_embedding.weight"),
        **above_weights,
        **under("stages.patches", _between(encoder, whole, c.cross_attn_k)),
        **{path.replace("stages.body", "stages.patches.of_body"): source for path, source in large_weights.items()},
        **under("stages.patches.patcher", _patcher()),
        **{
            path.replace("stages.bytes", "stages.patches.patcher.of_bytes"): source
            for path, source in small_weights.items()
        },
        **under("final_norm", norm.weights),
    }
    if not organism["readout"]["tie"]:
        weights["readout.weight"] = Source("lm_head.weight")
    return Model(organism, weights)


def _require_known(c: Config, encoder: Config, patcher: Config) -> None:
    if not c.get("patch_in_forward", True) or c.get("patching_mode", "entropy") != "entropy":
        raise refuse(c, "patches that are cut outside of it")
    if c.get("max_patch_length") is not None:
        raise refuse(c, "a longest patch")
    if {c.vocab_size, encoder.vocab_size, patcher.vocab_size} != {c.vocab_size}:
        raise refuse(c, "parts with other vocabularies")


class _Run:
    """Layers of one part, Llama's with neighbouring pairs that turn.

    usual: the organism's norm. patches: how many vectors of patches each token reads, before some layers.
    """

    def __init__(self, c: Config, at: str, usual: Data, window: int | None = None, patches: int = 0) -> None:
        self.c, self.at, self.usual, self.window, self.patches = c, at, usual, window, patches
        self.heads: Data = {"heads": c.num_attention_heads}
        if c.get("num_key_value_heads", c.num_attention_heads) != c.num_attention_heads:
            self.heads["kv_heads"] = c.num_key_value_heads

    def norm(self, name: str) -> Part:
        """A norm of this part."""
        return rms(f"{self.at}.{name}", self.c.rms_norm_eps)

    def stage(self, name: str) -> tuple[Data, Weights]:
        """The stage, with layers that it names under `named`, and its weights."""
        stage, extra, weights = stage_of([self._layer(i) for i in range(self.c.num_hidden_layers)], name)
        if extra.get("norm", self.usual) != self.usual:
            stage["norm"] = extra["norm"]
        return stage | ({"named": extra["layers"]} if "layers" in extra else {}), weights

    def _layer(self, index: int) -> Layer:
        c, head_dim = self.c, self.c.hidden_size // self.c.num_attention_heads
        mixer = attention(
            c.num_attention_heads,
            kv_heads=c.get("num_key_value_heads"),
            head_dim=head_dim,
            width=c.hidden_size,
            window=self.window,
            weights=projections(f"{self.at}.layers.{{i}}.self_attn"),
            position=rope(c, head_dim, pairs="neighbours"),
        )
        ffn = gated(f"{self.at}.layers.{{i}}.mlp", c.intermediate_size, c.get("hidden_act", "silu"))
        pre, post = (self.norm(f"layers.{{i}}.{name}_layernorm") for name in ("input", "post_attention"))
        layer = [Sub(mixer, pre=pre), Sub(ffn, pre=post)]
        if self.patches and (index == 0 or c.cross_attn_all_layers):
            data: Data = {"kind": "cross_attention", "source": "patches", **self.heads}
            read = Part(data, cross(f"{self.at}.cross_attn_layers.{{i}}", "kv_norm"))
            layer.insert(0, Sub(read, pre=self.norm("cross_attn_layers.{i}.q_norm"), skip=2.0))
        return layer


def cross(theirs: str, norm: str) -> Weights:
    """The maps of a cross attention and the norm of what it reads."""
    return projections(theirs) | {f"{norm}.gain": Source(f"{theirs}.k_norm.weight")}


def _between(encoder: Config, whole: Config, vectors: int) -> Weights:
    """From bytes to patches and back. Of cross attentions in all layers of the encoder only the last one's is read."""
    last = encoder.num_hidden_layers - 1 if encoder.get("cross_attn_all_layers", False) else 0
    at = f"{ENCODER}.cross_attn_layers.{last}"
    found = {
        **cross(at, "kv_norm"),
        "q_norm.gain": Source(f"{at}.q_norm.weight"),
        **linear("pooled", f"{ENCODER}.patch_embedding_projection"),
        **linear("up", f"{DECODER}.patch_embedding_projection"),
    }
    if whole.hidden_size != vectors * encoder.hidden_size:
        found |= linear("down", f"{GLOBAL}.token_embedding_projection")
    return found


def _patcher() -> Weights:
    return {
        "table": Source(f"{PATCHER}.embed_tokens.weight"),
        "readout": Source(f"{PATCHER}.lm_head.weight"),
        "norm.gain": Source(f"{PATCHER}.norm.weight"),
    }
