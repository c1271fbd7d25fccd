"""Jobs that are created with one large file: streamed to the store, never held in memory."""

import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import Request, Response
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from services.api.answers import answer
from services.api.create_job import canonical, idempotency_key
from services.api.headers import preferred_wait
from services.api.job_request import refuse_unfit_text
from services.api.problems import invalid_request
from services.api.resources import Resources
from services.api.uploads import UPLOAD_SECONDS, refuse_full_disk
from shared.db.jobs import NewJob
from shared.db.queries import UPLOAD_FILE, new_id, upload_prefix
from shared.objects import ObjectStoreUnavailableError
from shared.problems import Problem
from shared.specs import JobSpec

_PIECE = 256 * 1024
_MOST_FIELDS = 50
_FILE_TYPES = ("application/", "video/", "binary/")
Parse = Callable[[Mapping[str, str]], Mapping[str, Any]]


async def create_file_job(
    request: Request,
    tenant: str,
    resources: Resources,
    spec_class: type[JobSpec],
    *,
    most: int,
    parse: Parse = dict,
) -> Response:
    """Create a job from a form (the file in ``file``) or from a raw body and the query.

    ``parse`` makes the spec's document of the fields. Raises ``content-too-large`` past ``most``
    bytes, and what the spec, the queue or the store have against it; nothing stays behind then.
    """
    wait = preferred_wait(request.headers, most=resources.settings.max_wait_seconds)
    key = idempotency_key(request)
    if wait:
        resources.watcher.refuse_when_full()
    async with _file_of(request) as (fields, pieces):
        try:
            document = parse(fields)
            refuse_unfit_text(document)
            spec = spec_class.model_validate(document)
        except ValidationError as error:
            raise invalid_request(error) from error
        job_id = new_id("job")
        prefix = upload_prefix(tenant, job_id)
        declared = request.headers.get("content-length", "0")
        refuse_full_disk(resources, int(declared) if declared.isdigit() else 0)
        sweep_id = await run_in_threadpool(
            resources.repository.jobs.announce_prefix,
            tenant,
            prefix,
            within_seconds=UPLOAD_SECONDS,
        )
        digest = hashlib.sha256()
        try:
            await resources.objects.put_stream(
                prefix + UPLOAD_FILE, _counted(pieces, digest, most=most)
            )
            new = NewJob(
                id=job_id,
                tenant_id=tenant,
                spec=spec,
                idempotency_key=key,
                fingerprint=canonical(
                    {**spec.model_dump(mode="json"), "file": f"sha256:{digest.hexdigest()}"}
                ),
                sweep_id=sweep_id,
            )
            job, is_new = await run_in_threadpool(
                resources.repository.jobs.create,
                new,
                max_queued=resources.settings.max_queued_jobs,
                retention_seconds=resources.settings.retention_seconds,
                ring_again_seconds=resources.settings.ring_again_seconds,
            )
        except Problem:
            await run_in_threadpool(_discard, resources, prefix)
            raise
    headers = {}
    if is_new:
        # Committed: the keeper rings if this ring does not go out.
        await run_in_threadpool(resources.doorbell.ring, job.id, job.queue)
    else:
        await run_in_threadpool(_discard, resources, prefix)
        headers["Idempotent-Replayed"] = "true"
    if wait is not None:
        headers["Preference-Applied"] = f"wait={wait:g}"
    return await answer(request, resources, job, wait=wait, images=(), headers=headers)


def _discard(resources: Resources, prefix: str) -> None:
    with suppress(ObjectStoreUnavailableError):  # swept later
        resources.objects.delete_prefix(prefix)


@asynccontextmanager
async def _file_of(
    request: Request,
) -> AsyncIterator[tuple[dict[str, str], AsyncIterator[bytes]]]:
    media_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        async with request.form(max_files=1, max_fields=_MOST_FIELDS) as form:
            fields, file = _form_parts(form.multi_items())
            yield fields, _read(file)
        return
    if media_type and not media_type.startswith(_FILE_TYPES):
        raise Problem(
            "unsupported-media-type",
            "Send the file itself, or multipart/form-data with the file in the field `file`.",
        )
    yield dict(request.query_params), request.stream()


def _form_parts(parts: list[tuple[str, UploadFile | str]]) -> tuple[dict[str, str], UploadFile]:
    fields: dict[str, str] = {}
    file = None
    for name, part in parts:
        if isinstance(part, str):
            if name in fields:
                raise _invalid(f"/{name[:100]}", "this field is given twice")
            fields[name] = part
        elif name == "file":
            file = part
        else:
            raise _invalid(f"/{name[:100]}", "the file belongs into the field `file`")
    if file is None:
        raise _invalid("/file", "the file is missing")
    return fields, file


async def _read(file: UploadFile) -> AsyncIterator[bytes]:
    while piece := await file.read(_PIECE):
        yield piece


async def _counted(pieces: AsyncIterator[bytes], digest: Any, *, most: int) -> AsyncIterator[bytes]:
    size = 0
    async for piece in pieces:
        size += len(piece)
        if size > most:
            raise Problem("content-too-large", f"The file has more than {most} bytes.")
        digest.update(piece)
        if piece:
            yield piece
    if not size:
        raise Problem("invalid-request", "The file has no bytes.")


def _invalid(pointer: str, detail: str) -> Problem:
    errors = [{"pointer": pointer, "detail": detail}]
    return Problem("invalid-request", "Some fields of the request are not valid.", errors=errors)
