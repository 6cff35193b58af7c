#!/usr/bin/env bash
# Run one of tools/*.py on N GPUs of this machine (or N processes on its CPU), or of several machines:
#   bash tools/dist.sh train projects/streamingrvos/configs/1b_stage1.py 4 [--cfg-options key=value ...]
#   bash tools/dist.sh test MODEL 4 --benchmark mevis
# On each of several machines, with NODE_RANK counting from 0:
#   NNODES=2 NODE_RANK=0 MASTER_ADDR=10.0.0.1 PORT=29500 bash tools/dist.sh train CONFIG 8
# One machine takes a free port unless PORT names one. --max-restarts N starts all processes anew after a failure,
# up to N times; training then goes on from the last checkpoint.
set -euo pipefail

if [ "$#" -lt 3 ]; then
    echo "usage: bash tools/dist.sh train|test CONFIG|MODEL NUM_GPUS [--max-restarts N] [arguments of tools/<task>.py ...]" >&2
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
if [ ! -e "$config" ]; then
    echo "no such config or model folder: $config" >&2
    exit 2
fi
if ! [[ $num_gpus =~ ^[1-9][0-9]*$ ]]; then
    echo "NUM_GPUS must be a whole number from 1, got: $num_gpus" >&2
    exit 2
fi

restarts=0 rest=()
while [ "$#" -gt 0 ]; do
    case $1 in
        --max-restarts=* | --max_restarts=*) restarts=${1#*=} ;;
        --max-restarts | --max_restarts) restarts=${2:-} && [ "$#" -eq 1 ] || shift ;;
        *) rest+=("$1") ;;
    esac
    shift
done
if ! [[ $restarts =~ ^[0-9]+$ ]]; then
    echo "--max-restarts must be a whole number from 0, got: $restarts" >&2
    exit 2
fi

nnodes=${NNODES:-1} rank=${NODE_RANK:-0} address=${MASTER_ADDR:-127.0.0.1} port=${PORT:-29500}
if [ "$nnodes" = 1 ] && [ -z "${PORT:-}" ]; then
    meeting=(--standalone --local-addr=127.0.0.1)
else
    if [ "$rank" = 0 ] && (exec 3<>"/dev/tcp/$address/$port") 2>/dev/null; then
        echo "port $port of $address is taken; choose another with PORT=... (the same on all machines)" >&2
        exit 2
    fi
    meeting=(--node_rank="$rank" --master_addr="$address" --master_port="$port")
fi

python=${PYTHON:-}
if [ -z "$python" ]; then
    python=$tools/../.venv/bin/python
    [ -x "$python" ] || python=python3
fi
export PYTHONPATH="$tools/..${PYTHONPATH:+:$PYTHONPATH}"
exec "$python" "$tools/launch.py" --nnodes="$nnodes" --nproc_per_node="$num_gpus" "${meeting[@]}" \
    --max_restarts="$restarts" "$script" "$config" --launcher pytorch "${rest[@]}"
