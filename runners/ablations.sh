#!/usr/bin/env bash
# Does the search earn its keep? The same budget with rungs, with and without inherited weights, and with plain elitism (cold from the start).
set -euo pipefail
base=examples/first.yaml
for name in inherit fresh cold; do
  evo apply "runners/ablations/$name.patch.yaml" "$base" --out "results/ablations/$name.yaml"
  evo evolve "results/ablations/$name.yaml" --generations 6 --population 12 --seed 1 --out "results/ablations/$name"
done
