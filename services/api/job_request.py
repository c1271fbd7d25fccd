"""Reads the body of ``POST /v1/jobs/{kind}``: JSON, or a form with a spec and images."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from fastapi import Request
from pydantic import ValidationError
from starlette.datastructures import UploadFile

from services.api.problems import MOST_ERRORS, invalid_request
from services.api.resources import Resources
from services.api.uploads import fresh_image_id, read_upload
from shared.problems import Problem
from shared.specs import ImagesSpec, JobSpec
from shared.text import is_fit, unfit

FILE_FIELDS = ("image", "images")
MAX_JSON_BYTES = 4 * 2**20
MAX_FIELDS = 200


@dataclass(frozen=True)
class JobRequest:
    """A valid spec, with the bytes of the images that came with it by their new ids."""

    spec: JobSpec
    uploads: Mapping[str, bytes]


async def read_job_request(
    request: Request, spec_class: type[JobSpec], kind: str, resources: Resources
) -> JobRequest:
    """Read and validate; raises the problems of bad input, before anything is stored."""
    media_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    uploads: list[bytes] = []
    if media_type == "application/json":
        document = await _json_body(request)
    elif media_type == "multipart/form-data":
        document, uploads = await _form(request, spec_class, resources)
    else:
        raise Problem(
            "unsupported-media-type", "Send application/json, or multipart/form-data with images."
        )
    refuse_unfit_text(document)
    if document.setdefault("kind", kind) != kind:
        raise _invalid("/kind", f"this address takes {kind!r} only")
    ids = [fresh_image_id() for _ in uploads]
    if uploads and not issubclass(spec_class, ImagesSpec):
        raise _invalid("/image", f"{kind!r} takes no images")
    if uploads:
        named = document.get("images", [])
        if not isinstance(named, list):
            raise _invalid("/images", "this must be a list")
        document["images"] = [*named, *ids]
    most = resources.settings.max_images_per_job
    if len(document.get("images") or ()) > most:
        raise _invalid("/images", f"a job takes at most {most} images")
    try:
        spec = spec_class.model_validate(document)
    except ValidationError as error:
        raise invalid_request(error) from error
    return JobRequest(spec, dict(zip(ids, uploads, strict=True)))


def refuse_unfit_text(document: Any) -> None:
    """Raise ``invalid-request`` for strings that no store can hold, wherever they came from."""
    if is_fit(document):
        return
    errors = [
        {"pointer": pointer, "detail": "half of a surrogate pair, or NUL: this is no text"}
        for pointer in islice(unfit(document), MOST_ERRORS)
    ]
    raise Problem("invalid-request", "Some strings of the request are no text.", errors=errors)


def parse_json_object(data: bytes | str, *, what: str) -> dict[str, Any]:
    """Parse one JSON object; raises ``malformed-json`` or ``invalid-request``."""
    try:
        document = json.loads(data, parse_constant=_no_constant, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise Problem("malformed-json", f"{what} is not valid JSON: {str(error)[:200]}.") from error
    if not isinstance(document, dict):
        raise _invalid("", f"{what} must be a JSON object")
    return document


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name appears twice in one object")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


async def _json_body(request: Request) -> dict[str, Any]:
    data = bytearray()
    async for piece in request.stream():
        data += piece
        if len(data) > MAX_JSON_BYTES:
            raise Problem("content-too-large", f"A spec has at most {MAX_JSON_BYTES} bytes.")
    return parse_json_object(bytes(data), what="The body")


async def _form(
    request: Request, spec_class: type[JobSpec], resources: Resources
) -> tuple[dict[str, Any], list[bytes]]:
    most = resources.settings.max_images_per_job
    async with request.form(
        max_files=most + 1, max_fields=MAX_FIELDS, max_part_size=MAX_JSON_BYTES
    ) as form:
        files = [(name, part) for name, part in form.multi_items() if isinstance(part, UploadFile)]
        fields = [(name, part) for name, part in form.multi_items() if isinstance(part, str)]
        uploads = []
        for name, part in files:
            if name == "spec":
                data = await part.read(MAX_JSON_BYTES + 1)
                fields.append((name, data.decode("utf-8", errors="replace")))
            elif name in FILE_FIELDS:
                uploads.append(await read_upload(part, resources))
            else:
                raise _invalid(f"/{name[:100]}", "files belong into the field `image`")
        return _document(spec_class, fields), uploads


def _document(spec_class: type[JobSpec], fields: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Put the part ``spec`` and the plain fields together. ``images`` may repeat; nothing else."""
    document: dict[str, Any] = {}
    for name, value in fields:
        if name == "spec":
            given = parse_json_object(value, what="The field `spec`")
        elif name not in spec_class.model_fields and name in FILE_FIELDS:
            raise _invalid(f"/{name}", "this field takes a file")
        else:
            given = {name: _plain(spec_class, name, value)}
        if isinstance(named := given.get("images"), list) and "images" in document:
            document["images"] = [*document["images"], *named]
            del given["images"]
        if twice := document.keys() & given.keys():
            raise _invalid(f"/{min(twice)[:100]}", "this field is given twice")
        document |= given
    return document


def _plain(spec_class: type[JobSpec], name: str, value: str) -> Any:
    """Read a form field as JSON where it is JSON (``true``, ``[…]``), else as text."""
    field = spec_class.model_fields.get(name)
    if field is not None and field.annotation in (str, str | None):
        return value
    try:
        parsed = json.loads(value, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        parsed = value
    return [parsed] if name == "images" and not isinstance(parsed, list) else parsed


def _invalid(pointer: str, detail: str) -> Problem:
    errors = [{"pointer": pointer, "detail": detail}]
    return Problem("invalid-request", "Some fields of the request are not valid.", errors=errors)
