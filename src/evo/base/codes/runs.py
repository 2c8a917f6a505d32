"""5xx: data and devices. 6xx: checkpoints and run directories."""

from __future__ import annotations

from evo.base.codes.code import Code

RUNS = {
    "EVO500": Code(
        "Unknown corpus",
        "A corpus is one that ships with evo, or the path of a file or folder of text, relative to the document.",
        "train: {task: {kind: bytes, corpus: shakespear}}",
        "train: {task: {kind: bytes, corpus: shakespeare}}",
        "command",
    ),
    "EVO501": Code(
        "A corpus is too small",
        "Held-out text must be long enough to measure on, and training text must hold at least one sequence of the "
        "training context. Give more text, or train on a shorter context.",
        source="command",
    ),
    "EVO502": Code(
        "A tokenizer that cannot be used",
        "The task tokens reads a tokenizer.json by the package `tokenizers` (`pip install evo[tokens]`). It must have "
        "as many tokens as the document says, and keep every byte of a text, or bits per byte would be wrong.",
        source="command",
    ),
    "EVO510": Code(
        "The device cannot be used",
        "The device that was asked for is not there or not supported by the installed torch. An explicit request never "
        "falls back silently; leave it out to let evo choose.",
        "evo train examples/first.yaml --device cuda",
        "evo train examples/first.yaml --device cpu",
        "command",
    ),
    "EVO511": Code(
        "The kernels asked for cannot run a layer",
        "`--kernels triton` or `--kernels reference` asks for one backend for every mixer, and is never replaced "
        "silently. The message names the layer and the reason; `evo explain CFG --kernels` shows what `auto` takes.",
        "evo train examples/first.yaml --device cpu --kernels triton",
        "evo train examples/first.yaml --device cpu",
        "command",
    ),
    "EVO512": Code(
        "A block does not do what its plan promises",
        "Costs, optimizers, snapshots and measures read a block's plan. A linear map must meet its input through "
        "`flow.project`, and an auxiliary loss must have a name that the plan lists, or they would be wrong without a "
        "word. Blocks that ship with evo keep this; the message names the weight or the loss of one that does not.",
        source="command",
    ),
    "EVO520": Code(
        "The model sees the future",
        "Before training and after it, inputs are changed and no earlier output, and none of another row, may change, "
        "in values and in gradients; and the same tokens give the same outputs the second time. This model fails, so "
        "its score would come from a leak.",
        source="command",
    ),
    "EVO521": Code(
        "Training came to nothing",
        "The loss or the gradients became infinite or not a number, so no checkpoint is worth keeping. A lower "
        "learning rate, more warm-up, or clipping often helps.",
        source="command",
    ),
    "EVO522": Code(
        "Text beyond the last position",
        "An organism with learned positions has a vector for each place of its context and none beyond; the filters of "
        "a hyena are as long as the context. Ask for fewer tokens, or train one with another position encoding, such "
        "as rope, or another mixer.",
        source="command",
    ),
    "EVO523": Code(
        "Text beyond the context",
        "A warning: rotary and relative encodings go on beyond the context that the organism was made for, but nothing "
        "was trained there.",
        source="command",
    ),
    "EVO524": Code(
        "A prompt that is no text of the task",
        "Tasks whose tokens are no text write them as numbers with blanks between them. The prompt holds something "
        "else, or a number beyond the task's symbols.",
        source="command",
    ),
    "EVO525": Code(
        "A tracker without its package",
        "Trackers tell what a training measures to another tool, whose package is not installed here, or which nobody "
        "has set up in this process. metrics.jsonl needs none.",
        "evo train examples/first.yaml --track tensorboard",
        "evo train examples/first.yaml",
        "command",
    ),
    "EVO526": Code(
        "A cache that may tip a choice",
        "A warning: routers, experts, selections and mixtures of depths send a token where a number is largest. A "
        "cache of 8-bit floats or 4 bits moves these numbers, so some tokens go another way than without it, and the "
        "text may differ more than the bits suggest. int8 moves them less, full not at all.",
        source="command",
    ),
    "EVO527": Code(
        "Nothing to speculate with",
        "`evo generate --speculate` lets what an organism has learned to predict further ahead (`organism.ahead`) "
        "draft tokens, which the next pass checks. This organism predicts the next token alone.",
        "evo generate results/first --speculate",
        "evo generate results/first",
        "command",
    ),
    "EVO528": Code(
        "Experts that cannot be mixed",
        "`evo generate A --expert B` mixes what two trainings of singular-value gains (`adapters: {kind: svf}`) have "
        "learned, by how well they predict the prompt. Both belong to one organism and start from the same frozen "
        "weights, and the prompt holds at least two tokens.",
        "evo generate results/first --expert results/second",
        "evo generate results/maths --expert results/code",
        "command",
    ),
    "EVO529": Code(
        "A text that cannot be continued",
        "A mixer with a prefix reads its first tokens both ways, all at once, so a prompt has at least as many. One "
        "that is not causal at all (`causal: false`) sees tokens that are not there yet: with it nothing goes on.",
        source="command",
    ),
    "EVO600": Code(
        "Not a run directory",
        "A run directory holds `run.yaml` and `journal.sqlite`; `evo evolve --out` makes one. Both carry the version "
        "of their form: a run that an older or a newer evo began is refused, not converted. Finish it with that evo, "
        "or start anew.",
        "evo resume results",
        "evo resume results/demo",
        "command",
    ),
    "EVO601": Code(
        "The run exists",
        "The output directory holds a run already, which is never overwritten. Continue it with `evo resume`, or "
        "choose another name.",
        "evo evolve examples/first.yaml --out results/demo",
        "evo resume results/demo",
        "command",
    ),
    "EVO602": Code(
        "Not a checkpoint or snapshot",
        "The file is not a safetensors file that evo wrote, is damaged, or belongs to another organism.",
        source="command",
    ),
    "EVO603": Code(
        "Settings differ from the run's",
        "A run resumes with the settings it began with; those given now, or those that run.yaml holds by now, are "
        "others. The same holds for the text that it learns from, known by its digest: nothing is recorded of a "
        "candidate that would have seen another text. Leave them out, put them back, or begin a new run. The root "
        "folder (where the text is looked for, from the run directory), the engine, the number of workers and the "
        "limits may change: no result depends on them. More generations are asked for by `evo resume --generations`.",
        source="command",
    ),
    "EVO604": Code(
        "The run is going on",
        "Another process is carrying out the run, or a training, in this directory. Two at once would do everything "
        "twice and write into each other's files.",
        source="command",
    ),
    "EVO605": Code(
        "Another program holds the journal",
        "The journal is an SQLite file, and a program that reads or writes it has locked it for longer than evo waits. "
        "Nothing is wrong with the run: close that program and resume.",
        source="command",
    ),
    "EVO606": Code(
        "Workers are killed from outside, or the GPU is lost",
        "Somebody else ended the worker processes again and again: a batch system at its limit, an administrator. Or, "
        "without workers, a candidate's kernel faulted, after which a process cannot use its GPU. That says nothing "
        "about the other candidates, so none of them was recorded as failed. `evo resume` tries them again.",
        source="command",
    ),
    "EVO607": Code(
        "No cluster to run on",
        "The engine `ray` runs trials on a Ray cluster. Ray is not installed, there is no cluster at the address, or "
        "none of its nodes has what a worker is declared to need. Nothing was recorded of any candidate.",
        "evo evolve examples/first.yaml --engine ray --address nowhere",
        "evo evolve examples/first.yaml --engine ray",
        "command",
    ),
    "EVO608": Code(
        "No such variant",
        "A run's variants are known by their ids, such as 0003/07, and by their files.",
        "evo compare results/demo/gen_0003/variant_99.yaml",
        "evo elites results/demo",
        "command",
    ),
    "EVO609": Code(
        "Nothing to start from",
        "`evo train --from` starts from another organism's weights as far as names and shapes are alike. The stages of "
        "these two have none in common: they, or their layers, are called otherwise, or hold other blocks.",
        source="command",
    ),
    "EVO620": Code(
        "No seed could be evaluated",
        "Every document that the search was to begin with failed to train; the causes are named. A search needs one "
        "that works: try `evo train` on it first.",
        source="command",
    ),
    "EVO621": Code(
        "Seeds whose scores do not compare",
        "A search compares its candidates by one number, the primary score of their task on one text. These seeds have "
        "tasks with different scores, or learn from different texts: search with each of them apart.",
        source="command",
    ),
    "EVO622": Code(
        "No new child was found",
        "Every mutation that was drawn gave a document that is invalid, equal to its parent in effect, or there "
        "already. A small document has few neighbours.",
        source="command",
    ),
    "EVO623": Code(
        "Too few mutants to judge measures by",
        "Correlations of measures need more mutants than measures, and two measures that vary over them. Most mutants "
        "of this document could not be built or probed, or all of them behave alike.",
        source="command",
    ),
    "EVO624": Code(
        "No organism of that size",
        "`evo scale` and `evo ladder` keep an organism's shape: widths grow together, in steps that keep everything "
        "whole, and nothing gets shallower. Nothing valid comes within a third of the size that was asked for.",
        "evo scale examples/first.yaml --params 50",
        "evo scale examples/first.yaml --params 1M",
        "command",
    ),
    "EVO625": Code(
        "No weights to begin a search from",
        "`evo evolve --warm` begins from the weights of a run's variants, and charges every candidate with the compute "
        "behind them. So it needs variants that stand in their run directory and gave scores, each another organism, "
        "and the text that their run learned from: what is held out must not have been learned before.",
        "evo evolve examples/first.yaml --warm",
        "evo evolve results/demo --warm --out results/warm",
        "command",
    ),
    "EVO650": Code(
        "Not a configuration",
        "`evo import` reads a config.json as transformers writes it, or a folder that holds one.",
        source="command",
    ),
    "EVO651": Code(
        "A configuration without a key that it needs, or with a value of another kind",
        "The architecture is known, and this key of it is not there, or its value is none that it can have. Old files "
        "may lack what newer versions write.",
        source="command",
    ),
    "EVO652": Code(
        "An architecture, or a setting of one, that cannot be read",
        "No family reads this type, or the configuration says something that the language has no words for. Nothing is "
        "passed over, as the model would be another.",
        source="command",
    ),
    "EVO653": Code(
        "A checkpoint that does not fit",
        "A tensor that a weight is taken from is not there or of another size.",
        source="command",
    ),
    "EVO654": Code(
        "A model that is not like the one to export to",
        "`evo export` writes weights into the tensors of a folder of the same architecture; a mutated organism is "
        "another one.",
        source="command",
    ),
    "EVO655": Code(
        "An organism that torch cannot trace",
        "`evo export --to torch` and `--to onnx` record what a pass computes. A block did something that has no place "
        "in a graph, such as a choice that depends on values.",
        source="command",
    ),
    "EVO656": Code(
        "A package that an export or an import needs is missing",
        "`--to onnx` is written by `onnx` and `onnxscript`: `pip install evo[onnx]`; a .gguf file is read by `gguf`: "
        "`pip install evo[gguf]`.",
        source="command",
    ),
}
