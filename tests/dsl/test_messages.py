"""Golden pairs: what people write who come from other tools, or slip, and the message they read.

After a deliberate change of wording: `python tests/dsl/test_messages.py` rewrites the files; read their diff.
"""

import re
from pathlib import Path

import pytest

from evo.base.diagnostics import render
from evo.compiler.check import check
from evo.dsl.document import examine
from evo.dsl.foreign import KEYS, VALUES
from evo.dsl.index import KINDS, kind_class
from evo.dsl.spec import spec_fields

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden_messages"
START = "evo: 1\norganism:\n  width: 64\n  stages:\n    - name: body\n      mix: {kind: attention, heads: 2}\n"
STAGE, MIX = "    - name: body\n", "{kind: attention, heads: 2}"


def organism(line: str) -> str:
    """The document with a line more in its organism."""
    return START.replace("  width: 64\n", f"  width: 64\n  {line}\n")


def stage(line: str) -> str:
    """The document with a line more in its stage."""
    return START.replace(STAGE, f"{STAGE}      {line}\n")


def mix(more: str) -> str:
    """The document with settings more in its attention."""
    return START.replace("heads: 2}", f"heads: 2, {more}}}")


WRONG = {
    "steps_at_the_root": START + "steps: 3\n",
    "hidden_size": organism("hidden_size: 64"),
    "n_embd": organism("n_embd: 64"),
    "d_model": organism("d_model: 64"),
    "block_size": organism("block_size: 128"),
    "n_layer": organism("n_layer: 4"),
    "model_type": organism("model_type: llama"),
    "num_attention_heads": stage("num_attention_heads: 4"),
    "num_key_value_heads": mix("num_key_value_heads: 1"),
    "sliding_window": mix("sliding_window: 128"),
    "window": mix("window: 128"),
    "intermediate_size": stage("intermediate_size: 256"),
    "mlp": stage("mlp: {kind: dense}"),
    "layers": stage("layers: 4"),
    "rope_theta": organism("rope_theta: 10000"),
    "dropout": mix("dropout: 0.1"),
    "lr": START + "train: {lr: 3e-4}\n",
    "betas": START + "train: {optimizer: {kind: adamw, betas: [0.9, 0.95]}}\n",
    "clip_zero": START + "train: {clip: 0}\n",
    "steps_1e3": START + "train: {steps: 1e3}\n",
    "steps_quoted": START + 'train: {steps: "1e3"}\n',
    "width_quoted": START.replace("64", '"128"'),
    "context_1k": organism("context: 1k"),
    "context_1_024": organism("context: 1_024"),
    "bias_yes": mix("bias: yes"),
    "mix_attention": START.replace(MIX, "attention"),
    "select_means": mix("select: means"),
    "gelu_new": stage("ffn: {kind: dense, act: gelu_new}"),
    "swish": stage("ffn: {kind: gated, act: swish}"),
    "haeds": START.replace("heads", "haeds"),
    "no_evo": START.replace("evo: 1\n", ""),
    "no_colon": START.replace("width: 64", "width 64"),
    "no_colon_at_last": organism("context 128"),
    "two_colons": START.replace("width: 64", "width: 64: 128"),
    "one_column_off": START.replace("      mix:", "     mix:"),
    "one_column_deeper": START.replace("      mix:", "       mix:"),
    "brace_not_closed": START.replace("2}", "2") + "train: {steps: 3}\n",
    "bracket_not_closed": stage("from: [input"),
    "kv_heads": START.replace("heads: 2}", "heads: 4, kv_heads: 3}"),
    "rope_dims_of_the_organism": organism("position: {kind: rope, dims: 48}"),
    "vocab_of_another_tokenizer": organism("vocab: 50257"),
    "no_heads": START.replace(", heads: 2", ""),
    "n_head": START.replace("heads", "n_head"),
    "d_model_for_width": START.replace("width", "d_model"),
    "heads_of_the_organism": organism("heads: 4"),
    "act_of_a_stage": stage("act: gelu"),
    "dtype": START + "train: {dtype: bfloat16}\n",
    "device": START + "train: {device: cuda}\n",
    "dataset": START + "train: {dataset: wikitext}\n",
    "attention_of_a_stage": stage("attention: {heads: 4}"),
    "layers_of_the_organism": organism("layers: 4"),
    "ffn_swiglu": stage("ffn: swiglu"),
    "optimizer_adam": START + "train: {optimizer: Adam}\n",
    "optimizer_adamx": START + "train: {optimizer: adamx}\n",
    "kind_of_a_stage": START.replace("      mix: {kind: attention, heads: 2}", "      kind: attention"),
    "stage_is_a_word": START[: START.index("    - name")] + "    - attention\n",
    "mamba2": START.replace("attention, heads: 2", "mamba2"),
    "mha": START.replace("attention", "mha"),
    "no_space": START.replace("kind: attention, heads: 2", "kind:attention, heads: 2"),
    "no_space_in_a_stage": START.replace("- name: body", "- {name:body, mix: {kind: attention, heads: 2}}").replace(
        "      mix: {kind: attention, heads: 2}\n", ""
    ),
    "no_dash": START.replace("    - name", "      name"),
    "nothing": "",
}


def told(name: str) -> str:
    """What evo prints of a wrong document."""
    found = examine(WRONG[name], "example.yaml")
    loaded, faults = found.loaded, found.faults
    found = [*faults, *(check(loaded) if loaded else ())]
    return "".join(f"{render(fault, WRONG[name])}\n" for fault in found)


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_document_prints_the_golden_text(name: str):
    """What people read changes only on purpose."""
    assert told(name) == (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", WRONG)
def test_one_slip_is_one_fault_with_help(name: str):
    """Each message says how it is written."""
    assert told(name).count("EVO") == 1
    assert "   help: " in told(name)


def test_no_golden_file_is_left_over():
    """Every golden file belongs to a document."""
    assert sorted(path.stem for path in GOLDEN.iterdir()) == sorted(WRONG)


def test_foreign_words_are_foreign():
    """No kind is called by a word of the tables of values, and no class of the index has every foreign key."""
    kinds = {kind for kinds in KINDS.values() for kind in kinds}
    assert not kinds & set(VALUES)
    own = [set(spec_fields(kind_class(role, kind))) for role, kinds in KINDS.items() for kind in kinds]
    assert not any(set(KEYS) <= keys for keys in own)


def test_a_model_that_is_named_has_a_document():
    """`evo new --from` finds each that advice on values sends people to."""
    named = [match[1] for advice in VALUES.values() if (match := re.search(r"--from (\S+)`", advice))]
    assert "zoo/mamba2" in named
    assert [name for name in named if not (ROOT / "examples" / f"{name}.yaml").is_file()] == []


def test_another_function_is_not_suggested():
    """`gelu_new` is not `gelu`, however near the words are."""
    assert "did you mean" not in told("gelu_new")
    unknown = WRONG["gelu_new"].replace("gelu_new", "gelu_fitted")
    [fault] = examine(unknown).faults
    assert fault.help
    assert fault.help.startswith("one of: relu, relu2, gelu, silu, gelu_tanh, ")


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for each in WRONG:
        (GOLDEN / f"{each}.txt").write_text(told(each), encoding="utf-8")
