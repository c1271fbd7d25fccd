"""Parses and validates specs; large ones off the event loop, in a process that can be stopped.

Validation runs in C and holds the interpreter's lock. A megabyte of mistakes takes seconds, in
which no thread of this process would answer, so it is a process of its own that finds them.
"""

import json
from dataclasses import dataclass
from itertools import islice
from typing import Any

import anyio
from anyio import to_process, to_thread
from pydantic import ValidationError

from services.api.problems import MOST_ERRORS, invalid_field, invalid_request
from services.api.resources import Resources
from shared.problems import Problem
from shared.specs import SPECS, JobSpec
from shared.text import is_fit, unfit

MAX_JSON_BYTES = 2**20
MAX_VALUES = 50_000
CHECK_SECONDS = 60.0
FEW_VALUES = 2_000


def parse_json_object(data: bytes | str, *, what: str) -> dict[str, Any]:
    """Parse one JSON object; raises ``malformed-json`` or ``invalid-request``."""
    if len(data) > MAX_JSON_BYTES:
        raise Problem("content-too-large", f"{what} has more than {MAX_JSON_BYTES} bytes.")
    if (data.count(b",") if isinstance(data, bytes) else data.count(",")) > MAX_VALUES:
        raise Problem("content-too-large", f"{what} has more than {MAX_VALUES} values.")
    try:
        document = json.loads(data, parse_constant=_no_constant, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise Problem("malformed-json", f"{what} is not valid JSON: {str(error)[:200]}.") from error
    if not isinstance(document, dict):
        raise invalid_field("", f"{what} must be a JSON object")
    return document


def refuse_unfit_text(document: Any) -> None:
    """Raise ``invalid-request`` for strings that no store can hold, wherever they came from."""
    if is_fit(document):
        return
    errors = [
        {"pointer": pointer, "detail": "half of a surrogate pair, or NUL: this is no text"}
        for pointer in islice(unfit(document), MOST_ERRORS)
    ]
    raise Problem("invalid-request", "Some strings of the request are no text.", errors=errors)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name appears twice in one object")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


@dataclass(frozen=True)
class CheckedSpec:
    """A spec's document on its way to become a spec."""

    spec_class: type[JobSpec]
    document: dict[str, Any]

    async def build(self, resources: Resources) -> JobSpec:
        """Return the spec; raises ``invalid-request``."""
        if _is_small(self.document, FEW_VALUES):
            return self._validated()
        kind = self.spec_class.model_fields["kind"].default
        with anyio.move_on_after(CHECK_SECONDS):
            found = await to_process.run_sync(
                _mistakes, kind, self.document, cancellable=True, limiter=resources.checking
            )
            if found is not None:
                raise Problem("invalid-request", found["detail"], errors=found["errors"])
            # Valid, so validated once more in a moment; only mistakes take long.
            return await to_thread.run_sync(self._validated, limiter=resources.validating)
        raise Problem("content-too-large", "The spec is too large to be checked in time.")

    def _validated(self) -> JobSpec:
        try:
            return self.spec_class.model_validate(self.document)
        except ValidationError as error:
            raise invalid_request(error, document=self.document) from error


def _mistakes(kind: str, document: dict[str, Any]) -> dict[str, Any] | None:
    """Return what is wrong with a document. Runs in a process of its own."""
    try:
        SPECS[kind].model_validate(document)
    except ValidationError as error:
        problem = invalid_request(error, document=document)
        return {"detail": problem.detail, "errors": problem.extensions["errors"]}
    return None


def _is_small(value: Any, most: int) -> bool:
    """Whether a document has at most so many values."""
    waiting = [value]
    seen = 0
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
        seen += 1
        if seen + len(waiting) > most:
            return False
    return True
