#!/bin/bash
# Workers 0 to 7 of array 20261128-221500-4f2a90: each takes run after run of
# /home/ada/vit/runs/.slurm/20261128-221500-4f2a90

#SBATCH --job-name=20261128-221500-4f2a90
#SBATCH --array=0-7
#SBATCH --time=0-01:30:00

# What a worker gets.
#SBATCH --ntasks=1

# A worker hears of it before its time is over, and continues after a restart.
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --kill-on-invalid-dep=yes
#SBATCH --chdir=/home/ada/vit
#SBATCH --output=/home/ada/vit/runs/.slurm/20261128-221500-4f2a90/log/%a.txt
# Limits of the machine that submits mean nothing there.
#SBATCH --propagate=NONE

export LORALAB_THREADS="${LORALAB_THREADS:-$SLURM_CPUS_ON_NODE}"
exec /opt/loralab/bin/runner work --first 0 /home/ada/vit/runs/.slurm/20261128-221500-4f2a90
