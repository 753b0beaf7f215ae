"""Processes of one training: on one device, on several, or on several nodes.

With one process on one node the script runs as `python SCRIPT ...` would run it. Otherwise torch's
launcher (what `torchrun` calls) starts the processes of each node. On several nodes a command
starts this program once on each: `srun` inside a Slurm job, or what the config says. They meet at
the first node of the job; MASTER_ADDR and MASTER_PORT, if set, say otherwise.
"""

from __future__ import annotations

import argparse
import logging
import os
import runpy
import shlex
import subprocess
import sys

from vlg.errors import UserError
from vlg.workflow import cli, slots


def launch(args: argparse.Namespace) -> None:
    """Run `args.script` with `args.arguments` in `args.processes` processes on each of
    `args.nodes` nodes, and end as it ends; UserError when there is nothing to start nodes with."""
    if args.processes * args.nodes == 1:
        sys.argv = [args.script, *args.arguments]
        sys.path[0] = os.path.dirname(os.path.abspath(args.script))
        runpy.run_path(args.script, run_name="__main__")
    elif args.nodes == 1 or args.meeting:
        _on_this_node(args)
    else:
        _on_all_nodes(args)


def _on_all_nodes(args: argparse.Namespace) -> None:
    """Start this program once on each node and wait."""
    environment = os.environ
    words = shlex.split(args.launcher)
    address, port = environment.get("MASTER_ADDR"), environment.get("MASTER_PORT")
    if not words:
        if "SLURM_JOB_ID" not in environment:
            raise UserError(
                "finetune.nodes: no Slurm job here to start processes on nodes; give a command "
                "that does as finetune.launcher"
            )
        count = str(args.nodes)
        # The job step this runs in has one task on one node: say all of it anew.
        words = ["srun", "--overlap", "--nodes", count, "--ntasks", count, "--ntasks-per-node", "1"]
    if not address and "SLURM_JOB_NODELIST" in environment:
        names = ["scontrol", "show", "hostnames", environment["SLURM_JOB_NODELIST"]]
        address = subprocess.check_output(names, text=True).split()[0]
    if not address:
        raise UserError("MASTER_ADDR: not set, and no Slurm job names its nodes; set it")
    # Jobs that share a node take other ports, as far as their numbers differ.
    port = port or str(20000 + int(environment.get("SLURM_JOB_ID", 0)) % 20000)
    given = ["--processes", str(args.processes), "--nodes", str(args.nodes)]
    own = [sys.executable, sys.argv[0], *given, "--meeting", f"{address}:{port}"]
    sys.exit(subprocess.call([*words, *own, args.script, *args.arguments]))


def _on_this_node(args: argparse.Namespace) -> None:
    """Start the processes of this node and wait; the first that fails says why."""
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # A process that is told to stop saves its state first: far more than the usual 30 s may pass.
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "600")
    # Until --threads tells each: together they would start as many as there are cores, each.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    config = LaunchConfig(
        min_nodes=args.nodes,
        max_nodes=args.nodes,
        nproc_per_node=args.processes,
        max_restarts=0,
        run_id=args.meeting or "here",
        rdzv_backend="c10d",
        rdzv_endpoint=args.meeting or "localhost:0",
    )
    if not _device(args.arguments).startswith("cpu"):
        slots.take(args.processes)
    try:
        elastic_launch(config, sys.executable)("-u", args.script, *args.arguments)
    except ChildFailedError as error:
        codes = [failure.exitcode for failure in error.failures.values()]
        sys.exit(next((code for code in codes if code > 0), 1))
    except SignalException as error:
        cli.fail(f"stopped by {error.sigval.name}; what was saved is kept, run it again")


def _device(arguments: list[str]) -> str:
    """What the script's own option --device says, `auto` without one."""
    place = arguments.index("--device") + 1 if "--device" in arguments else len(arguments)
    return arguments[place] if place < len(arguments) else "auto"
