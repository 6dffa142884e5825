#!/bin/bash
# Workers 16 to 19 of array 20261128-221500-4f2a90: each takes run after run of
# /home/ada/my project/runs/.slurm/20261128-221500-4f2a90

#SBATCH --job-name=20261128-221500-4f2a90.16
#SBATCH --array=0-3%1
#SBATCH --time=1-12:00:00

# What a worker gets.
#SBATCH --partition=gpu
#SBATCH --account=lab
#SBATCH --qos=long
#SBATCH --reservation=course
#SBATCH --gres=gpu:a100:1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --constraint="a100&ib"
#SBATCH --exclude="n[3-5],n9"
#SBATCH --dependency=afterok:1234
#SBATCH --mail-user=a@example.org
#SBATCH --mail-type=END,FAIL
#SBATCH --licenses=x

# A worker hears of it before its time is over, and continues after a restart.
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --kill-on-invalid-dep=yes
#SBATCH --chdir="/home/ada/my project"
#SBATCH --output="/home/ada/my project/runs/.slurm/20261128-221500-4f2a90/log/16+%a.txt"
# Limits of the machine that submits mean nothing there.
#SBATCH --propagate=NONE

command -v module >/dev/null || . /etc/profile
module load gcc/12 || exit
module load cuda/12.4 || exit
set -e
conda activate vit
set +e
export TMPDIR="/scratch/$SLURM_JOB_ID"
mkdir -p "$TMPDIR"
export LORALAB_DATA='/data/it'\''s here'
export LORALAB_THREADS=4
exec apptainer exec --nv --bind '/home/ada/my project' --bind /opt/loralab/bin --bind '/data/it'\''s here' --bind "$TMPDIR" '/shared/loralab images/r1.sif' /opt/loralab/bin/runner work --first 16 --scratch "$TMPDIR" '/home/ada/my project/runs/.slurm/20261128-221500-4f2a90'
