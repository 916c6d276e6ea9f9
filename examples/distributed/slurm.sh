#!/bin/bash
# One scene over all cards of several machines of a SLURM cluster: a process a card, which share the scene.
#
#   sbatch --export=ALL,PHOTOS=/shared/photos,OUT=/shared/result examples/distributed/slurm.sh
#
# PHOTOS and OUT are on a file system that all machines share. Another number of machines: sbatch --nodes=4.
#SBATCH --job-name=manyview
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --mem=0
#SBATCH --time=04:00:00
#SBATCH --output=manyview-%j.log
set -euo pipefail

# torchrun's processes find each other at the first machine of the job.
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)
exec srun torchrun --nnodes "$SLURM_NNODES" --nproc-per-node "${RANKS:-$SLURM_GPUS_ON_NODE}" \
  --rdzv-id "$SLURM_JOB_ID" --rdzv-backend c10d --rdzv-endpoint "$head:${PORT:-29500}" --max-restarts 0 \
  --no-python manyview reconstruct "$PHOTOS" "$OUT" --offline ${OPTIONS:-}
