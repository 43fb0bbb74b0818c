#!/usr/bin/env bash
# Usage: [FINETUNE=CONFIG] [SEGMENT=CONFIG] [BRANCH=momentum] [WORK=work_dirs] tools/chain/slurm_chain.sh PARTITION JOB PRETRAIN_CONFIG
# As dist_chain.sh, each step by srun; GPUS, GPUS_PER_NODE, CPUS_PER_TASK and SRUN_ARGS as in tools/slurm_train.sh.
# Give it to sbatch, or run it in a screen: it waits for one step before it starts the next.
set -euo pipefail
if [ $# -lt 3 ]; then
    sed -n '2,4s/^# //p' "$0" >&2
    exit 2
fi
here=$(cd "${SLURM_SUBMIT_DIR:-$(dirname "$0")/../..}" && pwd)
partition=$1
job=$2
pretrain=$3
shift 3
source "$here/tools/chain/chain.sh"

run_step() { # CONFIG WORK_DIR [flags]
    bash "$here/tools/slurm_train.sh" "$partition" "$job" "$1" --work-dir "$2" --resume "${@:3}"
}

run_chain "$pretrain" "$@"
