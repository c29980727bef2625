"""The class names of the rows of a manifest."""

from tasks.core.data.rows import Rows
from tasks.core.errors import InputError


def labelled(rows: Rows, what: str, known: list[str] | None = None) -> list[str]:
    """Label names of rows; InputError where one is missing or not among `known`."""
    numbers, names = rows.codes("label")
    bare = (numbers < 0).nonzero()[0]
    if len(bare):
        raise InputError(
            f"{len(bare)} of {len(rows)} {what} videos have no label, the first is {rows[int(bare[0])].path}",
            "add a label column to the manifest",
        )
    strange = sorted(set(names) - set(known)) if known is not None else []
    if strange:
        raise InputError(
            f"labels in the {what} set that the model does not know: {', '.join(strange[:5])}", f"it knows: {', '.join(known[:20])}"
        )
    return names
