"""Errors that say what was found, what was expected, and what to do next.

The command line prints the two lines of a :class:`TslensError` and exits with its ``exit_code``; it shows a
traceback only with ``--debug``.
"""


class TslensError(Exception):
    """Base of all errors a user can cause or mend.

    ``message``: what was found and what was expected. ``hint``: what to do next.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(f"{message} {hint}")
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        """So that an error of a worker process arrives whole."""
        return type(self), (self.message, self.hint)


class UsageError(TslensError):
    """A value on the command line or in a call that cannot be meant: an impossible name, two budgets."""

    exit_code = 2


class DataError(TslensError):
    """Stories or tokens that cannot be read: missing, empty, broken, binary."""


class ModelError(TslensError):
    """A model that cannot be found or loaded: unknown name, truncated or foreign checkpoint."""


class RunError(TslensError):
    """A run folder that cannot be used: in use, not writable, made with other settings."""


class ProbeInputError(TslensError):
    """Stories or patterns that a probe cannot score; names the story."""
