"""What every command line of `scripts/` shares: logging to a file, and errors in one line."""

from __future__ import annotations

import argparse
import errno
import json
import logging
import os
import re
import signal
import sys
import textwrap
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from vlg.errors import UserError
from vlg.workflow import processes, running, versions

if TYPE_CHECKING:
    from vlg.config.keys import Keys

log = logging.getLogger("vlg")

# What a log ends with after an error that only the user can mend.
FINAL = "not tried again before it is mended"
# Of such errors, those that another try may not meet: with more memory, space or luck.
PASSING = re.compile(
    "stopped by |out of memory|no space left|connection was lost|cannot be reached|thrown away"
)
FORMAT = "%(asctime)s %(message)s"


def parser(
    description: str | None, keys: type[Keys] | None = None, where: str = "settings"
) -> argparse.ArgumentParser:
    """An argument parser with the options every step has: `--settings` (JSON) and `--log`.

    keys: what the settings are read as, with the config's defaults for what is not given; None
    leaves them the object that they are. where: the section they are of, for messages.
    """
    result = argparse.ArgumentParser(
        description=description,
        epilog=described(keys) if keys else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.set_defaults(keys=keys, where=where)
    result.add_argument(
        "--settings",
        type=json.loads,
        default={},
        metavar="JSON",
        help="the values of the config that change this step's result, as one JSON object",
    )
    result.add_argument("--log", type=Path, help="also write messages to this file")
    return result


def described(keys: type[Keys]) -> str:
    """What `--help` says of settings: each with its default and its meaning."""
    lines = ["settings:"]
    for name, field in keys.model_fields.items():
        default = "" if field.is_required() else f" (default: {json.dumps(field.get_default())})"
        words = f"{name}{default}: {field.description}"
        lines += textwrap.wrap(words, 98, initial_indent="  ", subsequent_indent="      ")
    return "\n".join(lines)


def run(function: Callable[[argparse.Namespace], None], arguments: argparse.ArgumentParser) -> None:
    """Parse the command line and call `function` with it.

    A UserError, a full disk, a refused file or running out of memory ends the program with
    exit status 1 and one line on standard error and in the log; any other error is a defect of
    ours and keeps its traceback. What `function` sets as `args.computed`, a ledger's cost,
    is told with the seconds, and `args.found`, a few words on what came out, is for the screen
    of the run, which sets VLG_QUIET: then all goes to the log alone, from which it tells errors.
    """
    args = arguments.parse_args()
    # So that what is half-written is removed; a job that has a state to save takes it over.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    running.watch()
    logging.raiseExceptions = False  # a log on a full disk is no reason for a traceback
    logging.basicConfig(level=logging.INFO, format=FORMAT)
    logging.captureWarnings(True)
    began = time.monotonic()
    try:
        # Of several processes one writes.
        if args.log and processes.process()[0] == 0:
            args.log.parent.mkdir(parents=True, exist_ok=True)
            file = logging.FileHandler(args.log, mode="w", encoding="utf-8")
            file.setFormatter(logging.Formatter(FORMAT))
            logging.getLogger().addHandler(file)
            if os.environ.get("VLG_QUIET"):
                logging.getLogger().handlers[0].setLevel(logging.CRITICAL)
        if args.keys:
            args.settings = args.keys.parse(args.settings, args.where)
        function(args)
        log.info("peak memory %s", peak_memory())
        if args.log:
            told = cost(time.monotonic() - began) | getattr(args, "computed", {})
            log.info("cost: %s", json.dumps(told, sort_keys=True))
            if found := getattr(args, "found", ""):
                log.info("found: %s", found)
            log.info("packages: %s", json.dumps(versions.used(), sort_keys=True))
    except UserError as error:
        fail(str(error), args.log)
    except Exception as error:
        # safetensors reports the system's error only in words.
        words = re.search(r"\(os error (\d+)\)", str(error))
        number = int(words[1]) if words else getattr(error, "errno", None)
        where = getattr(error, "filename", None) or "results"
        if number in (errno.ENOSPC, errno.EDQUOT):
            fail(f"{where}: no space left; free some and rerun, finished work is kept")
        if number in (errno.EACCES, errno.EPERM, errno.EROFS):
            fail(f"{where}: {os.strerror(number)}; make it writable and rerun")
        if number in (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.EIO):
            fail(f"{where}: {os.strerror(number)}; mend or move it and rerun")
        if isinstance(error, ModuleNotFoundError):
            fail(f"{error.name}: not installed; run `make study`, or Snakemake with --use-conda")
        log.exception("unexpected error")
        sys.exit(2)


def peak_memory() -> str:
    """The most memory this process has held so far, and the most of a GPU, in words."""
    gigabytes = processes.memory_mb() / 2**10
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_initialized():
        return f"{gigabytes:.1f} GB, of the GPU {torch.cuda.max_memory_allocated() / 2**30:.1f} GB"
    return f"{gigabytes:.1f} GB"


def cost(seconds: float) -> dict[str, float]:
    """Seconds on the clock and of processor time, and the largest memory, of this process and
    those it started; the record of the study reads it from the log."""
    times = os.times()
    return {
        "seconds": round(seconds, 1),
        "processor_seconds": round(sum(times[:4]), 1),
        "memory_mb": round(processes.memory_mb(children=True)),
    }


def fail(message: str, final: Path | None = None) -> None:
    """Log one line and leave with exit status 1.

    final: the log in which to say that another try would end the same, if it would.
    """
    log.error("error: %s", " ".join(message.split()))
    if final and not PASSING.search(message):
        with suppress(OSError), open(final, "a", encoding="utf-8") as file:
            file.write(f"{FINAL}\n")
    sys.exit(1)
