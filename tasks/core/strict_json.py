"""JSON in which nothing is lost on reading."""

import json
from collections import Counter
from typing import Any

from tasks.core.errors import InputError


def parse_json(text: bytes | str, where: str) -> Any:
    """JSON in which no key occurs twice; raises InputError that begins with `where`."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
            raise InputError(f"{where}: '{twice}' occurs twice", "which of the two counts cannot be told: keep one")
        return found

    try:
        return json.loads(text.decode("utf-8-sig") if isinstance(text, bytes) else text, object_pairs_hook=unique)
    except UnicodeDecodeError:
        raise InputError(f"{where}: not text in UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not valid JSON: {error}") from None
