#!/bin/bash
# Many scenes on a SLURM cluster: eight tasks, one card each, take a part of the scenes each.
#
#   sbatch --export=ALL,SCENES=/shared/scenes,OUT=/shared/results examples/batch/slurm.sh
#
# A task that was requeued or killed goes on where it stopped: send the same line again.
#SBATCH --job-name=manyview
#SBATCH --array=1-8
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --signal=B:TERM@60
#SBATCH --output=manyview-%A-%a.log
set -euo pipefail

part=$((SLURM_ARRAY_TASK_ID - SLURM_ARRAY_TASK_MIN + 1))
# exec: the signal that SLURM sends a minute before the end reaches manyview, which lets its scenes go.
exec manyview batch "$SCENES" "$OUT" --shard "$part/$SLURM_ARRAY_TASK_COUNT" --offline ${OPTIONS:-}
