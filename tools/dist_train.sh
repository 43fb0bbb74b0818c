#!/usr/bin/env bash
# Usage: tools/dist_train.sh CONFIG GPUS [flags of tools/train.py]
# Several nodes: run it on each with NNODES, NODE_RANK, MASTER_ADDR and PORT set; or, where nodes meet by themselves and
# may come back, with NNODES (4, or 2:4) and RDZV_ENDPOINT=host:port. MAX_RESTARTS=3 starts all processes again after a
# crash, from the last whole checkpoint.
set -euo pipefail
if [ $# -lt 2 ]; then
    sed -n '2,5s/^# //p' "$0" >&2
    exit 2
fi
here=$(cd "$(dirname "$0")/.." && pwd)
config=$1
gpus=$2
shift 2
python=${PYTHON:-python3}

if [ "${MAX_RESTARTS:-0}" -gt 0 ]; then
    # processes that start again must not find the addresses of those that ended: let them meet in a new store each time
    export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
    if [ "${NNODES:-1}" = 1 ]; then
        local_addr=(--local-addr=127.0.0.1)
    fi
    RDZV_ENDPOINT=${RDZV_ENDPOINT:-${MASTER_ADDR:-127.0.0.1}:${PORT:-29500}}
fi
if [ -n "${RDZV_ENDPOINT:-}" ]; then
    nodes=(--nnodes="${NNODES:-1}" --nproc-per-node="$gpus" --rdzv-backend=c10d --rdzv-endpoint="$RDZV_ENDPOINT"
        --rdzv-id="${RDZV_ID:-mm_graft}" ${local_addr[@]+"${local_addr[@]}"})
else
    nodes=(--nnodes="${NNODES:-1}" --node-rank="${NODE_RANK:-0}" --nproc-per-node="$gpus"
        --master-addr="${MASTER_ADDR:-127.0.0.1}" --master-port="${PORT:-29500}")
fi
if [ "${MAX_RESTARTS:-0}" -gt 0 ]; then
    nodes+=(--max-restarts="$MAX_RESTARTS")
    set -- "$@" --resume
fi

PYTHONPATH="$here:${PYTHONPATH:-}" exec "$python" -m torch.distributed.run "${nodes[@]}" \
    "$here/tools/train.py" "$config" --launcher pytorch "$@"
