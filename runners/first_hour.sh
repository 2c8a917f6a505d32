#!/usr/bin/env bash
# The first hour of a researcher, without a look into the source: about ten minutes on two cores.
# It works in a new folder (the first argument, or first-hour) with nothing but the command `evo`; QUICK=1 takes small steps.
set -euo pipefail
mkdir -p "${1:-first-hour}"
cd "${1:-first-hour}"
steps=200 generations=4 population=8 sizes=()
if [ -n "${QUICK:-}" ]; then
  steps=4 generations=1 population=2
  sizes=(--set organism.width=32 --set organism.context=32 --set organism.stages.body.repeat=1)
fi
say() { printf '\n== %s\n' "$*"; }

say "What is there to begin with?"
evo new --list | sed -n 1,5p
evo new mine --from first --force
evo validate mine.yaml

say "What does it build, and what do its words mean?"
evo explain mine.yaml "${sizes[@]}" | tail -7
evo explain attention.kv_heads
evo explain train.optimizer
evo render mine.yaml | sed -n 1,8p

say "A variation of it in a few lines"
cat > window.yaml <<'YAML'
evo: 1
extends: mine.yaml
name: window
organism:
  stages:
    body: {mix: {stencil: {kind: window, size: 16}}}
YAML
evo diff mine.yaml window.yaml

say "A wrong document"
evo validate mine.yaml --set train.steps=many || true

say "Train both over two seeds"
for name in mine window; do
  evo train "$name.yaml" --set train.steps="$steps" "${sizes[@]}" --seeds 2 --out "results/train-$name" | tail -1
done
evo generate results/train-mine/seed_0 --prompt "ROMEO:" --tokens 80

say "What would a search take? Then the search."
search=(mine.yaml window.yaml --generations "$generations" --population "$population" --seed 0 "${sizes[@]}"
        --set train.steps="$steps")
evo evolve "${search[@]}" --dry-run
evo evolve "${search[@]}" --verify '{seeds: 2}' --force --out results/search

say "Read what came out"
evo runs results
evo elites results/search
evo elites results/search --csv > elites.csv
evo compare results/search/gen_0000/variant_00.yaml results/search
evo status results/search

say "Go on: more generations, and a longer training of the best"
evo resume results/search --generations $((generations + 1)) | tail -3
best=$(evo elites results/search --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["elites"][0]["file"])')
evo train "results/search/${best%.yaml}.safetensors" --steps $((2 * steps)) --out results/best | tail -1
evo prune results/search
say "The report is results/search/report.html"
