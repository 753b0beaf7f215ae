#!/bin/sh
# What became of a Slurm job: running, success or failed (also if Slurm has forgotten it: Snakemake
# then runs it again).
state=$(squeue --noheader --states=all --jobs="$1" --format=%T 2>/dev/null | head -n 1)
[ -n "$state" ] || state=$(sacct --noheader --allocations --jobs="$1" --format=State 2>/dev/null | awk '{print $1; exit}')
case "$state" in
    PENDING | RUNNING | CONFIGURING | COMPLETING | SUSPENDED | REQUEUED | RESIZING) echo running ;;
    COMPLETED) echo success ;;
    *) echo failed ;;
esac
