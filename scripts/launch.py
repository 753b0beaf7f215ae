"""Run a script on one device, or through `accelerate launch` on several devices and nodes.

With one process on one node the script runs as `python SCRIPT ...` would run it. On several nodes a
command starts accelerate once on each: `srun` inside a Slurm job, or what --launcher says, after
which accelerate's own words follow (`mpirun -n 2 --map-by ppr:1:node`). Where the processes meet is
the first node of the job; MASTER_ADDR and MASTER_PORT, if set, say otherwise.
"""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import subprocess
import sys

from vlg.errors import UserError
from vlg.workflow import cli, slots

# Where a launcher says which of the nodes a process is on.
RANKS = ("NODE_RANK", "SLURM_NODEID", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK")


def main(args: argparse.Namespace) -> None:
    if args.processes * args.nodes == 1:
        os.execv(sys.executable, [sys.executable, args.script, *args.arguments])
    elif args.nodes == 1 or args.meeting:
        accelerate(args)
    else:
        on_all_nodes(args)


def on_all_nodes(args: argparse.Namespace) -> None:
    """Start this script once on each node and wait."""
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
    own = [sys.executable, __file__, *given, "--meeting", f"{address}:{port}"]
    sys.exit(subprocess.call([*words, *own, args.script, *args.arguments]))


def device(arguments: list[str]) -> str:
    """What the script's own option --device says, `auto` without one."""
    place = arguments.index("--device") + 1 if "--device" in arguments else len(arguments)
    return arguments[place] if place < len(arguments) else "auto"


def accelerate(args: argparse.Namespace) -> None:
    """Start the processes of this node and wait; the first that fails says why."""
    from accelerate.commands import launch
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    # A process that is told to stop saves its state first: far more than the usual 30 s may pass.
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "600")
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    words = ["--multi_gpu", "--num_processes", str(args.processes * args.nodes)]
    words += ["--num_machines", str(args.nodes), "--mixed_precision", "no"]
    words += ["--dynamo_backend", "no"]
    if args.meeting:
        address, port = args.meeting.rsplit(":", 1)
        rank = next((os.environ[name] for name in RANKS if name in os.environ), None)
        if rank is None:
            raise UserError(f"NODE_RANK: not set, nor any of {', '.join(RANKS[1:])}; set it")
        words += ["--machine_rank", rank, "--main_process_ip", address]
        words += ["--main_process_port", port, "--same_network"]
    else:
        words += ["--main_process_port", "0"]
    if not device(args.arguments).startswith("cpu"):
        slots.take(args.processes)
    try:
        launch.launch_command(
            launch.launch_command_parser().parse_args([*words, args.script, *args.arguments])
        )
    except ChildFailedError as error:
        codes = [failure.exitcode for failure in error.failures.values()]
        sys.exit(next((code for code in codes if code > 0), 1))
    except SignalException as error:
        cli.fail(f"stopped by {error.sigval.name}; what was saved is kept, run it again")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, default=1, help="on each node, one a device")
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--launcher", default="", help="command that runs one on each node")
    parser.add_argument("--meeting", default="", help=argparse.SUPPRESS)
    parser.add_argument("script", help="a script of this folder, or any other")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    try:
        main(given)
    except UserError as error:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
        cli.fail(str(error))
