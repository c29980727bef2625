"""The terminal of `vid`. Nothing in here imports torch at import time."""

__version__ = "0.1.0"
