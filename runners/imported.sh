#!/usr/bin/env bash
# Does a change of architecture help a model that is trained already? Imports one, and trains it and its mutants on from
# its weights, as far as these fit, at equal training FLOPs. MODEL: a folder with config.json, safetensors and perhaps
# tokenizer.json, or a .gguf file. FLOPS, COUNT and CONTEXT set how much.
set -euo pipefail
model=${1:?usage: imported.sh MODEL [FOLDER]} out=${2:-results/imported}
mkdir -p "$out"
evo import "$model" --out "$out/imported.yaml" --weights "$out/imported.safetensors"
settings=(--set "train.budget={flops: ${FLOPS:-1e13}}" --set "train.context=${CONTEXT:-128}" --set train.batch=4)
evo mutate "$out/imported.yaml" "${settings[@]}" --set 'evolve.freeze=[train]' --count "${COUNT:-8}" --out "$out/mutants"
for document in "$out/imported.yaml" "$out"/mutants/child_???.yaml; do
  name=$(basename "$document" .yaml)
  evo train "$document" "${settings[@]}" --from "$out/imported.safetensors" --out "$out/trained/$name"
done
evo compare "$out/imported.yaml" "$out"/mutants/child_???.yaml
