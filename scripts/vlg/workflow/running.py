"""Runs that were killed: locks that nobody holds any more, and jobs whose run is gone.

A run that dies by SIGKILL or a power cut leaves Snakemake's lock on the working folder behind, and
its jobs may go on working for nobody. `hold` lets the next run see that no other is alive and take
the stale lock away; `watch` ends a job soon after the run that started it.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

from vlg.workflow import warm

SECONDS = 0.5  # between two looks at whether the run is alive
WAIT = 2.0  # for another run that is just looking whether it is alone
_held: list[object] = []  # kept: the system lets go when the process ends, however it ends


def hold(folder: Path) -> None:
    """Mark this process as a run in the working folder, and remove a lock left by a dead one.

    Every run holds a shared lock while it lives. One that gets the exclusive one is alone, so
    Snakemake's lock files are those of a dead run. They are left alone if that was on another
    host, whose processes cannot be seen, or if nothing says where it was: Snakemake then tells how
    to unlock by hand.
    """
    import sqlite3

    try:
        from filelock import ReadWriteLock, Timeout
    except ImportError:  # a plain Snakemake, whose jobs have environments of their own
        return
    place = folder / ".snakemake"
    try:
        place.mkdir(exist_ok=True)
        lock = ReadWriteLock(place / "run.lock", is_singleton=False)
        _held.append(lock)
        with suppress(Timeout), lock.write_lock(blocking=False):
            _remove_stale(place)
        lock.acquire_read(timeout=WAIT)
    except (OSError, ValueError, sqlite3.Error, Timeout):
        pass  # a read-only folder, or a file system without locks: as without this module


def _remove_stale(place: Path) -> None:
    """Remove Snakemake's lock files, if the run that was here last was on this host."""
    locks, last, host = place / "locks", place / "run", socket.gethostname()
    if last.is_file() and last.read_text(encoding="utf-8") == host:
        shutil.rmtree(locks, ignore_errors=True)
    elif not any(locks.glob("*.lock")):
        last.write_text(host, encoding="utf-8")


def announce() -> None:
    """Let the jobs that this process will start know who started them."""
    os.environ[warm.RUN] = f"{socket.gethostname()} {os.getpid()} {warm.started(os.getpid())}"


def watch() -> None:
    """Send this process SIGTERM once the run that started it is gone.

    A job started by hand has no run; nor can one be seen from another host, or without /proc.
    """
    if warm.run() == ("", "") or warm.gone():
        return

    def look() -> None:
        while not warm.gone():
            time.sleep(SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=look, daemon=True, name="watch").start()
