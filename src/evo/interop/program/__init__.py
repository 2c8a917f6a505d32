"""An organism as a program of another tool: traced once, then written as one torch file or as ONNX.

Holds: `trace.py`, from organism to graph; `text.py`, from graph to Python; `torch_file.py`,
`onnx_file.py`, the files.
Nothing here knows a kind of block: whatever torch can trace is written.
"""
