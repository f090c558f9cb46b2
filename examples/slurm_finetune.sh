#!/bin/bash
# The paper's run on 2 nodes of 4 GPUs: sbatch examples/slurm_finetune.sh [key=value ...]
# One launcher on each node, which starts a process on each of its GPUs. 2 x 4 ranks x 32 x 4 micro-batches = 1024.
#SBATCH --job-name=ip2p
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@180
#SBATCH --requeue
#SBATCH --output=ip2p-%j.log
#SBATCH --open-mode=append
# Three minutes before the time is over this script gets SIGUSR1 and passes it on: the run saves and leaves, and the job
# queues again and goes on from there. An error, such as a wrong setting, is not repeated. Without B: in --signal, Slurm
# sends it to the processes of the run itself, which leave with 138 (after SIGTERM 143); launchers make 1 of it, so that
# this script would know by a run without one only, such as `srun ip2p finetune` on one GPU.
set -euo pipefail

IP2P_HEAD=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export IP2P_HEAD IP2P_GPUS="${SLURM_GPUS_ON_NODE:-4}"

# shellcheck disable=SC2016 # the variables are those of each node
srun bash -c '
    trap "" USR1 # the launcher would die of it; its processes have a handler of their own
    exec accelerate launch --multi_gpu \
        --num_machines "$SLURM_NNODES" --machine_rank "$SLURM_NODEID" \
        --num_processes "$((SLURM_NNODES * IP2P_GPUS))" \
        --main_process_ip "$IP2P_HEAD" --main_process_port 29500 \
        train/finetune.py --config paper_finetune.yaml "$@"' ip2p "$@" &
run=$!

time_is_over=
trap 'time_is_over=yes; kill -USR1 "$run" 2>/dev/null || true' USR1 TERM
status=0
wait "$run" || status=$?
if [ -n "$time_is_over" ]; then
    status=0
    wait "$run" || status=$? # the first wait ended with the signal, and not with the run
fi
case "$time_is_over $status" in
    yes* | *" 138" | *" 143") scontrol requeue "$SLURM_JOB_ID" ;;
esac
exit "$status"
