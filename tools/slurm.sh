#!/usr/bin/env bash
# Run one of tools/*.py under Slurm, one process per GPU:
#   bash tools/slurm.sh PARTITION JOB_NAME train projects/streamingrvos/configs/1b_stage1.py 16 [arguments ...]
# GPUS_PER_NODE (8) and CPUS_PER_TASK (5) shape the request; SRUN_ARGS is passed to srun as it is; PORT is where
# the processes meet.
set -euo pipefail

if [ "$#" -lt 5 ]; then
    echo "usage: bash tools/slurm.sh PARTITION JOB_NAME train|test CONFIG|MODEL NUM_GPUS [arguments ...]" >&2
    exit 2
fi
partition=$1 job=$2 task=$3 config=$4 num_gpus=$5
shift 5

tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
per_node=${GPUS_PER_NODE:-8}
if [ ! -f "$tools/$task.py" ]; then
    echo "no such task: $task (looked for $tools/$task.py)" >&2
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
[ "$num_gpus" -ge "$per_node" ] || per_node=$num_gpus
if [ $((num_gpus % per_node)) -ne 0 ]; then
    echo "NUM_GPUS must be below GPUS_PER_NODE ($per_node) or a multiple of it, got: $num_gpus" >&2
    exit 2
fi
python=${PYTHON:-python3}
export PYTHONPATH="$tools/..${PYTHONPATH:+:$PYTHONPATH}"
# one port for all processes, another one for every job
export MASTER_PORT="${PORT:-$((20000 + $$ % 10000))}"
# shellcheck disable=SC2086  # SRUN_ARGS is a list of words on purpose
exec srun --partition="$partition" --job-name="$job" --gres="gpu:$per_node" --ntasks="$num_gpus" \
    --ntasks-per-node="$per_node" --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    "$python" -u "$tools/$task.py" "$config" --launcher slurm "$@"
