#!/usr/bin/env bash
# Run one of tools/*.py on N GPUs of this machine, or of several machines:
#   bash tools/dist.sh train projects/streamingrvos/configs/1b_stage1.py 4 [--cfg-options key=value ...]
# On each of several machines, with NODE_RANK counting from 0:
#   NNODES=2 NODE_RANK=0 MASTER_ADDR=10.0.0.1 PORT=29500 bash tools/dist.sh train CONFIG 8
set -euo pipefail

if [ "$#" -lt 3 ]; then
    echo "usage: bash tools/dist.sh train|test CONFIG NUM_GPUS [arguments of tools/train.py ...]" >&2
    exit 2
fi
task=$1 config=$2 num_gpus=$3
shift 3

tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
script=$tools/$task.py
if [ ! -f "$script" ]; then
    echo "no such task: $task (looked for $script)" >&2
    exit 2
fi
if [ ! -f "$config" ]; then
    echo "no such config: $config" >&2
    exit 2
fi
if ! [[ $num_gpus =~ ^[1-9][0-9]*$ ]]; then
    echo "NUM_GPUS must be a whole number from 1, got: $num_gpus" >&2
    exit 2
fi

python=${PYTHON:-}
if [ -z "$python" ]; then
    python=$tools/../.venv/bin/python
    [ -x "$python" ] || python=python3
fi
export PYTHONPATH="$tools/..${PYTHONPATH:+:$PYTHONPATH}"
exec "$python" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" --nproc_per_node="$num_gpus" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" \
    "$script" "$config" --launcher pytorch "$@"
