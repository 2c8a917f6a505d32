"""`evo import` and `evo export`: there and back, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import tiny_model

from commands import Evo
from evo.base.diagnostics import DiagnosticError
from evo.dsl.canonical import to_data
from evo.interop.checkpoint import export_weights, import_weights
from evo.interop.document import import_document
from evo.interop.families import types
from evo.interop.published import RENAMED
from evo.interop.weights import read_checkpoint


@pytest.fixture(autouse=True)
def _oracle() -> None:
    pytest.importorskip("transformers", reason="the oracle transformers is not installed")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved tiny Qwen3."""
    return saved("qwen3", tmp_path)


def saved(kind: str, tmp_path: Path) -> Path:
    """A tiny model as its publishers save it."""
    tiny_model(kind).float().save_pretrained(tmp_path / kind)
    return tmp_path / kind


LLAMA = {
    "model_type": "llama", "hidden_size": 32, "num_attention_heads": 2, "num_key_value_heads": 2,
    "num_hidden_layers": 1, "intermediate_size": 64, "vocab_size": 256, "max_position_embeddings": 32,
    "rms_norm_eps": 1e-5, "hidden_act": "silu",
}  # fmt: skip
"""A configuration of Llama's."""


OLD = ("deepseek_v3", "gemma3", "jamba", "lfm2_moe", "qwen3_5_moe", *sorted(RENAMED.keys() & types().keys()))
"""Types whose published checkpoints have an expert a tensor, or other names."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "kind", ["qwen3", "mixtral", *(pytest.param(kind, marks=pytest.mark.slow) for kind in OLD if kind != "mixtral")]
)
def test_there_and_back(kind: str, tmp_path: Path) -> None:
    """What is imported, and exported to a folder like it, has the same tensors, under the published names."""
    folder = saved(kind, tmp_path)
    imported = import_document(folder)
    import_weights(imported, folder, tmp_path / "a.safetensors")
    export_weights(tmp_path / "a.safetensors", folder, tmp_path / "back")
    before, after = read_checkpoint(folder), read_checkpoint(tmp_path / "back")
    assert before.keys() == after.keys()
    for name, tensor in before.items():  # gains that are stored less one, and weights times a constant, are rounded
        torch.testing.assert_close(after[name], tensor, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_it_trains_with_its_tokenizer(folder: Path, tmp_path: Path) -> None:
    """A tokenizer.json in the folder becomes the document's task, by its path from where the document will stand."""
    assert import_document(folder, tmp_path).document == import_document(folder).document
    vocab = {"model": {"vocab": {"a": 0, "b": 1}}, "added_tokens": [{"id": 1}, {"id": 2}]}
    (folder / "tokenizer.json").write_text(json.dumps(vocab))
    task = to_data(import_document(folder, tmp_path / "docs").document)["train"]["task"]
    assert task == {"kind": "tokens", "tokenizer": "../qwen3/tokenizer.json", "tokens": 3}


@pytest.mark.filterwarnings("ignore")
def test_another_architecture_is_refused(folder: Path, tmp_path: Path) -> None:
    """A folder whose configuration says another model is EVO654."""
    imported = import_document(folder)
    import_weights(imported, folder, tmp_path / "a.safetensors")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1e-3}))
    with pytest.raises(Exception, match="EVO654"):
        export_weights(tmp_path / "a.safetensors", folder, tmp_path / "back")


@pytest.mark.parametrize(
    "changed",
    [
        {"num_attention_heads": 0},
        {"num_hidden_layers": 1e9},
        {"num_hidden_layers": 10**9},
        {"num_hidden_layers": -1},
        {"hidden_size": "x"},
        {"hidden_size": None},
        {"rope_scaling": [1]},
        {"rope_scaling": {"rope_type": "llama3"}},
        {"rope_theta": {}},
    ],
)
def test_values_of_another_kind_are_told(tmp_path: Path, changed: dict[str, Any]) -> None:
    """A configuration that was edited, or is none of that type, is a diagnostic at once."""
    file = tmp_path / "config.json"
    file.write_text(json.dumps(LLAMA))
    assert import_document(file).type == "llama"
    file.write_text(json.dumps(LLAMA | changed))
    with pytest.raises(DiagnosticError, match="EVO651"):
        import_document(file)


def test_an_unknown_type_is_read_as_a_known_one(evo: Evo, tmp_path: Path) -> None:
    """With nothing in it that the known one's family passes over; else what that is, and the nearest type, are told."""
    file, strange = tmp_path / "config.json", {**LLAMA, "model_type": "stranger", "bos_token_id": 1, "logit_scale": 0}
    file.write_text(json.dumps(LLAMA))
    known = import_document(file)
    file.write_text(json.dumps(strange))
    assert "`evo import --as llama`" in evo("import", file).err
    assert import_document(file, kind="llama") == known
    file.write_text(json.dumps(strange | {"logit_scale": 2.0, "wavelets": 3}))
    assert "nearest is 'llama', which does not understand logit_scale, wavelets" in evo("import", file).err
    told = evo("import", file, "--as", "llama")
    assert (told.code, told.err.split()[0]) == (1, "EVO652")
    assert "logit_scale, wavelets" in told.err
    assert "did you mean 'llama'?" in evo("import", file, "--as", "lama").err


@pytest.mark.filterwarnings("ignore")
def test_a_stranger_goes_back(folder: Path, tmp_path: Path) -> None:
    """Weights of an unknown type are exported as what it was read as, beside its own configuration."""
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "model_type": "stranger", "max_window_layers": 0}))
    imported = import_document(folder, kind="qwen3")
    import_weights(imported, folder, tmp_path / "a.safetensors")
    export_weights(tmp_path / "a.safetensors", folder, tmp_path / "back", "qwen3")
    assert read_checkpoint(tmp_path / "back").keys() == read_checkpoint(folder).keys()
    assert json.loads((tmp_path / "back" / "config.json").read_text())["model_type"] == "stranger"


def test_a_configuration_without_end_is_not_read(tmp_path: Path) -> None:
    """A device, and text that nests too deeply, are no configurations."""
    (tmp_path / "config.json").symlink_to("/dev/zero")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    for path in (tmp_path, tmp_path / "deep.json"):
        with pytest.raises(DiagnosticError, match="EVO650"):
            import_document(path)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", "EVO650"),
        ('{"vocab_size": 3}', "EVO650"),
        ('{"model_type": "llama"}', "EVO651"),
        ('{"model_type": "lama"}', "EVO652"),
        ('{"model_type": "gpt2", "scale_attn_by_inverse_layer_idx": true, "n_embd": 8, "n_head": 2}', "EVO652"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, text: str, code: str) -> None:
    """Files that are no configuration, lack a key, or say what the language cannot are diagnostics."""
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(Exception, match=code):
        import_document(tmp_path)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({}, "'blt' makes no sense: 'encoder_config' is to be a configuration of its own, found None"),
        (
            {f"{name}_config": {} for name in ("encoder", "decoder", "global", "patcher")},
            "a 'encoder_config' has no",
        ),
    ],
)
def test_a_part_that_lacks_a_key_is_named(tmp_path: Path, parts: dict[str, Any], said: str) -> None:
    """Of a configuration that holds others, a message says which of them it means."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "blt", "vocab_size": 260, **parts}))
    with pytest.raises(DiagnosticError) as raised:
        import_document(tmp_path)
    assert said in raised.value.diagnostics[0].message


def test_a_folder_that_is_not_there_is_told_in_plain_words(tmp_path: Path) -> None:
    """The message has no number of the system's, and says what is wanted."""
    with pytest.raises(DiagnosticError) as raised:
        import_document(tmp_path / "nowhere")
    [fault] = raised.value.diagnostics
    assert (fault.code, "Errno" in fault.message, "config.json" in str(fault.help)) == ("EVO650", False, True)


@pytest.mark.parametrize(
    ("to", "name"),
    [("hf", "config.json"), ("hf", "model.safetensors"), ("torch", "model.safetensors"), ("onnx", "model.onnx")],
)
def test_an_export_replaces_no_file(evo: Evo, tmp_path: Path, to: str, name: str) -> None:
    """The folder may be that of the very model that was imported: its weights stay."""
    (tmp_path / name).write_text("mine")
    like = ("--like", tmp_path) if to == "hf" else ()
    told = evo("export", tmp_path / "a.safetensors", "--to", to, *like, "--out", tmp_path)
    assert (told.code, told.err.split()[0]) == (1, "EVO601")
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.filterwarnings("ignore")
def test_a_pass_beyond_the_context_is_refused(evo: Evo, folder: Path, tmp_path: Path) -> None:
    """It is not cut to the context without a word."""
    imported = import_document(folder)
    import_weights(imported, folder, tmp_path / "a.safetensors")
    longer = imported.document.organism.context + 1
    told = evo("export", tmp_path / "a.safetensors", "--to", "torch", "--length", longer, "--out", tmp_path / "t")
    assert told.code == 2
    assert "more than the context" in told.err
    assert not (tmp_path / "t").exists()


def test_damaged_weights_are_told(tmp_path: Path) -> None:
    """Bytes that are no safetensors file are EVO653."""
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 300)
    with pytest.raises(DiagnosticError, match="EVO653"):
        read_checkpoint(tmp_path)
