"""The one kind of error that is the user's to mend."""

import re

# What breaks a line or a terminal; halves of characters are what a file's name of other bytes has.
BREAKS = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]")


class UserError(Exception):
    """A mistake in config, data, weights or environment.

    The message is one line: the file or key, what is wrong with it, and the remedy.
    Command lines print it without a traceback (`vlg.workflow.cli`).
    """

    def __str__(self) -> str:
        return BREAKS.sub(lambda found: ascii(found[0])[1:-1], super().__str__())
