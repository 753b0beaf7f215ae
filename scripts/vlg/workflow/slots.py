"""Which GPU a job takes, where several jobs share a machine with several GPUs.

Snakemake counts GPUs (`resources: gpu`), but tells no job which one is its own. Each job therefore
takes free ones by locks of the operating system, which gives them back when the process ends,
however it ends. Where a job sees no more GPUs than it needs, as under a cluster that assigns them,
there is nothing to choose and nothing is locked.
"""

from __future__ import annotations

import getpass
import logging
import os
import random
import re
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filelock import UnixFileLock

log = logging.getLogger("vlg")

VISIBLE = "CUDA_VISIBLE_DEVICES"
DRIVER = Path("/proc/driver/nvidia/gpus")  # a folder in it for each GPU
_held: list[UnixFileLock] = []  # kept: a lock that is gone gives the GPU back


def here(environment: Mapping[str, str] = os.environ, driver: Path = DRIVER) -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them.

    A value that is set already is heeded: `2,5` are these two, and an empty one or -1 is none.
    """
    given = environment.get(VISIBLE)
    if given is not None:
        names = [name.strip() for name in given.split(",")]
        # CUDA stops reading at the first name that is none.
        stop = next((i for i, name in enumerate(names) if name in ("", "-1")), len(names))
        return names[:stop]
    return [str(number) for number in range(len(list(driver.iterdir())))] if driver.is_dir() else []


def take(count: int = 1, seconds: float = 1.0) -> list[str]:
    """Take `count` free GPUs for this process until it ends, and make only them visible.

    Waits while there are too few, looking again every few `seconds`. Call it before torch looks for
    a GPU. Returns their names; processes started from this one inherit them.
    """
    seen = here()
    if len(seen) <= count:
        return seen
    told = False
    while True:
        free = {name: lock for name in seen if (lock := _lock(name))}
        chosen = list(free)[:count] if len(free) >= count else []
        for name in free.keys() - chosen:
            free[name].release()
        if chosen:
            _held.extend(free[name] for name in chosen)
            os.environ[VISIBLE] = ",".join(chosen)
            log.info("GPU %s of %s", os.environ[VISIBLE], ", ".join(seen))
            return chosen
        if not told:
            log.warning("waiting for %d of the GPUs %s to become free", count, ", ".join(seen))
            told = True
        time.sleep(seconds * random.uniform(0.5, 1.5))  # two that want two must not meet for ever


def folder() -> Path:
    """Where the locks of this user on this machine are."""
    safe = re.sub(r"[^\w.-]", "_", getpass.getuser())
    return Path(os.environ.get("VLG_SLOTS", Path(tempfile.gettempdir()) / f"vlg-gpus-{safe}"))


def _lock(name: str) -> UnixFileLock | None:
    """The lock of a GPU, held; None while another process has it."""
    from filelock import Timeout, UnixFileLock

    place = folder()
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Of a lock that is a mere file (where the system has no others) nobody frees a killed job's.
    lock = UnixFileLock(place / re.sub(r"[^\w-]", "_", name), fallback_to_soft=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return None
    return lock
