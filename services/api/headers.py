"""Reads the request headers that carry meaning here: Prefer, Accept, Range, conditions."""

import re
from dataclasses import dataclass

from starlette.datastructures import Headers

from shared.problems import Problem

_RANGE = re.compile(r"^bytes=([0-9]{0,18})-([0-9]{0,18})$")


def preferences(headers: Headers) -> dict[str, str]:
    """Return what all ``Prefer`` headers (RFC 7240) ask for; of a repeated one, the first."""
    found: dict[str, str] = {}
    for part in ",".join(headers.getlist("prefer")).split(","):
        name, _, value = part.partition(";")[0].partition("=")
        found.setdefault(name.strip().lower(), value.strip().strip('"'))
    return found


def preferred_wait(headers: Headers, *, most: float) -> float | None:
    """Return the seconds of ``Prefer: wait=N``, at most ``most``; ``None`` without."""
    value = preferences(headers).get("wait")
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise Problem("invalid-header", "`Prefer: wait=N` takes a number of seconds.")
    return min(seconds, most)


def accepted_images(header: str | None) -> tuple[str, ...]:
    """Return the image types that ``Accept`` prefers to JSON; none when JSON is as welcome."""
    ranges = []
    for part in (header or "").split(","):
        media, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    quality = float(parameter[2:])
                except ValueError:
                    quality = 0.0
        if media and quality > 0:
            ranges.append((media, quality))
    images = [(media, quality) for media, quality in ranges if media.startswith("image/")]
    others = [q for media, q in ranges if media in ("application/json", "application/*", "*/*")]
    if not images or max(others, default=0.0) >= max(quality for _, quality in images):
        return ()
    return tuple(media for media, _ in images)


def matches(etag: str, header: str | None) -> bool:
    """Whether ``If-None-Match`` (or ``If-Match``) names this tag, weakly compared."""
    if header is None:
        return False
    tags = {tag.strip().removeprefix("W/") for tag in header.split(",")}
    return "*" in tags or etag.removeprefix("W/") in tags


@dataclass(frozen=True)
class Span:
    """The bytes ``start`` to ``end`` (exclusive) of a content of ``size`` bytes."""

    start: int
    end: int
    size: int
    partial: bool

    @property
    def headers(self) -> dict[str, str]:
        """The headers that describe it."""
        headers = {"Content-Length": str(self.end - self.start), "Accept-Ranges": "bytes"}
        if self.partial:
            headers["Content-Range"] = f"bytes {self.start}-{self.end - 1}/{self.size}"
        return headers


def requested_span(range_header: str | None, *, size: int) -> Span:
    """Return the span that ``Range`` asks for; several ranges are answered whole (RFC 9110).

    Raises the problem ``range-not-satisfiable``.
    """
    whole = Span(0, size, size, partial=False)
    match = _RANGE.match(range_header.replace(" ", "")) if range_header else None
    if match is None or match.groups() == ("", ""):
        return whole
    first, last = match.groups()
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
    if start >= size or end <= start:
        problem = Problem("range-not-satisfiable", f"The content has {size} bytes.")
        raise problem.with_headers(Content_Range=f"bytes */{size}")
    return Span(start, end, size, partial=True)
