"""`snakemake --logger vlg`: a run on one screen (`vlg.workflow.screen`); found by its name.

It is what `make` uses. Snakemake's own words are in its log file, whose name is told at the end.
Snakemake imports every plug-in it finds, chosen or not, so the package is imported only where this
one is chosen: a PYTHONPATH that leads to another checkout must not lend a workflow its package.
"""

import logging
import os
import sys

from snakemake.logging import DefaultFormatter
from snakemake_interface_logger_plugins.base import LogHandlerBase


class LogHandler(LogHandlerBase):
    """Snakemake's events for the screen; with --verbose or --dry-run, Snakemake's words as ever."""

    def __post_init__(self) -> None:
        from vlg.workflow.screen import QUIET, Screen

        settings = self.common_settings
        self.screen = None
        self.plain = DefaultFormatter(settings.quiet, settings.show_failed_logs)
        if not (settings.verbose or settings.dryrun or settings.printshellcmds):
            self.screen = Screen()
            os.environ |= QUIET

    def emit(self, record: logging.LogRecord) -> None:
        if self.screen:
            self.screen.show(record)
        elif text := self.plain.format(record):
            sys.stderr.write(f"{text}\n")

    def close(self) -> None:
        if self.screen:
            self.screen.close()
        super().close()

    writes_to_stream, writes_to_file, needs_rulegraph = True, False, False

    @property
    def has_filter(self) -> bool:
        """The screen chooses for itself; Snakemake's words are chosen as ever."""
        return self.screen is not None

    has_formatter = True
