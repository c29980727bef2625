"""What a batch is: a dict that says which of its entries is the main one."""

from typing import Any

Batch = dict[str, Any]
"""`main`: the name of the tensor whose rows are the items of the batch (`video`, `flow`, `features`); `path`: a name for each item;
`skipped`: (path, reason) of what could not be read; and whatever else the data set gives."""


def size_of(batch: Batch) -> int:
    """Items in a batch: rows of its main tensor; 0 where nothing could be read."""
    return len(batch[batch["main"]])
