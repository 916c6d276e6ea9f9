#!/bin/bash
# Many scenes on a PBS cluster: eight tasks, one card each, take a part of the scenes each.
#
#   qsub -v SCENES=/shared/scenes,OUT=/shared/results examples/batch/pbs.sh
#
# A task that was killed goes on where it stopped: send the same line again.
#PBS -N manyview
#PBS -J 1-8
#PBS -r y
#PBS -l select=1:ncpus=8:ngpus=1:mem=64gb
#PBS -l walltime=12:00:00
#PBS -j oe
set -euo pipefail
cd "$PBS_O_WORKDIR"

parts=8 # as in -J: PBS does not tell tasks how many there are
exec manyview batch "$SCENES" "$OUT" --shard "$PBS_ARRAY_INDEX/$parts" --offline ${OPTIONS:-}
