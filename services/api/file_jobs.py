"""Jobs that are created with one large file: streamed to the store, never held in memory."""

import hashlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import Request
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from services.api.create_job import JobRequest, Stored
from services.api.problems import invalid_field, invalid_request
from services.api.resources import Resources
from services.api.spec_check import refuse_unfit_text
from services.api.spool import as_upload
from services.api.uploads import UPLOAD_SECONDS, refuse_full_disk
from shared.db.queries import UPLOAD_FILE, upload_prefix
from shared.objects import ObjectStoreUnavailableError
from shared.problems import Problem
from shared.specs import JobSpec

_MOST_FIELDS = 50
_FILE_TYPES = ("application/", "video/", "binary/")
Parse = Callable[[Mapping[str, str]], Mapping[str, Any]]


class OneFile:
    """The file that came with a job; its bytes are read once, on their way to the store."""

    ids: Sequence[str] = ()

    def __init__(self, pieces: AsyncIterator[bytes], *, declared: int, most: int) -> None:
        self._pieces = pieces
        self._declared = declared
        self._most = most

    async def check(self, resources: Resources, tenant: str) -> None:
        """Check nothing: what is in the file is looked at by the job."""

    async def store(self, resources: Resources, tenant: str, job_id: str) -> Stored:
        """Store the file; raises ``content-too-large`` past the cap."""
        refuse_full_disk(resources, self._declared)
        prefix = upload_prefix(tenant, job_id)
        sweep_id = await run_in_threadpool(
            resources.repository.jobs.announce_prefix,
            tenant,
            prefix,
            within_seconds=UPLOAD_SECONDS,
        )
        digest = hashlib.sha256()
        try:
            pieces = _counted(self._pieces, digest, most=self._most)
            await resources.objects.put_stream(prefix + UPLOAD_FILE, pieces)
        except Problem:
            await run_in_threadpool(_discard, resources, prefix)
            raise
        return Stored(sweep_id=sweep_id, file_digest=f"sha256:{digest.hexdigest()}")

    def discard(self, resources: Resources, tenant: str, job_id: str, stored: Stored) -> None:
        """Delete the file."""
        del stored
        _discard(resources, upload_prefix(tenant, job_id))


def _discard(resources: Resources, prefix: str) -> None:
    with suppress(ObjectStoreUnavailableError):  # swept later
        resources.objects.delete_prefix(prefix)


@asynccontextmanager
async def read_file_request(
    request: Request,
    resources: Resources,
    spec_class: type[JobSpec],
    *,
    most: int,
    parse: Parse = dict,
) -> AsyncIterator[JobRequest]:
    """Read a form (the file in ``file``), or a raw body with the spec's fields in the query.

    ``parse`` makes the spec's document of the fields. The file has at most ``most`` bytes.
    """
    declared = request.headers.get("content-length", "0")
    size = int(declared) if declared.isdigit() else 0
    async with _file_of(request, resources) as (fields, pieces):
        document = parse(fields)
        refuse_unfit_text(document)
        try:
            spec = spec_class.model_validate(document)
        except ValidationError as error:
            raise invalid_request(error, document=document) from error
        yield JobRequest(spec, OneFile(pieces, declared=size, most=most))


@asynccontextmanager
async def _file_of(
    request: Request, resources: Resources
) -> AsyncIterator[tuple[dict[str, str], AsyncIterator[bytes]]]:
    media_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        form_of = resources.spool.form(request, max_files=1, max_fields=_MOST_FIELDS)
        async with form_of as form:
            fields, file = _form_parts(form.multi_items())
            yield fields, as_upload(file).pieces()
        return
    if media_type and not media_type.startswith(_FILE_TYPES):
        raise Problem(
            "unsupported-media-type",
            "Send the file itself, or multipart/form-data with the file in the field `file`.",
        )
    for name in request.query_params:
        if len(request.query_params.getlist(name)) > 1:
            raise invalid_field(f"/{name[:100]}", "this field is given twice")
    yield dict(request.query_params), request.stream()


def _form_parts(parts: list[tuple[str, UploadFile | str]]) -> tuple[dict[str, str], UploadFile]:
    fields: dict[str, str] = {}
    file = None
    for name, part in parts:
        if isinstance(part, str):
            if name in fields:
                raise invalid_field(f"/{name[:100]}", "this field is given twice")
            fields[name] = part
        elif name == "file":
            file = part
        else:
            raise invalid_field(f"/{name[:100]}", "the file belongs into the field `file`")
    if file is None:
        raise invalid_field("/file", "the file is missing")
    return fields, file


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
