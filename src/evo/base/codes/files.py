"""0xx: files and the command line."""

from __future__ import annotations

from evo.base.codes.code import Code

FILES = {
    "EVO001": Code(
        "A file cannot be read",
        "The file is not there, is a folder without documents, or the system refuses to open it.",
        "evo validate exampels/first.yaml",
        "evo validate examples/first.yaml",
        "command",
    ),
    "EVO002": Code(
        "A file is too large",
        "Documents are read up to a megabyte, some hundred times the size of a large one. A larger file is data that "
        "was named by mistake.",
        source="command",
    ),
    "EVO003": Code(
        "A file is not UTF-8 text",
        "The line holds bytes that are no UTF-8. Convert the file, or check that it is not an archive or a checkpoint.",
        source="command",
    ),
    "EVO004": Code(
        "A file cannot be written, or the system failed",
        "The operating system refused: no permission, a folder where a file should go.",
        source="command",
    ),
    "EVO005": Code(
        "Nothing of that name to explain",
        "`evo explain` knows the codes that evo prints (`evo explain codes`), and the sections, roles, kinds and "
        "fields of the language; this is none of them, and no file either.",
        "evo explain attention.haeds",
        "evo explain attention.heads",
        "command",
    ),
    "EVO006": Code(
        "evo itself failed",
        "A fault of evo, not of what it was given. Nothing else is wrong with the command line or the document as far "
        "as this says. The traceback was written to the file that the message names; `evo --debug COMMAND ...` prints "
        "it instead. The exit status is 70.",
        source="command",
    ),
    "EVO007": Code(
        "No room is left",
        "The disk, or your share of it, is full. Files are written whole or not at all and a journal loses nothing "
        "that it has acknowledged, so that with room the same command, or `evo resume DIR`, goes on.",
        source="command",
    ),
    "EVO008": Code(
        "Not enough memory",
        "An allocation failed, on the host or on the device. Activations grow with batch times context times width; "
        "a search needs that much for each of its workers.",
        source="command",
    ),
    "EVO009": Code(
        "A port cannot be listened on",
        "Another program, or another `evo serve`, has it already, or the system keeps it for itself.",
        "evo serve results/demo --port 80",
        "evo serve results/demo --port 0",
        "command",
    ),
}
