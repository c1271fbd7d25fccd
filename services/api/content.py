"""Serves bytes of the object store: ranges, entity tags, conditions."""

from fastapi import Request
from fastapi.responses import Response, StreamingResponse

from services.api.headers import matches, requested_span
from services.api.resources import Resources


def serve(
    request: Request,
    resources: Resources,
    *,
    key: str,
    size: int,
    sha256: str,
    media_type: str,
    filename: str,
    **headers: str,
) -> Response:
    """Answer a GET for an object, or 304, or a part of it. Raises ``range-not-satisfiable``."""
    etag = f'"{sha256[:32]}"'
    common = {
        "ETag": etag,
        "Cache-Control": "private, no-cache",
        "Content-Disposition": f'inline; filename="{filename}"',
        # An artifact opened in a browser must not become a page of this origin.
        "Content-Security-Policy": "default-src 'none'; sandbox",
        **headers,
    }
    if matches(etag, request.headers.get("if-none-match")):
        return Response(status_code=304, headers=common)
    condition = request.headers.get("if-range")
    asked = request.headers.get("range") if condition in (None, etag) else None
    span = requested_span(asked, size=size)
    return StreamingResponse(
        resources.objects.stream(key, span.start, span.end),
        status_code=206 if span.partial else 200,
        media_type=media_type,
        headers={**common, **span.headers},
    )
