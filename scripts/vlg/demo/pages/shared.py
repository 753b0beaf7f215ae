"""The finished study and its arena as pages share them: read once, again when scores changed."""

from __future__ import annotations

import threading

from vlg.demo.arena import Arena
from vlg.demo.finished import Finished
from vlg.demo.study import Study
from vlg.demo.votes import Votes


class Shared:
    """Read when it is first asked for, and again after `make study` has written other scores."""

    def __init__(self, study: Study) -> None:
        self._study, self._lock = study, threading.Lock()
        self._seen: object = None
        self._finished: Finished | None = None
        self._arena: Arena | None = None

    def finished(self) -> Finished:
        """UserError where nothing has been scored."""
        with self._lock:
            return self._read()

    def arena(self) -> Arena:
        """UserError where there is nothing to choose from."""
        with self._lock:
            finished = self._read()
            if self._arena is None:
                self._arena = Arena(finished, Votes(self._study.votes))
            return self._arena

    def _read(self) -> Finished:
        files = sorted(self._study.root.glob("scores/*/*/*.csv"))
        seen = [(file, file.stat().st_mtime_ns) for file in files]
        if self._finished is None or seen != self._seen:
            self._finished, self._arena, self._seen = Finished(self._study), None, seen
        return self._finished
