#!/usr/bin/env bash
# Real sizes with random weights in bf16 on a GPU, about 8 minutes:  bash tools/bench_gpu.sh [OUTPUT_FOLDER]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=${1:-outputs/bench}
python=${PYTHON:-python}
for mllm in internvl2_5-1b internvl2_5-4b; do
    "$python" -m refstream bench real --random-init "$mllm+sam2.1-large" --device cuda --dtype bfloat16 \
        --out "$out/bench_gpu_${mllm#internvl2_5-}.json"
done
