"""Models in one GGUF file: their settings as a configuration, their tensors under the names that families know.

Names, and how quantised numbers are read, are those of the package `gguf`; the rest is in `gguf_lines.py`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evo.base.diagnostics import Diagnostic, DiagnosticError, suggestion
from evo.interop.config import Config, refuse
from evo.interop.gguf_lines import KEYS, LINES, PARTS, UNREAD, YARN_KEYS, Line
from evo.interop.parts import Data

if TYPE_CHECKING:
    from torch import Tensor

SUFFIX = ".gguf"
ONE_ROW = "ffn_gate_inp_shexp"
"""The one map to a single number: a vector in files."""
GLOBAL, LOCAL = "full_attention", "sliding_attention"


def gguf_config(path: Path) -> Config:
    """The settings of a file.

    Raises:
        DiagnosticError: it is none (EVO650), of an architecture or with a setting that is not covered (EVO652), or the
            package is missing (EVO656).
    """
    reader = _opened(path)
    line, name = _line(reader, path)

    def said(key: str) -> Any:
        field = reader.get_field(f"{name}.{key}")
        return None if field is None else field.contents()

    found: Data = {ours: value for ours, theirs in KEYS.items() if (value := said(theirs)) is not None}
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    kind = line.with_experts if line.with_experts and found.get("num_experts") else line.type
    found |= {"model_type": kind, **line.fixed, "tie_word_embeddings": "output.weight" not in tensors}
    found["vocab_size"] = int(tensors["token_embd.weight"].shape[-1])
    found["attention_bias"] = "blk.0.attn_output.bias" in tensors
    config = Config(found)
    for key in UNREAD:
        if said(key) not in (None, 0, 1.0):
            raise refuse(config, f"`{name}.{key}` in a GGUF file")
    if isinstance(found["num_attention_heads"], list) or isinstance(found.get("num_key_value_heads"), list):
        raise refuse(config, "another number of heads in each layer")
    head_dim = found.get("head_dim") or found["hidden_size"] // found["num_attention_heads"]
    is_by_width = found["num_hidden_layers"] == line.by_width
    found["query_pre_attn_scalar"] = found["hidden_size"] / found["num_attention_heads"] if is_by_width else head_dim
    position = {"rope_theta": float(said("rope.freq_base") or 10000.0), "rope_type": "default"}
    position |= _scaling(config, said, tensors)
    if (turned := said("rope.dimension_count")) not in (None, head_dim):
        position["partial_rotary_factor"] = turned / head_dim
    found["rope_parameters"] = position
    if line.locals:
        found |= _local(line, found, said("rope.freq_base_swa"))
    return Config(found)


def gguf_tensors(path: Path, names: Iterable[str]) -> dict[str, Tensor]:
    """The tensors of a file that stand for those of a checkpoint, in float32; a name may be several, `|` between.

    Raises:
        DiagnosticError: as `gguf_config`. A tensor that is not there is left out.
    """
    import torch

    reader = _opened(path)
    line, name = _line(reader, path)
    package = importlib.import_module("gguf")
    numbers = {word: number for number, word in package.MODEL_ARCH_NAMES.items()}
    blocks = reader.get_field(f"{name}.block_count").contents()
    named = package.get_tensor_name_map(numbers[name], blocks)
    heads = {"attn_q": reader.get_field(f"{name}.attention.head_count").contents()}
    groups = reader.get_field(f"{name}.attention.head_count_kv")
    heads["attn_k"] = heads["attn_q"] if groups is None else groups.contents()
    held = {tensor.name: tensor for tensor in reader.tensors}

    def values_of(wanted: str) -> Tensor | None:
        theirs = named.get_name(wanted, try_suffixes=(".weight", ".bias"))
        theirs = theirs if theirs in held else f"{theirs}.weight"  # stacks of experts have no suffix in checkpoints
        if theirs not in held:
            return None
        tensor = held[theirs]
        values = torch.from_numpy(package.quants.dequantize(tensor.data, tensor.tensor_type).copy()).float()
        part = theirs.split(".")[-2]
        if line.is_paired and part in heads:
            values = values.unflatten(0, (heads[part], -1, 2)).transpose(1, 2).flatten(0, 2)
        if line.is_one_plus and part.endswith("norm"):
            values = values - 1.0
        return values[None] if part == ONE_ROW else values.contiguous()

    found: dict[str, Tensor] = {}
    for wanted in {one for several in names for one in several.split("|")}:
        above, _, last = wanted.rpartition(".")
        parts = [values_of(f"{above}.{part}") for part in PARTS.get(last, (last,))]
        there = [part for part in parts if part is not None]
        if len(there) == len(parts):
            found[wanted] = there[0] if len(there) == 1 else torch.cat(there, dim=1)
    return found


def _opened(path: Path) -> Any:
    try:
        package = importlib.import_module("gguf")
    except ImportError:
        message = f"{path} is read by a package that is not installed"
        raise DiagnosticError([Diagnostic("EVO656", message, None, "pip install evo[gguf]")]) from None
    try:
        return package.GGUFReader(path)
    except FileNotFoundError:
        raise DiagnosticError([Diagnostic("EVO001", f"no such file: {path}")]) from None
    except (OSError, ValueError, IndexError, KeyError, TypeError) as error:
        raise DiagnosticError([Diagnostic("EVO650", f"{path} is no GGUF file, or damaged: {error}")]) from None


def _line(reader: Any, path: Path) -> tuple[Line, str]:
    """What its architecture changes, and what it is called."""
    field = reader.get_field("general.architecture")
    name = "" if field is None else str(field.contents())
    if name not in LINES:
        message = f"{path} is of the architecture '{name}', which evo does not read from GGUF files"
        help = f"{suggestion(name, LINES)}these are: {', '.join(sorted(LINES))}"
        raise DiagnosticError([Diagnostic("EVO652", message, None, help)])
    return LINES[name], name


def _scaling(config: Config, said: Any, tensors: dict[str, Any]) -> Data:
    """How the rotation is stretched: by factors in a tensor of their own, or as a key says."""
    kind = said("rope.scaling.type") or "none"
    if "rope_factors_long.weight" in tensors:
        raise refuse(config, "rotations with other factors beyond the context that was trained on")
    if "rope_freqs.weight" in tensors:
        factors = [float(x) for x in tensors["rope_freqs.weight"].data]
        return {"rope_type": "longrope", "attention_factor": 1.0, "long_factor": factors, "short_factor": factors}
    if kind == "none":
        return {}
    if kind == "yarn":
        parts = {ours: said(theirs) for ours, theirs in YARN_KEYS.items() if said(theirs) is not None}
        return {"rope_type": "yarn", "factor": float(said("rope.scaling.factor")), **parts}
    if kind != "linear":
        raise refuse(config, f"rope scaling '{kind}' in a GGUF file")
    return {"rope_type": "linear", "factor": float(said("rope.scaling.factor"))}


def _local(line: Line, found: Data, theta: Any) -> Data:
    """The kinds of layers: windows, and every so many a layer that sees all, which may turn otherwise."""
    kinds = [LOCAL if (i + 1) % line.locals else GLOBAL for i in range(found["num_hidden_layers"])]
    position = found["rope_parameters"]
    if line.local_theta is None:
        return {"layer_types": kinds}
    local = {"rope_type": "default", "rope_theta": float(theta or line.local_theta)}
    return {"layer_types": kinds, "rope_parameters": {GLOBAL: position, LOCAL: local}}
