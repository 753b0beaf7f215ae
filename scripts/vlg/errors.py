"""The one kind of error that is the user's to mend."""


class UserError(Exception):
    """A mistake in config, data, weights or environment.

    The message is one line: the file or key, what is wrong with it, and the remedy.
    Command lines print it without a traceback (`vlg.workflow.cli`).
    """
