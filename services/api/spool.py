"""Bodies on their way in: in memory while small, else in unnamed files of the spool folder.

Five hundred uploads at once cost disk, not memory. The files have no name, so nothing of them is
left when the process ends, however it ends.
"""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import cast

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser

from shared.problems import Problem
from shared.settings import Settings

IN_MEMORY_BYTES = 64 * 1024
MOST_FIELD_BYTES = 2**20
_READ = 256 * 1024


@dataclass(frozen=True)
class Upload:
    """A file that came with a request."""

    file: "SpooledTemporaryFile[bytes]"
    size: int

    def read(self, most: int = -1) -> bytes:
        """Return its bytes, or the first ``most`` of them. Reads from the disk: use a thread."""
        self.file.seek(0)
        return self.file.read(most)

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield its bytes in pieces."""
        self.file.seek(0)
        while piece := await run_in_threadpool(self.file.read, _READ):
            yield piece

    def close(self) -> None:
        """Give its memory or disk space back."""
        self.file.close()


class Spool:
    """Makes the files that bodies are kept in."""

    def __init__(self, folder: Path, *, min_free_bytes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._min_free_bytes = min_free_bytes

    @classmethod
    def from_settings(cls, settings: Settings) -> "Spool":
        """Open the spool that the settings name."""
        return cls(settings.spool_folder, min_free_bytes=settings.min_free_disk_bytes)

    def new_file(self) -> "SpooledTemporaryFile[bytes]":
        """Return an empty file."""
        return SpooledTemporaryFile(max_size=IN_MEMORY_BYTES, dir=str(self._folder))

    def keep(self, data: bytes) -> Upload:
        """Keep bytes that are in memory. Writes to the disk: use a thread."""
        file = self.new_file()
        file.write(data)
        return Upload(file, len(data))

    @asynccontextmanager
    async def body(self, request: Request, *, most: int, too_large: str) -> AsyncIterator[Upload]:
        """Keep a raw body; raises the problem ``too_large`` beyond ``most`` bytes."""
        self._refuse_full(request)
        size = 0
        with self.new_file() as file:
            async for piece in request.stream():
                size += len(piece)
                if size > most:
                    raise Problem(too_large, f"The body has more than {most} bytes.")
                if size > IN_MEMORY_BYTES:
                    await run_in_threadpool(file.write, piece)
                else:
                    file.write(piece)
            yield Upload(file, size)

    @asynccontextmanager
    async def form(
        self, request: Request, *, max_files: int, max_fields: int
    ) -> AsyncIterator[FormData]:
        """Read a form: files into the spool, fields into memory, all of them at most 1 MiB.

        Raises ``malformed-multipart`` and ``content-too-large``.
        """
        self._refuse_full(request)
        parser = _FormParser(request, self, max_files=max_files, max_fields=max_fields)
        try:
            form = await parser.parse()
        except MultiPartException as error:
            raise HTTPException(400, error.message) from error
        try:
            yield form
        finally:
            await form.close()

    def _refuse_full(self, request: Request) -> None:
        declared = request.headers.get("content-length", "0")
        coming = int(declared) if declared.isdigit() else 0
        if coming <= IN_MEMORY_BYTES:
            return
        if shutil.disk_usage(self._folder).free - coming < self._min_free_bytes:
            raise Problem("storage-full", "The service has no disk space left for this upload.")


class _FormParser(MultiPartParser):
    """Starlette's, with our files and a bound on all fields together."""

    def __init__(self, request: Request, spool: Spool, *, max_files: int, max_fields: int) -> None:
        super().__init__(
            request.headers,
            request.stream(),
            max_files=max_files,
            max_fields=max_fields,
            max_part_size=MOST_FIELD_BYTES,
        )
        self._spool = spool
        self._field_bytes = 0

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._current_part.file is None:
            self._field_bytes += end - start
            if self._field_bytes > MOST_FIELD_BYTES:
                detail = f"The fields of a form have at most {MOST_FIELD_BYTES} bytes."
                raise Problem("content-too-large", detail)
        super().on_part_data(data, start, end)

    def on_headers_finished(self) -> None:
        super().on_headers_finished()
        upload = self._current_part.file
        if upload is not None:
            file = self._spool.new_file()
            self._files_to_close_on_error[-1] = file
            upload.file.close()
            upload.file = cast("object", file)  # type: ignore[assignment]


def as_upload(part: UploadFile) -> Upload:
    """Return the file of a form's part."""
    return Upload(cast("SpooledTemporaryFile[bytes]", part.file), part.size or 0)
