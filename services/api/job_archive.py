"""``/v1/jobs/{id}/artifacts.zip``: all files of a result in one archive, written as it is read."""

import io
import re
import zipfile
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from services.api.auth import Shared, Tenant
from services.api.documentation import problems
from services.api.resources import Resources, missing_job
from services.api.schemas import is_id
from shared.db.tables import FINAL_STATES, Artifact
from shared.problems import Problem

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
MEDIA_TYPE = "application/zip"

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
# To deflate these again takes time and wins nothing.
_COMPRESSED = ("image/jpeg", "image/png", "image/webp", "image/gif", "application/zip", "video/")


@router.get(
    "/{job_id}/artifacts.zip",
    response_class=StreamingResponse,
    responses={
        200: {"description": "a ZIP archive", "content": {MEDIA_TYPE: {}}},
        **problems(401, 404, 409, 503),
    },
)
async def get_archive(
    job_id: Annotated[str, Path(description="the job's id")],
    request: Request,
    tenant: Tenant,
    resources: Shared,
) -> Response:
    """Return all files of a job's result as one ZIP archive.

    It is written while it is sent: its length is not known before. Pictures are stored as they are,
    other files deflated. A job that has not ended answers 409, one without files 404.
    """
    read = resources.repository.jobs.with_artifacts
    found = await run_in_threadpool(read, tenant, job_id) if is_id(job_id, "job") else None
    if found is None:
        raise missing_job(job_id)
    job, artifacts = found
    if job.state not in FINAL_STATES:
        raise Problem("job-not-finished", f"The job is {job.state}.", state=job.state)
    if not artifacts:
        raise Problem("not-found", "This job has no files.")
    headers = {
        "Cache-Control": "no-store",
        "Content-Disposition": f'attachment; filename="{job.kind}-{job.id}.zip"',
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }
    if request.scope.get("bauta.head"):
        return Response(media_type=MEDIA_TYPE, headers=headers)
    pieces = _archive(resources, artifacts)
    # The first piece before the headers: a store that is down can still be answered as a problem.
    first = await anext(pieces)

    async def chained() -> AsyncIterator[bytes]:
        yield first
        async for piece in pieces:
            yield piece

    return StreamingResponse(chained(), media_type=MEDIA_TYPE, headers=headers)


class _Outlet(io.RawIOBase):
    """A file that cannot seek: what is written waits to be taken."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: "ReadableBuffer") -> int:
        self._pieces.append(bytes(data))
        return len(self._pieces[-1])

    def take(self) -> bytes:
        data = b"".join(self._pieces)
        self._pieces.clear()
        return data


async def _archive(resources: Resources, artifacts: list[Artifact]) -> AsyncIterator[bytes]:
    outlet = _Outlet()
    archive = zipfile.ZipFile(outlet, "w")
    for name, artifact in named_once(artifacts):
        moment = datetime.fromtimestamp(artifact.created_at, UTC)
        entry = zipfile.ZipInfo(name, (moment.year, *moment.timetuple()[1:6]))
        is_compressed = artifact.media_type.startswith(_COMPRESSED)
        entry.compress_type = zipfile.ZIP_STORED if is_compressed else zipfile.ZIP_DEFLATED
        entry.file_size = artifact.size  # decides whether it needs a large entry's header
        entry.external_attr = 0o644 << 16
        with archive.open(entry, "w") as file:
            async for piece in resources.objects.stream(artifact.object_key, 0, artifact.size):
                await run_in_threadpool(file.write, piece)
                if data := outlet.take():
                    yield data
    archive.close()
    yield outlet.take()


def named_once(artifacts: Iterable[Artifact]) -> Iterable[tuple[str, Artifact]]:
    """Yield each artifact with a name that is safe to unpack and not yet taken."""
    taken: set[str] = set()
    for artifact in artifacts:
        name = artifact.name
        if not _SAFE_NAME.fullmatch(name):
            name = _UNSAFE.sub("_", name).strip("._")[:190] or "file"
        stem, dot, ending = name.rpartition(".")
        number = 2
        while name.lower() in taken:  # of two that differ in case, one system would lose one
            name = f"{stem}-{number}.{ending}" if dot else f"{ending}-{number}"
            number += 1
        taken.add(name.lower())
        yield name, artifact
