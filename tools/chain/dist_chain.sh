#!/usr/bin/env bash
# Usage: [FINETUNE=CONFIG] [SEGMENT=CONFIG] [BRANCH=momentum] [WORK=work_dirs] tools/chain/dist_chain.sh PRETRAIN_CONFIG GPUS
# Pre-train, then fine-tune and segment from what came out, one after the other with torchrun. Run again, it goes on
# where it stopped: each step resumes from its latest checkpoint. The configs must load by custom_hooks.0.checkpoint.
set -euo pipefail
if [ $# -lt 2 ]; then
    sed -n '2,4s/^# //p' "$0" >&2
    exit 2
fi
here=$(cd "$(dirname "$0")/../.." && pwd)
pretrain=$1
gpus=$2
shift 2
source "$here/tools/chain/chain.sh"

run_step() { # CONFIG WORK_DIR [flags]
    bash "$here/tools/dist_train.sh" "$1" "$gpus" --work-dir "$2" --resume "${@:3}"
}

run_chain "$pretrain" "$@"
