#!/usr/bin/env bash
# What dist_chain.sh and slurm_chain.sh share; they define run_step CONFIG WORK_DIR [flags].

run_chain() { # PRETRAIN_CONFIG [flags of the pre-training]
    local work=${WORK:-work_dirs} name checkpoint step
    name=$(basename "$1" .py)
    run_step "$1" "$work/$name" "${@:2}"
    # what a Runner wrote last; the file may have been moved with its folder
    checkpoint=$work/$name/$(basename "$(cat "$work/$name/last_checkpoint")")
    for step in "${FINETUNE:-}" "${SEGMENT:-}"; do
        if [ -n "$step" ]; then
            run_step "$step" "$work/$name/$(basename "$step" .py)" --cfg-options \
                custom_hooks.0.checkpoint="$checkpoint" ${BRANCH:+custom_hooks.0.branch="$BRANCH"}
        fi
    done
}
