"""Errors with a meaning for the person at the terminal; each class carries its exit code."""


class VidError(Exception):
    """Something a person can act on.

    Args:
        message: what went wrong and where, one line.
        hint: how to mend it (a near match, the command to run), one line, optional.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None):
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class StorageError(VidError):
    """A full, closed or failing disk (exit 1)."""


class UsageError(VidError):
    """Usage, configuration, or a preset or model that is missing or invalid (exit 2)."""

    exit_code = 2


class NoCounterpart(UsageError):
    """A model that another program cannot represent (exit 2)."""


class InputError(VidError):
    """Input data that cannot be used (exit 3)."""

    exit_code = 3


class Diverged(VidError):
    """Training met a non-finite loss or gradient; stopped before the optimizer step (exit 5)."""

    exit_code = 5


class Preempted(VidError):
    """A signal asked the run to stop; the state is saved and the same command continues it (exit 75)."""

    exit_code = 75


class Interrupted(VidError):
    """Ctrl-C: like Preempted, with the exit code a shell expects (exit 130)."""

    exit_code = 130
