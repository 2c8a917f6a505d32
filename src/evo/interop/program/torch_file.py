"""One Python file that only needs torch, and its weights beside it."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from evo.base.files import write_atomic
from evo.compiler.organism import Organism
from evo.interop.program.text import Program, write
from evo.interop.program.trace import trace

FILE, WEIGHTS = "model.py", "model.safetensors"


def write_torch(organism: Organism, name: str, length: int, is_causal: bool, out: Path) -> int:
    """Write `model.py` and `model.safetensors` to a folder; gives the number of lines.

    Args:
        organism: of no use afterwards.
        length: tokens that a pass takes; fewer are padded, where no output sees what comes after.

    Raises:
        DiagnosticError: as `trace`.
    """
    weights = {path: weight.detach().clone() for path, weight in organism.named_parameters()}
    vocab = organism.plan.vocab
    program = program_of(trace(organism, length))
    text = "\n".join(
        [
            HEAD.format(name=name, weights=WEIGHTS, length=length, vocab=vocab, is_causal=is_causal),
            *(f"{function}\n\n" for function in program.functions),
            f"def forward(w, tokens):\n{program.forward}\n",
            TAIL,
        ]
    )
    out.mkdir(parents=True, exist_ok=True)
    tensors = {**weights, **program.constants}
    write_atomic(out / WEIGHTS, save({key: value.contiguous() for key, value in tensors.items()}, {"format": "pt"}))
    write_atomic(out / FILE, text)
    return len(text.splitlines())


def program_of(exported: ExportedProgram) -> Program:
    """The text of a traced pass."""
    weights: dict[str, str] = {}
    constants: dict[str, Tensor] = {}
    for spec in exported.graph_signature.input_specs:
        if spec.kind is InputKind.PARAMETER:
            weights[spec.arg.name] = str(spec.target)
        elif spec.kind is not InputKind.USER_INPUT:
            held = {**exported.state_dict, **exported.constants}[str(spec.target)]
            assert isinstance(held, torch.Tensor)
            constants[spec.arg.name] = held.detach().clone()
    exported.graph.eliminate_dead_code()
    return write(list(exported.graph.nodes), weights, constants)


HEAD = '''"""{name}: a language model as plain torch. Written by `evo export`; needs this file, {weights} and torch.

    model = load()
    logits = model(torch.tensor([[72, 105]]))      # (B, T) int64 -> (B, T, {vocab}), T at most {length}

`forward` is the whole pass; the functions above it are its blocks, and `w["name"]` is a weight below a block's path.
"""

import json
from pathlib import Path

import torch
from torch import nn

aten = torch.ops.aten
LENGTH = {length}
"""Tokens of a pass; shorter sequences are padded."""
IS_CAUSAL = {is_causal}
"""Whether no output sees later tokens, so that padding changes nothing."""


'''

TAIL = '''
class Weights:
    """Tensors by name, those below a path."""

    def __init__(self, tensors, path=""):
        self.tensors, self.path = tensors, path

    def __getitem__(self, name):
        return self.tensors[self.path + name]

    def at(self, path):
        return Weights(self.tensors, f"{path}.")

    @property
    def device(self):
        return next(iter(self.tensors.values())).device


class Model(nn.Module):
    """The model of some tensors by name; those that begin with `constants.` are not trained."""

    def __init__(self, tensors):
        super().__init__()
        self.names = {name: name.replace(".", "/") for name in tensors}
        for name, tensor in tensors.items():
            if name.startswith("constants."):
                self.register_buffer(self.names[name], tensor)
            else:
                self.register_parameter(self.names[name], nn.Parameter(tensor))

    def forward(self, tokens):
        """Logits for the token after each, (B, T) int64 -> (B, T, V)."""
        length = tokens.shape[1]
        if length > LENGTH or (length < LENGTH and not IS_CAUSAL):
            raise ValueError(f"this model takes {LENGTH} tokens, found {length}")
        padded = nn.functional.pad(tokens, (0, LENGTH - length))
        return forward(Weights({name: getattr(self, own) for name, own in self.names.items()}), padded)[:, :length]


def read(path):
    """The tensors of a safetensors file."""
    data = Path(path).read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    dtypes = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    dtypes |= {"I64": torch.int64, "I32": torch.int32, "U8": torch.uint8, "BOOL": torch.bool}
    found = {}
    for name, entry in json.loads(data[8:start]).items():
        if name != "__metadata__":
            first, last = (start + offset for offset in entry["data_offsets"])
            flat = torch.frombuffer(bytearray(data[first:last]) or bytearray(8), dtype=dtypes[entry["dtype"]])
            found[name] = flat[: torch.Size(entry["shape"]).numel()].reshape(entry["shape"])
    return found


def load(path=None):
    """The model with the weights beside this file, or of another file."""
    return Model(read(path or Path(__file__).with_name("model.safetensors")))
'''
