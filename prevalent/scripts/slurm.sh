#!/usr/bin/env bash
# A run on several machines that saves before its time ends and goes on in the next job:
#   sbatch scripts/slurm.sh pretrain prevalent-base --run-dir "$SCRATCH/pretrain"
# The folder of the run must lie where all machines see it. Not run on a cluster: the signal, the
# checkpoint and the continuation are tested with torchrun on one machine.
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --open-mode=append
set -euo pipefail
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:?run me with sbatch}  # srun does not take it over
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 20000))
# Time to write a large checkpoint; where torchrun has no such option, it gives 30 s.
patience=$(torchrun --help | grep -o -m 1 -e '--shutdown-timeout' || true)
stopping=
# torchrun hands the signal to its processes; they write a checkpoint and leave.
srun --kill-on-bad-exit=0 torchrun --nnodes "$SLURM_NNODES" --nproc-per-node "${SLURM_GPUS_ON_NODE:-8}" \
  --rdzv-backend c10d --rdzv-endpoint "$head:$port" --rdzv-id "$SLURM_JOB_ID" \
  --signals-to-handle SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 ${patience:+"$patience" 240} \
  -m prevalent "$@" &
srun=$!
trap 'stopping=yes; scancel --signal=USR1 "$SLURM_JOB_ID.0"' USR1 TERM
status=0
wait "$srun" || status=$?
while kill -0 "$srun" 2>/dev/null; do wait "$srun" || status=$?; done
# torchrun says 1 where its processes said 3, so the signal decides, not the status.
if [ -n "$stopping" ]; then
  scontrol requeue "$SLURM_JOB_ID"
  exit 0
fi
exit "$status"
