"""Reads the body of ``POST /v1/jobs/{kind}``: JSON, or a form with a spec and images."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from anyio import to_thread
from fastapi import Request
from starlette.datastructures import FormData, UploadFile

from services.api.create_job import JobRequest
from services.api.problems import invalid_field
from services.api.resources import Resources
from services.api.spec_check import (
    MAX_JSON_BYTES,
    CheckedSpec,
    parse_json_object,
    refuse_unfit_text,
)
from services.api.spool import Upload, as_upload
from services.api.uploads import ImageFiles, fresh_image_id
from shared.problems import Problem
from shared.specs import ImagesSpec, JobSpec

FILE_FIELDS = ("image", "images")
MAX_FIELDS = 200


@asynccontextmanager
async def read_job_request(
    request: Request, spec_class: type[JobSpec], kind: str, resources: Resources
) -> AsyncIterator[JobRequest]:
    """Read and validate; raises the problems of bad input, before anything is stored."""
    media_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    async with AsyncExitStack() as stack:
        files: list[Upload] = []
        if media_type == "application/json":
            spool = resources.spool
            body = spool.body(request, most=MAX_JSON_BYTES, too_large="content-too-large")
            upload = await stack.enter_async_context(body)
            document = await _in_turn(resources, upload.size, _json_body, upload)
        elif media_type == "multipart/form-data":
            most = resources.settings.max_images_per_job
            form_of = resources.spool.form(request, max_files=most + 1, max_fields=MAX_FIELDS)
            form = await stack.enter_async_context(form_of)
            fields, files = _form_parts(form)
            size = sum(len(value) for _, value in fields)
            document = await _in_turn(resources, size, _document, spec_class, fields)
        else:
            raise Problem(
                "unsupported-media-type",
                "Send application/json, or multipart/form-data with images.",
            )
        refuse_unfit_text(document)
        ids = _complete(document, spec_class, kind, resources, files=len(files))
        spec = await CheckedSpec(spec_class, document).build(resources)
        places = {image_id: place for place, image_id in enumerate(spec.image_ids)}
        yield JobRequest(spec, ImageFiles(dict(zip(ids, files, strict=True)), places))


async def _in_turn(resources: Resources, size: int, work: Any, *arguments: Any) -> dict[str, Any]:
    """Parse: at once what is small, else off the event loop, one after the other."""
    if size <= resources.small_spec_bytes:
        done: dict[str, Any] = work(*arguments)
        return done
    found: dict[str, Any] = await to_thread.run_sync(work, *arguments, limiter=resources.validating)
    return found


def _json_body(upload: Upload) -> dict[str, Any]:
    return parse_json_object(upload.read(), what="The body")


def _complete(
    document: dict[str, Any],
    spec_class: type[JobSpec],
    kind: str,
    resources: Resources,
    *,
    files: int,
) -> list[str]:
    """Add the kind, and the ids that the files get, which are returned."""
    if document.setdefault("kind", kind) != kind:
        raise invalid_field("/kind", f"this address takes {kind!r} only")
    ids = [fresh_image_id() for _ in range(files)]
    if ids and not issubclass(spec_class, ImagesSpec):
        raise invalid_field("/image", f"{kind!r} takes no images")
    if ids:
        named = document.get("images", [])
        if not isinstance(named, list):
            raise invalid_field("/images", "this must be a list")
        document["images"] = [*named, *ids]
    most = resources.settings.max_images_per_job
    if len(document.get("images") or ()) > most:
        raise invalid_field("/images", f"a job takes at most {most} images")
    return ids


def _form_parts(form: FormData) -> tuple[list[tuple[str, str]], list[Upload]]:
    fields: list[tuple[str, str]] = []
    files: list[Upload] = []
    for name, part in form.multi_items():
        if isinstance(part, str):
            fields.append((name, part))
        elif name == "spec":
            data = as_upload(part).read(MAX_JSON_BYTES + 1)
            fields.append((name, data.decode("utf-8", errors="replace")))
        elif name not in FILE_FIELDS:
            raise invalid_field(f"/{name[:100]}", "files belong into the field `image`")
        elif not is_empty_field(part):
            files.append(as_upload(part))
    return fields, files


def is_empty_field(part: UploadFile) -> bool:
    """Whether it is a file field in which a browser's user has chosen nothing."""
    return not part.filename and not part.size


def _document(spec_class: type[JobSpec], fields: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Put the part ``spec`` and the plain fields together. ``images`` may repeat; nothing else."""
    document: dict[str, Any] = {}
    for name, value in fields:
        if name == "spec":
            given = parse_json_object(value, what="The field `spec`")
        elif name not in spec_class.model_fields and name in FILE_FIELDS:
            raise invalid_field(f"/{name}", "this field takes a file")
        else:
            given = {name: _plain(spec_class, name, value)}
        if isinstance(named := given.get("images"), list) and "images" in document:
            document["images"] = [*document["images"], *named]
            del given["images"]
        if twice := document.keys() & given.keys():
            raise invalid_field(f"/{min(twice)[:100]}", "this field is given twice")
        document |= given
    return document


def _plain(spec_class: type[JobSpec], name: str, value: str) -> Any:
    """Read a form field as JSON where it is JSON (``true``, ``[…]``), else as text."""
    field = spec_class.model_fields.get(name)
    if field is not None and field.annotation in (str, str | None):
        return value
    try:
        parsed = parse_json_value(value)
    except (ValueError, RecursionError):
        parsed = value
    return [parsed] if name == "images" and not isinstance(parsed, list) else parsed


def parse_json_value(text: str) -> Any:
    """Parse a JSON value; raises ``ValueError`` for what is none, ``NaN`` among it."""

    def no_constant(name: str) -> float:
        raise ValueError(f"{name} is not JSON")

    return json.loads(text, parse_constant=no_constant)
