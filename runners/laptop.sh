#!/usr/bin/env bash
# A laptop's story, about ten minutes on two cores: look at an organism, train it, let it write, evolve it, read what came out.
set -euo pipefail
evo explain examples/first.yaml
evo train examples/first.yaml --steps 300 --out results/laptop-train
evo generate results/laptop-train --prompt "ROMEO:" --tokens 200
evo evolve examples/first.yaml --generations 4 --population 8 --seed 0 --out results/laptop
evo diff results/laptop/gen_0000/variant_00.yaml results/laptop/gen_0004/variant_00.yaml
