#!/usr/bin/env bash
# A night on one machine: many generations from several seeds, on every core or on the GPU. Run it again to go on after a stop.
set -euo pipefail
out=results/overnight
if [ -e "$out/run.yaml" ]; then
  evo resume "$out"
else
  evo evolve examples/*.yaml --generations 40 --population 32 --seed 0 --max-seconds 600 --out "$out"
fi
