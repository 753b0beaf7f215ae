"""Run a script on one device, or through torchrun on several devices and nodes.

With one process on one node the script runs as `python SCRIPT ...` would run it. On several nodes a
command starts torchrun once on each: `srun` inside a Slurm job, or what --launcher says, after
which this program's own words follow (`mpirun -n 2 --map-by ppr:1:node`). Where the processes meet
is the first node of the job; MASTER_ADDR and MASTER_PORT, if set, say otherwise.
"""

import argparse
import logging

from vlg.errors import UserError
from vlg.workflow import cli, launch

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
    try:
        launch.launch(parser.parse_args())
    except UserError as error:
        logging.basicConfig(level=logging.INFO, format=cli.FORMAT)
        cli.fail(str(error))
