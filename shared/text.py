"""Text that every store and every reader can take: no half of a surrogate pair, no NUL, no excess.

JSON can spell both (``"\\ud800"``, ``"\\u0000"``); UTF-8 has no bytes for the first and Postgres
no place for the second.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

MAX_STRING = 1000
ROOM_TO_SAY_SO = 100  # so that what was cut is not cut again
MAX_ENTRIES = 100

_UNFIT = re.compile("[\x00\ud800-\udfff]")
_MAY_BE_UNFIT = re.compile(r"\\u(?:d[89a-f]|0000)", re.IGNORECASE)
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def unfit(document: Any) -> Iterator[str]:
    """Yield the JSON pointers of strings, and of members' names, that are not fit."""
    found: list[tuple[str, Any]] = [("", document)]
    while found:  # a stack of its own: a document may be nested as deep as calls may be
        pointer, value = found.pop()
        if isinstance(value, str):
            if _UNFIT.search(value):
                yield pointer
        elif isinstance(value, dict):
            for name, inner in reversed(value.items()):
                below = f"{pointer}/{escaped(name)}"
                found.append((below, name if _UNFIT.search(name) else inner))
        elif isinstance(value, list | tuple):
            found += ((f"{pointer}/{n}", value[n]) for n in reversed(range(len(value))))


def escaped(name: str) -> str:
    """Return a member's name as a part of a JSON pointer, what is unfit in it spelled out."""
    spelled = _UNFIT.sub(lambda found: f"\\u{ord(found[0]):04x}", name)
    return spelled.replace("~", "~0").replace("/", "~1")[:200]


def is_fit(document: Any) -> bool:
    """Whether no string of a JSON document is unfit. Quick where nothing looks like it."""
    if not _MAY_BE_UNFIT.search(json.dumps(document)):
        return True
    return next(unfit(document), None) is None


def fit(value: Any) -> Any:
    """Return a JSON document with a replacement character for each that is unfit."""
    if isinstance(value, str):
        return _UNFIT.sub(_REPLACEMENT, value)
    if isinstance(value, dict):
        return {fit(name): fit(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [fit(inner) for inner in value]
    return value


def dumps(document: Any) -> str:
    """Write a JSON document for the database."""
    text = json.dumps(document)
    return json.dumps(fit(document)) if _MAY_BE_UNFIT.search(text) else text


def loads(text: str | bytes) -> Any:
    """Read a JSON document of the database, whoever wrote it."""
    document = json.loads(text)
    spelled = text if isinstance(text, str) else text.decode()
    return fit(document) if _MAY_BE_UNFIT.search(spelled) else document


def bounded(value: Any) -> Any:
    """Return a JSON document with long strings and lists cut, the length of what was cut said."""
    if isinstance(value, str) and len(value) > MAX_STRING + ROOM_TO_SAY_SO:
        return f"{value[:MAX_STRING]}… (cut: {len(value)} characters in all)"
    if isinstance(value, dict):
        kept = dict(list(value.items())[:MAX_ENTRIES])
        return {name[:MAX_STRING]: bounded(inner) for name, inner in kept.items()}
    if isinstance(value, list | tuple):
        return [bounded(inner) for inner in value[:MAX_ENTRIES]]
    return value
