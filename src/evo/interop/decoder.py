"""What whole decoders have in common: embedding, layers, final norm, readout."""

from __future__ import annotations

from collections.abc import Sequence

from evo.interop.assemble import Layer, Model, stage_of
from evo.interop.config import Config
from evo.interop.parts import Data, Part, Source, Weights, under

Staged = tuple[Data, Data, Weights]
"""A stage, what the organism must say for it, and its weights by path."""


def decoder(
    config: Config,
    layers: Sequence[Layer],
    *,
    final: Part | None,
    position: Data,
    tokens: str = "model.embed_tokens.weight",
    head: str | None = "lm_head.weight",
    width: int | None = None,
    context: int | None = None,
    embedding: Part | None = None,
    readout: Part | None = None,
    tables: Weights | None = None,
    numbers: Sequence[int] | None = None,
    streams: Part | None = None,
    begin: Weights | None = None,
) -> Model:
    """A model of layers in one run.

    final: the norm before the readout. head: the tensor of an untied readout. embedding, readout: their data, and
    further weights below `embedding.` and `readout.`. tables: learned positions, below `embedding.`.
    numbers: of the layers in the checkpoint, where some of its layers are left out. streams: of the residual, and the
    weights of their end. begin: those of their beginning.
    """
    stage, extra, weights = stage_of(layers, numbers=numbers)
    if streams is not None:
        stage["streams"] = streams.data
        weights |= under(f"stages.{stage['name']}.streams_end", streams.weights)
        weights |= under(f"stages.{stage['name']}.streams_begin", begin or {})
    return staged(
        config,
        [(stage, extra, weights)],
        final=final,
        position=position,
        tokens=tokens,
        head=head,
        width=width,
        context=context,
        embedding=embedding,
        readout=readout,
        tables=tables,
    )


def staged(
    config: Config,
    stages: Sequence[Staged],
    *,
    final: Part | None,
    position: Data,
    tokens: str = "model.embed_tokens.weight",
    head: str | None = "lm_head.weight",
    width: int | None = None,
    context: int | None = None,
    embedding: Part | None = None,
    readout: Part | None = None,
    tables: Weights | None = None,
) -> Model:
    """The same of several stages, whose short forms all have one norm."""
    embedding, readout = embedding or Part({}), readout or Part({})
    tied = bool(config.get("tie_word_embeddings", True))
    extra: Data = {}
    weights: Weights = {}
    for _, more, own in stages:
        extra, weights = {**extra, **more}, {**weights, **own}
    stage = stages[0][0]
    norm = dict(extra.get("norm", {}))
    place = {"place": norm.pop("place")} if "place" in norm else {}
    if final is not None and norm != final.data:
        if norm:
            stage["norm"] = {**norm, **place}
        norm, place = dict(final.data), {}
    organism: Data = {
        "width": width or config.hidden_size,
        "vocab": config.vocab_size,
        "context": context or config.max_position_embeddings,
        "position": position,
        **({"embedding": embedding.data} if embedding.data else {}),
        **({"norm": {**norm, **place}} if norm else {}),
        **({"layers": extra["layers"]} if "layers" in extra else {}),
        "stages": [data for data, _, _ in stages],
    }
    ends = {**readout.data, **({} if tied else {"tie": False})}
    if ends:
        organism["readout"] = ends
    weights = {
        "embedding.weight": Source(tokens),
        **under("embedding", {**embedding.weights, **(tables or {})}),
        **weights,
    }
    if final is not None:
        weights |= under("final_norm", final.weights)
    if not tied and head is not None:
        weights["readout.weight"] = Source(head)
    return Model(organism, {**weights, **under("readout", readout.weights)})
