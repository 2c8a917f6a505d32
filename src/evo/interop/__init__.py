"""Models of other tools: their configurations as documents, their checkpoints as weights, and back.

Holds: `families/`, one small file for each line of architectures, which says what a configuration means and where each
weight lies; `parts.py`, the pieces that such files are made of; `assemble.py`, which makes the shortest document of
layers; `config.py` and `weights.py`, the files themselves. `README.md` tells how a family is added.

May import: training and below. Never done here: importing the other tool; loading torch to read a configuration;
guessing at a setting that a family does not know.
"""
