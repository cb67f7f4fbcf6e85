#!/bin/bash
# A grid on one node with several GPUs, many tiny models on each: sbatch training/slurm.sh
#
# Everything may be stopped at any moment. Each cell goes on from its own state and finished cells are skipped, so the
# job asks to be queued again when its time is up or its node is lost, and runs the same command until all is done.
#
# Written from SLURM's manual and checked for syntax; no cluster was at hand to run it on. It counts on the signal
# reaching all processes of the step; a worker that gets it twice ends at its last saved state.
#SBATCH --job-name=tslens-grid
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --mem=128G
#SBATCH --time=04:00:00
#SBATCH --signal=INT@180        # three minutes before the end: Ctrl-C, so that running cells save their state
#SBATCH --requeue               # after a lost node
#SBATCH --open-mode=append
#SBATCH --output=tslens-grid-%j.log

# Runs and stories lie on a file system that the node keeps; .venv was made by: make install
cd "${SLURM_SUBMIT_DIR:?run me with sbatch}" || exit 1
export TSLENS_DATA="${TSLENS_DATA:-data}"

# A quarter of a GPU for each cell: 16 cells at once on 4 GPUs, 2 CPUs each. Models of width 768 and up want a whole one.
srun .venv/bin/tslens train \
  --grid "layers=1,2,4,8 hidden=64,128,256 seed=0,1,2" \
  --data "$TSLENS_DATA/tinystories.jsonl.gz" --data author:1778 \
  --tokens 10000000 \
  --launcher ray --gpu-fraction 0.25
code=$?

# 3: some cells are not done. They go on in the next slice; one that failed (its reason is in the log) is tried again,
# so a job that was queued ten times gives up.
if [ "$code" -eq 3 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt 10 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
