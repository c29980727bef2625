"""Packages that only a part of the suite needs, imported where it is used."""

from typing import Any

from tasks.core.errors import UsageError


def require_transformers(what: str) -> Any:
    """The package transformers; UsageError, which begins with `what`, where it is not installed."""
    try:
        import transformers
    except ImportError:
        raise UsageError(f"{what} needs the package transformers", "pip install 'vid-suite[text]'") from None
    return transformers
