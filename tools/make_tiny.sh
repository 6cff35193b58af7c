#!/usr/bin/env bash
# Train the tiny model from nothing on MiniRVOS: fourteen runs of tools/train.py, about 100 minutes on 2 cores.
# The first twelve stand for what SAM2 and InternVL come with; the last two are the stages of the method.
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

side_by_side() {  # two lists of stages in quotes, one core each
    { for name in $1; do stage "$name" 1 || exit; done; } > /dev/null &
    local first=$!
    trap 'kill "$first" 2> /dev/null || true' EXIT
    for name in $2; do stage "$name" 1; done
    wait "$first"
    trap - EXIT
}

side_by_side "tiny_sam2 tiny_sam2_fine" "tiny_vision tiny_vision_fine"
for name in tiny_language tiny_plain tiny_plain_fine tiny_plain_clips tiny_plain_clips_fine; do
    stage "$name" 2
done
side_by_side tiny_sam2_world tiny_vision_world
for name in tiny_align tiny_stage1 tiny_stage2; do
    stage "$name" 2
done
"$python" tools/tiny_card.py "$folder"
