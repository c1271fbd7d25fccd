"""Serves bytes of the object store: ranges, entity tags, conditions."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from fastapi import Request
from fastapi.responses import Response, StreamingResponse

from services.api.headers import Span, matches, requested_span
from services.api.resources import Resources
from shared.objects import CHUNK


async def serve(
    request: Request,
    resources: Resources,
    *,
    key: str,
    size: int,
    sha256: str,
    media_type: str,
    filename: str,
) -> Response:
    """Answer a GET for an object, or 304, or a part of it. Raises ``range-not-satisfiable``."""
    head = _head(request, size=size, sha256=sha256, media_type=media_type, filename=filename)
    if isinstance(head, Response):
        return head
    span, headers = head
    pieces = resources.objects.stream(key, span.start, span.end)
    # The first piece before the headers: a store that is down can still be answered as a problem.
    first = await anext(pieces, b"")
    status = 206 if span.partial else 200
    return StreamingResponse(
        _chained(first, pieces), status_code=status, media_type=media_type, headers=headers
    )


def serve_file(
    request: Request, path: Path, *, sha256: str, media_type: str, filename: str
) -> Response:
    """Answer a GET for a file as ``serve`` does for an object."""
    size = path.stat().st_size
    head = _head(request, size=size, sha256=sha256, media_type=media_type, filename=filename)
    if isinstance(head, Response):
        return head
    span, headers = head

    def pieces() -> Iterator[bytes]:
        with path.open("rb") as file:
            file.seek(span.start)
            left = span.end - span.start
            while left and (piece := file.read(min(CHUNK, left))):
                left -= len(piece)
                yield piece

    status = 206 if span.partial else 200
    return StreamingResponse(pieces(), status_code=status, media_type=media_type, headers=headers)


def _head(
    request: Request, *, size: int, sha256: str, media_type: str, filename: str
) -> Response | tuple[Span, dict[str, str]]:
    """Return the span to send and the headers; or the answer, where no bytes are wanted."""
    etag = content_etag(sha256)
    headers = {
        "ETag": etag,
        "Cache-Control": "private, no-cache",
        "Content-Disposition": f'inline; filename="{filename}"',
        # An artifact opened in a browser must not become a page of this origin.
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }
    if matches(etag, request.headers.get("if-none-match")):
        return Response(status_code=304, headers=headers)
    condition = request.headers.get("if-range")
    asked = request.headers.get("range") if condition in (None, etag) else None
    span = requested_span(asked, size=size)
    headers.update(span.headers)
    if request.scope.get("bauta.head"):
        status = 206 if span.partial else 200
        return Response(status_code=status, media_type=media_type, headers=headers)
    return span, headers


def content_etag(sha256: str) -> str:
    """Return the entity tag of these bytes."""
    return f'"{sha256[:32]}"'


async def _chained(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece
