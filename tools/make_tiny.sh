#!/usr/bin/env bash
# Train the tiny models on MiniRVOS, by runs of tools/train.py.
#   bash tools/make_tiny.sh [METHOD ...]     default: all, about three hours on 2 cores
# streamingrvos starts from nothing: twelve runs stand for what SAM2 and InternVL come with, two are its stages
# (about 100 minutes). The others start from its parts. Segmenter and vision tower do not need each other and
# run side by side, one core each.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
methods=${*:-streamingrvos virst streamo spot}
python=${PYTHON:-.venv/bin/python}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"

stage() {  # name, threads, further arguments
    local name=$1 threads=$2
    shift 2
    rm -rf "work_dirs/$runs$name"
    OMP_NUM_THREADS=$threads "$python" tools/train.py "projects/$method/configs/$name.py" "$@"
}

side_by_side() {  # two lists of stages in quotes, one core each
    { for name in $1; do stage "$name" 1 || exit; done; } > /dev/null &
    local first=$!
    trap 'kill "$first" 2> /dev/null || true' EXIT
    for name in $2; do stage "$name" 1; done
    wait "$first"
    trap - EXIT
}

for method in $methods; do
    runs=$method/
    case $method in
        streamingrvos)
            runs=
            side_by_side "tiny_sam2 tiny_sam2_fine" "tiny_vision tiny_vision_fine"
            for name in tiny_language tiny_plain tiny_plain_fine tiny_plain_clips tiny_plain_clips_fine; do
                stage "$name" 2
            done
            side_by_side tiny_sam2_world tiny_vision_world
            for name in tiny_align tiny_stage1 tiny_stage2; do stage "$name" 2; done
            ;;
        virst) for name in tiny_memory tiny_memory_fit tiny_stage1 tiny_stage2 tiny_stage3; do stage "$name" 1; done ;;
        streamo) for name in tiny_stills tiny tiny_longer; do stage "$name" 1; done ;;
        spot)
            stage tiny_sam2 1
            rm -rf work_dirs/spot/tiny_stills
            OMP_NUM_THREADS=1 bash tools/dist.sh train projects/spot/configs/tiny_stills.py 2
            stage tiny 1
            ;;
        *)
            echo "no tiny model of $method; there are streamingrvos, virst, streamo and spot" >&2
            exit 2
            ;;
    esac
    "$python" tools/tiny_card.py "$method"
done
