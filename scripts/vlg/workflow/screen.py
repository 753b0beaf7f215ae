"""A run on one screen: what runs, how far it is, how long it still takes, what each stage found.

Reads the events of Snakemake's logger plugins. A stage is a rule; its line is written when its last
job has ended, and holds what its jobs logged as found (`cli.run`). On a terminal the last line is
rewritten every second; into a file only whole lines go. A job that fails shows its one line and
the name of its log.
"""

from __future__ import annotations

import logging
import re
import shutil
import sys
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, TextIO

# What jobs inherit: their words go to their logs alone, and there are no progress bars.
QUIET = {"VLG_QUIET": "1", "TQDM_DISABLE": "1"}
FOUND = re.compile(r" found: (.*)$", re.MULTILINE)
ERROR = re.compile(r"^(?:[-\d]+ [:,\d]+ )?error: (.*)$", re.MULTILINE)
COMMAND = "CalledProcessError in file "  # Snakemake on a command that failed, in its own words
LAST = 15  # lines of a log that has no such line
EARLY = 0.1  # share of the jobs before which nothing is said of the time left


class Screen:
    """Shows the records of one run."""

    stream: TextIO = sys.stderr

    def __init__(self) -> None:
        self.terminal = self.stream.isatty()
        self.began = time.monotonic()
        self.jobs: dict[int, tuple[str, list[str], float]] = {}  # rule, logs, when it started
        self.left: Counter[str] = Counter()  # jobs of a rule that have not ended
        self.seconds: dict[str, list[float]] = defaultdict(list)  # of jobs that have, by rule
        self.first: dict[str, float] = {}  # when a rule's first job started
        self.found: dict[str, list[str]] = defaultdict(list)
        self.running: dict[int, str] = {}
        self.done = self.total = 0
        self.told: set[str] = set()
        self.failed = False
        self._lock = threading.Lock()
        self._closed = threading.Event()
        if self.terminal:
            threading.Thread(target=self._tick, daemon=True).start()

    def show(self, record: logging.LogRecord) -> None:
        """Take one record of Snakemake's log."""
        event = str(getattr(record, "event", None) or "").rpartition(".")[2].lower()
        with self._lock:
            if event:
                getattr(self, f"_{event}", lambda values: None)(vars(record))
            else:
                self._words(record.levelno, str(record.msg or ""))
            self._status()

    def close(self) -> None:
        """Leave the terminal as it was found."""
        self._closed.set()
        with self._lock:
            self._clear()
            self.stream.flush()

    # The events, by their names.

    def _run_info(self, values: dict[str, Any]) -> None:
        stats = {name: int(count) for name, count in values["stats"].items() if name != "total"}
        self.left.update(stats)
        self.total = sum(stats.values())
        jobs = "1 job" if self.total == 1 else f"{self.total} jobs"
        self._line(f"{jobs} of {len(stats)} kinds")

    def _job_info(self, values: dict[str, Any]) -> None:
        rule, now = values["rule_name"], time.monotonic()
        self.jobs[values["jobid"]] = rule, list(values["log"] or []), now
        self.first.setdefault(rule, now)
        wildcards = " ".join(str(value) for value in (values["wildcards"] or {}).values() if value)
        self.running[values["jobid"]] = f"{rule} {wildcards}".strip()

    def _job_finished(self, values: dict[str, Any]) -> None:
        number = values["job_id"]
        self.running.pop(number, None)
        if number not in self.jobs:
            return
        rule, logs, began = self.jobs[number]
        self.seconds[rule].append(time.monotonic() - began)
        for log in logs:
            self.found[rule] += FOUND.findall(_text(log))
        self.done += 1
        self.left[rule] -= 1
        if not self.left[rule]:
            self._stage(rule)

    def _job_error(self, values: dict[str, Any]) -> None:
        self.running.pop(values.get("jobid"), None)
        self.failed = True
        logs = list(values.get("log") or [])
        for log in logs:
            text = _text(log)
            lines = ERROR.findall(text)
            for line in lines[-1:] or text.splitlines()[-LAST:]:
                self._line(f"error: {line}" if lines else f"  {line}", once=True)
        where = f"; its log: {', '.join(logs)}" if logs else ""
        self._line(f"failed: {values.get('rule_name')}{where}", once=True)

    def _group_error(self, values: dict[str, Any]) -> None:
        self.failed = True
        self._line(f"failed: {values.get('msg') or 'a group of jobs'}", once=True)

    def _error(self, values: dict[str, Any]) -> None:
        text = str(values["msg"]).strip()
        # Of a job's command, which `_job_error` tells of next; after that it is said again.
        if not self.failed and COMMAND not in text:
            self._line(text)

    def _words(self, level: int, text: str) -> None:
        """Of what is no event: warnings, and where the whole log is."""
        if text.startswith("Complete log(s)"):
            self._line(f"the whole log: {text.partition(': ')[2]}")
        elif text.startswith("Nothing to be done"):
            self._line("nothing to do: all is finished")
        elif text.startswith("error: "):  # of a job whose log is elsewhere
            self._line(text, once=True)
        elif level >= logging.WARNING and not self.failed:
            self._line(text.strip(), once=True)

    def _stage(self, rule: str) -> None:
        count = len(self.seconds[rule])
        took = _duration(time.monotonic() - self.first[rule])
        number = f"x {count}" if count > 1 else ""
        if not any(logs for name, logs, _ in self.jobs.values() if name == rule):
            return  # a target
        found = _joined(self.found[rule])
        self._line(
            f"{rule.replace('_', ' '):<18} {number:<5} {took:>8}  {found}".rstrip(), cut=True
        )

    # What is written.

    def _line(self, text: str, once: bool = False, cut: bool = False) -> None:
        if not text or (once and text in self.told):
            return
        self.told.add(text)
        self._clear()
        self.stream.write(f"{self._fitting(text) if cut else text}\n")
        self.stream.flush()

    def _status(self) -> None:
        if not self.terminal or not self.total or self._closed.is_set():
            return
        parts = [f"{self.done} of {self.total}", _duration(time.monotonic() - self.began)]
        left = self.time_left()
        if left is not None:
            parts.append(f"about {_duration(left)} left")
        parts.append(", ".join(self.running.values()))
        self._clear()
        self.stream.write(self._fitting(" | ".join(part for part in parts if part)))
        self.stream.flush()

    def time_left(self) -> float | None:
        """Seconds that the jobs which are left will take, as those of their rules took so far and
        as many side by side; None while too few have ended."""
        if not self.total or self.done < EARLY * self.total:
            return None
        all_of = [seconds for each in self.seconds.values() for seconds in each]
        mean = sum(all_of) / len(all_of)
        means = {rule: sum(each) / len(each) for rule, each in self.seconds.items() if each}
        work = sum(count * means.get(rule, mean) for rule, count in self.left.items())
        beside = max(sum(all_of) / max(time.monotonic() - self.began, 1e-9), 0.1)
        return work / beside

    def _clear(self) -> None:
        if self.terminal:
            self.stream.write("\r\033[K")

    def _fitting(self, text: str) -> str:
        """The text cut to what one line of the terminal takes; a file takes all."""
        if not self.terminal:
            return text
        width = shutil.get_terminal_size().columns - 1
        return text if len(text) <= width else f"{text[: width - 3]}..."

    def _tick(self) -> None:
        while not self._closed.wait(1):
            with self._lock:
                self._status()


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _joined(found: list[str]) -> str:
    """What jobs found, in one line; a word that all begin with is said once."""
    first = found[0].split(" ")[0] if found else ""
    if len(found) > 1 and all(each.startswith(f"{first} ") for each in found):
        found = [found[0], *(each.removeprefix(f"{first} ") for each in found[1:])]
    return "; ".join(found)


def _duration(seconds: float) -> str:
    """For example 7 s, 3 min 5 s, 2 h 10 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
