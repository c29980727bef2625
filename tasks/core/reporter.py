"""How code below the terminal speaks to the person in front of it, without knowing the terminal.

`vidcli.console` implements `Reporter`; library users get `Quiet`. Nothing under `tasks` prints.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Progress(Protocol):
    """A running count."""

    def advance(self, n: int = 1, **metrics: float) -> None:
        """Count `n` more units done; `metrics` are shown beside the count."""

    def expect(self, total: int, told: str = "") -> None:
        """From now on so many units are the whole; `told` is shown beside the count."""


class Reporter(Protocol):
    """What a task may say; everything goes to stderr and, in a training run, to log.txt."""

    def info(self, text: str) -> None: ...

    def warn(self, text: str) -> None: ...

    def progress(self, description: str, total: int | None, unit: str = "it", start: int = 0) -> AbstractContextManager[Progress]:
        """A bar on a terminal, one plain line every half minute elsewhere."""


class _Silent:
    def advance(self, n: int = 1, **metrics: float) -> None:
        return None

    def expect(self, total: int, told: str = "") -> None:
        return None


class Quiet:
    """A `Reporter` that says nothing."""

    def info(self, text: str) -> None:
        return None

    def warn(self, text: str) -> None:
        return None

    def progress(self, description: str, total: int | None, unit: str = "it", start: int = 0) -> AbstractContextManager[Progress]:
        return nullcontext(_Silent())
