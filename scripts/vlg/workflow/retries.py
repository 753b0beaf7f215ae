"""A mistake of the user's is not tried again: the next try would end with the same line.

Profiles for clusters have `retries`, for jobs that were cancelled or lost. A job that was refused
says so in its log (`vlg.workflow.cli`), which Snakemake's scheduler is made to ask before it starts
a failed job again. That works whoever runs the job, because its log comes back from everywhere.
"""

from __future__ import annotations

import os
import re
import time
from typing import Any

from vlg.workflow.cli import FINAL

ERROR = re.compile(r"^[-\d]+ [:,\d]+ (error: .*)$", re.MULTILINE)


def spare() -> None:
    """Have the scheduler of this process give up a job that was refused. Once is enough."""
    from snakemake.jobs import Job

    began, tries = time.time(), Job.restart_times.fget
    if hasattr(tries, "refused"):
        return

    def restart_times(job: Any) -> int:
        return 0 if any(refused(job, log, began) for log in job.log) else tries(job)

    restart_times.refused = True  # type: ignore[attr-defined]
    Job.restart_times = property(restart_times)


def refused(job: Any, log: Any, began: float) -> bool:
    """Whether this log of a failed job says that it was refused since `began`.

    A log that lies in a storage is fetched, and its error told: Snakemake shows only logs that are
    here.
    """
    from snakemake.logging import logger

    far = log.is_storage and not os.path.exists(log)
    try:
        if far:
            job.dag.workflow.async_run(log.retrieve_from_storage())
        elif os.path.getmtime(log) < began:
            return False
        with open(log, encoding="utf-8", errors="replace") as file:
            text = file.read()
    except Exception:  # no log was written, or none can be had
        return False
    if far:
        for line in ERROR.findall(text)[-1:]:
            logger.error(line)
    return text.rstrip().endswith(FINAL)
