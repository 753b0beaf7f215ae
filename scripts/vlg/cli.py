"""What every command line of `scripts/` shares: logging to a file, and errors in one line."""

from __future__ import annotations

import argparse
import errno
import json
import logging
import os
import re
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from vlg import running
from vlg.errors import UserError
from vlg.processes import process

log = logging.getLogger("vlg")


def parser(description: str | None) -> argparse.ArgumentParser:
    """An argument parser with the options every step has: `--settings` (JSON) and `--log`."""
    result = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument(
        "--settings",
        type=json.loads,
        default={},
        metavar="JSON",
        help="the values of the config that change this step's result, as one JSON object",
    )
    result.add_argument("--log", type=Path, help="also write messages to this file")
    return result


def run(function: Callable[[argparse.Namespace], None], arguments: argparse.ArgumentParser) -> None:
    """Parse the command line and call `function` with it.

    A UserError, a full disk, a refused file or running out of memory ends the program with
    exit status 1 and one line on standard error and in the log; any other error is a defect of
    ours and keeps its traceback.
    """
    args = arguments.parse_args()
    # So that what is half-written is removed; a job that has a state to save takes it over.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    running.watch()
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if args.log and process()[0] == 0:  # of several processes one writes
        args.log.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(args.log, mode="w", encoding="utf-8"))
    logging.raiseExceptions = False  # a log on a full disk is no reason for a traceback
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", handlers=handlers)
    try:
        function(args)
        log.info("peak memory %s", peak_memory())
    except UserError as error:
        fail(str(error))
    except Exception as error:
        # safetensors reports the system's error only in words.
        words = re.search(r"\(os error (\d+)\)", str(error))
        number = int(words[1]) if words else getattr(error, "errno", None)
        where = getattr(error, "filename", None) or "results"
        if number in (errno.ENOSPC, errno.EDQUOT):
            fail(f"{where}: no space left; free some and rerun, finished work is kept")
        if number in (errno.EACCES, errno.EROFS):
            fail(f"{where}: {os.strerror(number)}; make it writable and rerun")
        log.exception("unexpected error")
        sys.exit(2)


def peak_memory() -> str:
    """The most memory this process has held so far, and the most of a GPU."""
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_initialized():
        return f"{gigabytes:.1f} GB, of the GPU {torch.cuda.max_memory_allocated() / 2**30:.1f} GB"
    return f"{gigabytes:.1f} GB"


def fail(message: str) -> None:
    """Log one line and leave with exit status 1."""
    log.error("error: %s", " ".join(message.split()))
    sys.exit(1)
