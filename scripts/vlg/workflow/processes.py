"""The processes of a run and the signals that stop them."""

from __future__ import annotations

import os
import resource
import signal
import sys
from typing import Any


class Stop:
    """True once SIGTERM (a cluster's time limit, Snakemake's ctrl-C) or SIGINT has come."""

    name = ""

    def listen(self) -> Stop:
        """Take the two signals of this process from now on."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.note)
        return self

    def note(self, number: int, frame: Any) -> None:
        self.name = signal.Signals(number).name

    def __bool__(self) -> bool:
        return bool(self.name)


def process() -> tuple[int, int]:
    """(rank, number of processes), as torchrun sets them."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def memory_mb(children: bool = False) -> float:
    """The most memory, in MB of 2**20 bytes, that this process has held so far; with `children`
    that or the most of any process it started and waited for, whichever is larger."""
    whose = [resource.RUSAGE_SELF, *[resource.RUSAGE_CHILDREN] * children]
    unit = 2**20 if sys.platform == "darwin" else 2**10  # macOS counts in bytes, Linux in kB
    return max(resource.getrusage(who).ru_maxrss for who in whose) / unit


def end_with_parent() -> None:
    """Be told to stop, as by SIGTERM, when the launcher of several processes dies (Linux only)."""
    import ctypes

    if process()[1] > 1 and hasattr(library := ctypes.CDLL(None), "prctl"):
        library.prctl(1, int(signal.SIGTERM))  # PR_SET_PDEATHSIG
