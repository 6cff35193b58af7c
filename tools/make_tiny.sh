#!/usr/bin/env bash
# Train the tiny model from nothing on MiniRVOS: nine runs of tools/train.py, about 50 minutes on 2 cores.
# Segmenter and vision tower do not need each other and run side by side, one core each.
#   bash tools/make_tiny.sh [FOLDER]     FOLDER: where the model goes, default pretrained/tiny/streamingrvos
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=${1:-pretrained/tiny/streamingrvos}
python=${PYTHON:-.venv/bin/python}
configs=projects/streamingrvos/configs
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"

stage() {  # name, threads, further arguments
    local name=$1 threads=$2
    shift 2
    rm -rf "work_dirs/$name"
    OMP_NUM_THREADS=$threads "$python" tools/train.py "$configs/$name.py" "$@"
}

{ stage tiny_sam2 1 && stage tiny_sam2_fine 1; } > /dev/null &
sam2=$!
trap 'kill "$sam2" 2> /dev/null || true' EXIT
stage tiny_vision 1
stage tiny_vision_fine 1
wait "$sam2"
trap - EXIT
stage tiny_language 2
stage tiny_stage1 2
stage tiny_stage1_fine 2
stage tiny_stage2 2
stage tiny_stage2_fine 2
"$python" tools/tiny_card.py "$folder"
