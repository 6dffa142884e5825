#!/bin/bash
# Workers 16 to 19 of array 20261128-221500-4f2a90: each takes run after run of
# /home/ada/my project/runs/.slurm/20261128-221500-4f2a90

#SBATCH --job-name=20261128-221500-4f2a90.16
#SBATCH --array=0-3
#SBATCH --time=0-01:30:00

# What a worker gets.
#SBATCH --ntasks=1

# A worker hears of it before its time is over, and continues after a restart.
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --kill-on-invalid-dep=yes
#SBATCH --chdir="/home/ada/my project"
#SBATCH --output="/home/ada/my project/runs/.slurm/20261128-221500-4f2a90/log/16+%a.txt"
# Limits of the machine that submits mean nothing there.
#SBATCH --propagate=NONE

exec /opt/loralab/bin/runner work --first 16 '/home/ada/my project/runs/.slurm/20261128-221500-4f2a90'
