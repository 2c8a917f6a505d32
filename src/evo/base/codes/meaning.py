"""3xx: documents that are well formed and still cannot be built, leak, or say what does nothing."""

from __future__ import annotations

from evo.base.codes.code import Code


def _document(mix: str = "{kind: attention, heads: 2}", stage: str = "", organism: str = "", rest: str = "") -> str:
    return (
        f"evo: 1\norganism:\n  width: 64\n{organism}  stages:\n    - name: body\n      mix: {mix}\n"
        f"{''.join(f'      {line}' for line in stage.splitlines(keepends=True))}{rest}"
    )


def _written(sublayer: str, organism: str = "", name: str = "deep") -> str:
    return (
        f"evo: 1\norganism:\n  width: 64\n{organism}  layers:\n    {name}:\n      sublayers:\n"
        f"        - {sublayer}\n  stages:\n    - {{name: body, layers: {name}}}\n"
    )


_DOCUMENT = _document()
_NEAR = "  pseudopods:\n    near: {kind: attention, heads: 2}\n"

_MANY = "".join(f"    {name}: {{parallel: [{', '.join([inner] * 16)}]}}\n" for name, inner in ("ab", "bc", "cd"))

_DIMENSIONS = {
    "EVO300": Code(
        "Heads do not divide the width",
        "Without a head width of its own, a head takes width / heads channels, which must be a whole number.",
        _document("{kind: attention, heads: 3}"),
        _document("{kind: attention, heads: 3, head_dim: 16}"),
    ),
    "EVO301": Code(
        "Key heads do not divide the heads",
        "Each key and value head serves the same number of query heads.",
        _document("{kind: attention, heads: 4, kv_heads: 3}"),
        _document("{kind: attention, heads: 4, kv_heads: 2}"),
    ),
    "EVO302": Code(
        "Rotation does not fit the heads",
        "Rotary encodings turn pairs of channels: an even number of them, and no more than a head has.",
        _document(organism="  position: {kind: rope, dims: 33}\n"),
        _document(organism="  position: {kind: rope, dims: 16}\n"),
    ),
    "EVO303": Code(
        "A norm that does not fit where it stands",
        "Groups of channels are equal, so their number divides the channels; gains by head need heads. A norm that "
        "takes the mean away needs several channels to a group, as nothing is left of one.",
        _document(stage="norm: {kind: rms, groups: 3}\n"),
        _document(stage="norm: {kind: rms, groups: 4}\n"),
    ),
    "EVO304": Code(
        "A position encoding in the wrong place",
        "Learned positions are added to the embedding and so belong to the organism; a recurrence can be rotated and "
        "nothing else.",
        _document(stage="position: {kind: learned}\n"),
        _document(organism="  position: {kind: learned}\n"),
    ),
    "EVO305": Code(
        "Parts of a recurrence that do not go together",
        "The delta rule is stable only with keys of unit length, division by a sum needs features that are positive, "
        "a bonus and writes by the step belong to outer products, and the step is that of a decay by token.",
        _document("{kind: recurrence, heads: 2, feature: elu}"),
        _document("{kind: recurrence, heads: 2, feature: elu, update: outer}"),
    ),
    "EVO306": Code(
        "A sublayer that is not one",
        "A sublayer has one `block`, or several under `parallel`; side by side, each branch has a gain and an output "
        "norm of its own.",
        _written("{norm: {in: {kind: rms}}}"),
        _written("{block: {kind: gated}, norm: {in: {kind: rms}}}"),
    ),
    "EVO307": Code(
        "Experts that cannot be routed so",
        "A token meets no more experts than there are, in groups of equal size; a router without scores cannot choose, "
        "a share that is divided by itself teaches nothing, and a hash of the token looks at no score.",
        _document(stage="ffn: {kind: experts, count: 2, top: 4}\n"),
        _document(stage="ffn: {kind: experts, count: 4, top: 2}\n"),
    ),
    "EVO308": Code(
        "Parts of an attention that do not go together",
        "A list of biases names projections that are there, differential heads come in pairs, and keys that are read "
        "from elsewhere are not published again under the same name.",
        _document("{kind: attention, heads: 2, bias: [q, gate]}"),
        _document("{kind: attention, heads: 2, bias: [q, gate], gate: head}"),
    ),
    "EVO309": Code(
        "More pseudopods are alive than there are slots",
        "A pool has room for `slots` pseudopods, of which `alive` are there at the start.",
        _document("{kind: pool, slots: 4, alive: 6}"),
        _document("{kind: pool, slots: 8, alive: 6}"),
    ),
}

_WIRING = {
    "EVO310": Code(
        "An unknown or repeated source",
        "`from` lists earlier stages, or `embedding`, each once.",
        _document(stage="from: bodi\n"),
        _document(stage="from: embedding\n"),
    ),
    "EVO311": Code(
        "A pseudopod contains itself",
        "Composites may name pseudopods, but never, directly or through others, themselves.",
        _document("loop", organism="  pseudopods:\n    loop: {parallel: [loop, {kind: convolution}]}\n"),
        _document("pair", organism=_NEAR + "    pair: {parallel: [near, {kind: convolution}]}\n"),
    ),
    "EVO312": Code(
        "Nothing reads a stage",
        "Every stage but the last must be read by a later one, or it is work without effect.",
        _document(stage="", rest="    - {name: top, from: embedding, mix: {kind: attention, heads: 2}}\n"),
        _document(stage="", rest="    - {name: top, from: [embedding, body], mix: {kind: attention, heads: 2}}\n"),
    ),
    "EVO313": Code(
        "A stage name that is taken",
        "Names tell stages apart, in `from` and in patches; `embedding` is the name of the input, `tokens` of "
        "their ids, and `kv` of what keys and values are given.",
        _document(rest="    - {name: body, mix: {kind: attention, heads: 2}}\n"),
        _document(rest="    - {name: top, mix: {kind: attention, heads: 2}}\n"),
    ),
    "EVO314": Code(
        "A stage reads itself or a later one",
        "Data flows downwards through the list of stages, so there is no cycle.",
        _document(stage="from: top\n", rest="    - {name: top, mix: {kind: attention, heads: 2}}\n"),
        _document(rest="    - {name: top, from: body, mix: {kind: attention, heads: 2}}\n"),
    ),
    "EVO315": Code(
        "A block reads what nothing provides",
        "Blocks may read named values besides their input: the tokens, the embedding, outputs of stages, and what "
        "earlier blocks publish. This one reads a value that no block before it provides. Blocks that ship with evo "
        "read none that could be missing; the message names the block of an installed package.",
        source="command",
    ),
    "EVO320": Code(
        "Unknown pseudopod",
        "Text under `mix` names an entry of `organism.pseudopods`; to use a kind directly, write `{kind: ...}`.",
        _document("[near, nera]", "repeat: 2\n", _NEAR),
        _document("near", organism=_NEAR),
    ),
    "EVO321": Code(
        "An unused pseudopod",
        "A warning: no stage names it, so it is not built, does not count, and the canonical form leaves it out.",
        _document(organism=_NEAR),
        _document("near", organism=_NEAR),
    ),
    "EVO322": Code(
        "Too many mixers",
        "Layers, composites and the pseudopods they name multiply; this document stands for more mixers than anyone "
        "would build, or nests them deeper.",
        _document("a", "repeat: 4\n", f"  pseudopods:\n{_MANY}    d: {{kind: convolution}}\n"),
        _document("{parallel: [d, d]}", "repeat: 4\n", "  pseudopods:\n    d: {kind: convolution}\n"),
    ),
    "EVO323": Code(
        "One name for two parts",
        "Pseudopods and layers are named in one space: text under a stage or in a composite stands for one of them.",
        _written("{block: near}", "  pseudopods:\n    near: {kind: attention, heads: 2}\n", "near"),
        _written("{block: near}", "  pseudopods:\n    near: {kind: attention, heads: 2}\n", "deep"),
    ),
}

_EFFECT = {
    "EVO330": Code(
        "A setting that nothing reads",
        "A warning: every mixer or stage below overrides it or has no use for it, so it changes nothing.",
        _document("{kind: convolution}", organism="  position: {kind: alibi}\n"),
        _document(organism="  position: {kind: alibi}\n"),
    ),
    "EVO331": Code(
        "A stencil that hides nothing",
        "A warning: within the context, every position that full attention sees is seen, so it only costs.",
        _document("{kind: attention, heads: 2, stencil: {kind: window, size: 256}}"),
        _document("{kind: attention, heads: 2, stencil: {kind: window, size: 32}}"),
    ),
    "EVO332": Code(
        "A list longer than its stage",
        "A list under `mix` or `ffn` cycles over the layers; entries beyond the last layer would never be built.",
        _document("[{kind: attention, heads: 2}, {kind: convolution}]"),
        _document("[{kind: attention, heads: 2}, {kind: convolution}]", "repeat: 2\n"),
    ),
    "EVO333": Code(
        "Sharing without anything to share",
        "Layers share weights with the layers that are like them: a warning where no two are. Layers that read their "
        "own number (a scaled norm, a gain of depth) never are.",
        _document(stage="share: true\n"),
        _document(stage="repeat: 4\nshare: true\n"),
    ),
    "EVO334": Code(
        "A life in which nothing happens",
        "`train.life` lets pools of pseudopods live: there must be one, the first look at it before training ends, and "
        "bounds between which it can live: `least` at most `most`, `thaw` below `freeze`.",
        _document("{kind: pool}", rest="train: {steps: 80, life: {kind: annealed}}\n"),
        _document("{kind: pool}", rest="train: {steps: 80, life: {kind: annealed, every: 10, warmup: 20}}\n"),
    ),
    "EVO335": Code(
        "An adapter beside a map that is not there",
        "`adapters.on` lists linear maps inside the stages by the names that `evo explain` prints.",
        _document(organism="  adapters: {kind: lora, on: [q, w]}\n"),
        _document(organism="  adapters: {kind: lora, on: [q, v]}\n"),
    ),
    "EVO337": Code(
        "A condition or a form at a place that is not there",
        "A condition bends the input or the output of a mixer, or what its own linear maps give, and a form is that of "
        "such maps; not of those of which decoding makes others, as a latent attention does of k and v.",
        _document("{conditioned: {kind: attention, heads: 2}, at: w}"),
        _document("{conditioned: {kind: attention, heads: 2}, at: v}"),
    ),
    "EVO336": Code(
        "A life beside adapters",
        "Beside adapters all weights of an organism stay as they are, so its pools cannot live.",
        _document(
            "{kind: pool}",
            organism="  adapters: {kind: lora}\n",
            rest="train: {steps: 80, life: {kind: annealed, every: 10, warmup: 20}}\n",
        ),
        _document("{kind: pool}", rest="train: {steps: 80, life: {kind: annealed, every: 10, warmup: 20}}\n"),
    ),
}

_TRAINING = {
    "EVO340": Code(
        "Training beyond the context",
        "`organism.context` is the longest sequence the model is made for; training on longer ones needs a larger one.",
        _document(rest="train: {context: 512}\n"),
        _document(organism="  context: 512\n", rest="train: {context: 512}\n"),
    ),
    "EVO341": Code(
        "A vocabulary too small for the task",
        "Bytes have 256 values, so a model of them needs a vocabulary of at least 256.",
        _document(organism="  vocab: 128\n"),
        _DOCUMENT,
    ),
    "EVO342": Code(
        "A schedule longer than training",
        "Warm-up and decay are shares of the steps and cannot overlap.",
        _document(rest="train: {schedule: {kind: wsd, warmup: 0.7, decay: 0.5}}\n"),
        _document(rest="train: {schedule: {kind: wsd, warmup: 0.1, decay: 0.5}}\n"),
    ),
    "EVO343": Code(
        "A mixer that sees the future",
        "In a next-token task a mixer that is not causal sees what it is to predict, and its score would be a leak. "
        "One with a prefix may read both ways what the task gives and does not ask for (`given`).",
        _document("{kind: attention, heads: 2, causal: false}"),
        _DOCUMENT,
    ),
    "EVO344": Code(
        "A name that no folder can have",
        "Results go to `results/NAME` where `--out` names no other place, so a name is one path component on every "
        'system: no slash, no `..`, no control character, none of `\\:*?"<>|`, no name of a device, and no space or '
        "dot at its end.",
        _document(rest="name: ../other\n"),
        _document(rest="name: other\n"),
    ),
    "EVO345": Code(
        "An objective without weights",
        "The objective is the mean of its terms by weight. Where every weight is 0, all candidates are equally good "
        "and the first one would win.",
        _document(rest="evolve: {fitness: {task: 0, efficiency: 0, gradient: 0}}\n"),
        _document(rest="evolve: {fitness: {task: 1, efficiency: 0, gradient: 0}}\n"),
    ),
    "EVO346": Code(
        "A budget beside steps",
        "How long an organism is trained is said once: in `train.steps`, or in `train.budget` as so many FLOPs or so "
        "many tokens.",
        _document(rest="train: {steps: 80, budget: {flops: 1e12}}\n"),
        _document(rest="train: {budget: {flops: 1e12}}\n"),
    ),
    "EVO347": Code(
        "A vocabulary far larger than the task's",
        "Rows of the embedding and of the readout for tokens that the task does not have are parameters that nothing "
        "trains. Where they are meant, for another task, the warning may stand.",
        _document(organism="  vocab: 50257\n"),
        _DOCUMENT,
    ),
    "EVO349": Code(
        "Nothing left to predict",
        "A task's `given` tokens at the start of each row are read and not predicted; some have to come behind them.",
        _document(rest="train: {task: {kind: bytes, given: 256}, context: 64}\n"),
        _document(rest="train: {task: {kind: bytes, given: 16}, context: 64}\n"),
    ),
    "EVO348": Code(
        "Nothing to keep still, or nothing else",
        "`evolve.freeze` lists parts of the document that a search leaves as they are, by the keys and names that lead "
        "there from its root. A search has to have something left to change.",
        _document(rest="evolve: {freeze: organism.stages.boddy.mix}\n"),
        _document(rest="evolve: {freeze: organism.stages.body.mix}\n"),
    ),
    "EVO362": Code(
        "A search that is not what it says",
        "Each measure is one axis of the archive, and each rung of a fidelity trains for a step at least.",
        _document(rest="evolve: {measures: [attention_span, attention_span]}\n"),
        _document(rest="evolve: {measures: [attention_span, gradient_flow]}\n"),
    ),
}

_MEMORY = {
    "EVO361": Code(
        "A bias by distance that cannot be added here",
        "Buckets, profiles and Transformer-XL's terms are added to the scores of an attention by itself: not of a "
        "latent one, nor beside a selection, nor of later keys that they know nothing of; and buckets reach further "
        "than half of them.",
        _document("{kind: latent, heads: 2, position: {kind: xl}}"),
        _document("{kind: attention, heads: 2, position: {kind: xl}}"),
    ),
    "EVO360": Code(
        "A selection that cannot choose here",
        "A selection chooses among all earlier tokens, so no stencil hides some of them first; its local blocks are "
        "among those that a query meets, and means of blocks need keys by head.",
        _document("{kind: attention, heads: 2, select: {kind: tokens, top: 9}, stencil: {kind: window, size: 32}}"),
        _document("{kind: attention, heads: 2, select: {kind: tokens, top: 9}}"),
    ),
}

MEANING = {**_DIMENSIONS, **_WIRING, **_EFFECT, **_TRAINING, **_MEMORY}
