"""What can be imported, and how near it comes: `python tests/interop/table.py [TYPE ...]` prints the table.

With `--write`, it goes to `examples/zoo/README.md`, and the documents of `ZOO` beside it; minutes for all.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).parents[2]


ZOO = {
    "gpt2": "GPT-2 (Radford et al. 2019)",
    "llama": "Llama (Touvron et al. 2023)",
    "mistral": "Mistral (Jiang et al. 2023): a window in every layer",
    "qwen3": "Qwen 3: norms of q and k",
    "qwen3_moe": "Qwen 3 with experts",
    "gemma2": "Gemma 2: sandwich norms, caps, windows in every other layer",
    "gemma3_text": "Gemma 3: five local layers, then a global one",
    "olmo2": "OLMo 2: norms behind branches only, and of all of q and k",
    "gemma3n_text": "Gemma 3n: alternating updates of streams, low-rank maps beside attention, tables of tokens",
    "mixtral": "Mixtral: experts",
    "zamba2": "Zamba2: a shared block beside the embedding, with maps of each use",
    "gpt_oss": "gpt-oss: sinks, clipped experts with biases",
    "deepseek_v3": "DeepSeek-V3: latent attention, experts chosen by groups with a bias",
    "deepseek_v4": "DeepSeek-V4: entries of blocks beside a window, keys that are values, mixed streams",
    "phi3": "Phi-3",
    "cohere": "Command R: attention and feed-forward beside each other",
    "falcon": "Falcon: one key head",
    "bloom": "BLOOM: ALiBi",
    "gptj": "GPT-J: neighbouring pairs turn",
    "modernbert-decoder": "ModernBERT's decoder",
    "afmoe": "AFMoE: gated attention",
    "llama4_text": "Llama 4: chunks, scores that grow warmer, experts with weighed inputs",
    "diffllama": "Differential Transformer (Ye et al. 2024) in Llama's layout",
    "mamba": "Mamba (Gu & Dao 2023)",
    "mamba2": "Mamba-2 (Dao & Gu 2024)",
    "jamba": "Jamba: scans, attention now and then, experts",
    "bamba": "Bamba: Mamba-2 and attention",
    "recurrent_gemma": "RecurrentGemma (Griffin)",
    "rwkv": "RWKV-4",
    "qwen3_next": "Qwen3-Next: gated DeltaNet, gated attention, experts",
    "lfm2": "LFM2: gated short convolutions",
    "zaya": "ZAYA1: compressed convolutional attention, routers that read one another, scaled residuals",
    "minimax": "MiniMax: lightning attention, then softmax, on normed streams",
}
"""The documents of the zoo, and their first lines."""


WHY_NOT = {
    "cpmant": "no causal model: its mask (`context` is 1 everywhere) lets every token see all later ones, and another "
    "last token changes earlier logits",
    "gemma4_assistant": "no model of a text: it drafts for another model, whose last hidden states are its input and "
    "whose keys and values are all that its attention, which is not causal, sees",
    "gemma4_unified_assistant": "the same as gemma4_assistant",
    "inkling2_text": "these have no words yet: sublayers that read a softmax over sums of earlier layers, and queries, "
    "keys and values that do so apart; bounds of a vector's length, with gains a head; sinks that are a map of the "
    "token; taps of keys and values that are",
    "musicgen": "a position holds a token of each of several codebooks (summed tables, a head each); in the language, "
    "its tasks and readouts a position is one token",
    "musicgen_melody": "the same as musicgen",
    "prophetnet": "logits are those of a second stream of queries, which starts from one learned vector, passes every "
    "layer with the weights of the first, and sees the first's keys and of its own the one at its place",
}
"""Of types that are not read: why, where there is a reason in what they are."""


def write_zoo(folder: Path) -> None:
    """Each architecture with the sizes of a toy, as its tiny configuration is imported."""
    import json

    from tiny import tiny_config

    from evo.dsl.canonical import to_yaml
    from evo.interop.config import Config
    from evo.interop.document import imported_from

    for kind, title in ZOO.items():
        config = Config(json.loads(tiny_config(kind).to_json_string(use_diff=False)))
        text = to_yaml(imported_from(config, kind).document)
        schema = "# yaml-language-server: $schema=../../dsl_schemas/organism.schema.json"
        head = f"{schema}\n# {title}, with the sizes of a toy.\n"
        (folder / f"{kind}.yaml").write_text(head + text, encoding="utf-8")


def rows(kinds: list[str]) -> list[list[str]]:
    """A line a type: lines of YAML, differences, and what is missing."""
    from tiny import parity, twin

    found: list[list[str]] = []
    for kind in kinds:
        try:
            pair = twin(kind)
            far = parity(pair)
        except Exception as error:
            found.append([kind, "", "", "", "", f"{type(error).__name__}: {str(error).splitlines()[0][:90]}"])
            continue
        numbers = [f"{number:.0e}" for number in (far.prefill, far.steps, far.gradients)]
        found.append([kind, str(pair.lines), *numbers, ""])
    return found


def by_hand() -> str:
    """The table of documents that are no import, each beside somebody else's package."""
    from by_hand import BY_HAND, lines, parity

    rows = [["document", "lines", "beside", "prefill", "steps", "gradients"], ["---"] * 6]
    for name, pair in BY_HAND.items():
        far = parity(name)
        numbers = [f"{number:.0e}" for number in (far.prefill, far.steps, far.gradients)]
        rows.append([f"[{name}]({name}.yaml)", str(lines(name)), f"`{pair.module}`", *numbers])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main(arguments: list[str]) -> None:
    """Print, or write, both tables."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as ALL

    from evo.interop.families import types

    named = [word for word in arguments if not word.startswith("-")]
    kinds = named or [kind for kind in ALL if kind in types()]
    if "--write" in arguments:  # before any model is built: some change what their configurations hold
        (ROOT / "examples" / "zoo").mkdir(exist_ok=True)
        write_zoo(ROOT / "examples" / "zoo")
    found = rows(kinds)
    head = ["type", "lines", "prefill", "steps", "gradients", "fault"]
    lines = [f"| {' | '.join(row)} |" for row in (head, ["---"] * 6, *found)]
    whole = sum(row[-1] == "" for row in found)
    missing = [kind for kind in ALL if kind not in types()]
    text = (
        f"{whole} of the {len(ALL)} causal language models of transformers are read. Not yet: {', '.join(missing)}.\n\n"
    )
    text += "\n".join(lines)
    if not named:
        reasons = [f"| {kind} | {WHY_NOT[kind]} |" for kind in missing if kind in WHY_NOT]
        text += "\n\n## Not read\n\n" + "\n".join(("| type | why |", "| --- | --- |", *reasons))
    if not named:
        text += f"\n\n## Written by hand\n\n{by_hand()}"
    print(text)
    if "--write" in arguments:
        page = ROOT / "examples" / "zoo" / "README.md"
        intro = (
            "# Imported architectures\n\nWritten by `python tests/interop/table.py --write`: tiny models with large "
            "random weights, in float64;\ndifferences are shares of the largest logit or gradient.\n\n"
        )
        page.write_text(f"{intro}{text}\n", encoding="utf-8")


if __name__ == "__main__":
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    warnings.filterwarnings("ignore")
    sys.path.insert(0, str(Path(__file__).parent))
    main(sys.argv[1:])
