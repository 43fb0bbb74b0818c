#!/usr/bin/env bash
# Usage: [GPUS=8] [GPUS_PER_NODE=8] [CPUS_PER_TASK=5] [SRUN_ARGS=…] tools/slurm_train.sh PARTITION JOB CONFIG [flags of tools/train.py]
# REQUEUE=120 submits a batch job that saves 120 s before its time is up (or when it is preempted), asks slurm to queue it
# again, and goes on where it was; SBATCH_ARGS are for sbatch.
set -euo pipefail
if [ $# -lt 3 ]; then
    sed -n '2,4s/^# //p' "$0" >&2
    exit 2
fi
here=$(cd "$(dirname "$0")/.." && pwd)
partition=$1
job=$2
config=$3
shift 3
gpus=${GPUS:-8}
gpus_per_node=${GPUS_PER_NODE:-8}
python=${PYTHON:-python3}
export PYTHONPATH="$here:${PYTHONPATH:-}"

resources=(-p "$partition" --job-name="$job" --gres="gpu:$gpus_per_node" --ntasks="$gpus"
    --ntasks-per-node="$gpus_per_node" --cpus-per-task="${CPUS_PER_TASK:-5}")
# shellcheck disable=SC2206 # SRUN_ARGS and SBATCH_ARGS are lists of words
step=(srun "${resources[@]}" --kill-on-bad-exit=1 ${SRUN_ARGS:-}
    "$python" -u "$here/tools/train.py" "$config" --launcher slurm)
if [ -z "${REQUEUE:-}" ]; then
    exec "${step[@]}" "$@"
fi

# slurm warns the batch shell; the shell warns the step, which saves and ends, and queues the job again
# shellcheck disable=SC2086
exec sbatch "${resources[@]}" --requeue --signal="B:USR1@$REQUEUE" --open-mode=append ${SBATCH_ARGS:-} <<BATCH
#!/usr/bin/env bash
again=
trap 'again=1; kill -USR1 \$step' USR1
$(printf '%q ' "${step[@]}" --resume "$@") &
step=\$!
while wait \$step; status=\$?; kill -0 \$step 2>/dev/null; do :; done
[ -z "\$again" ] || [ \$status -ne 0 ] || exec scontrol requeue "\$SLURM_JOB_ID"
exit \$status
BATCH
