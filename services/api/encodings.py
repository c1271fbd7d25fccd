"""Bodies that are sent compressed: decoded as they are read, within the caps of plain ones."""

import zlib
from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.api.problems import problem_response
from shared.problems import Problem

ACCEPTED = "gzip, deflate, identity"
_PIECE = 256 * 1024
_GZIP, _ZLIB, _RAW = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS


class DecodeBody:
    """Decodes ``Content-Encoding: gzip`` and ``deflate``; others are refused.

    Nothing is decoded before the application reads, so before a key was checked, and never more
    than one piece at a time: a small body that unpacks to a large one meets its cap on the way.
    """

    def __init__(self, app: ASGIApp, *, caps: "BodyCaps") -> None:
        self._app = app
        self._caps = caps

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        values = [value for name, value in scope["headers"] if name == b"content-encoding"]
        names = b",".join(values).decode("latin-1").lower().split(",")
        wanted = [name for part in names if (name := part.strip()) not in ("", "identity")]
        if not wanted:
            await self._app(scope, receive, send)
            return
        if len(wanted) > 1 or wanted[0] not in ("gzip", "x-gzip", "deflate"):
            problem = Problem("unsupported-encoding", f"Send the body as {ACCEPTED}.")
            answer = problem_response(problem.with_headers(Accept_Encoding=ACCEPTED))
            await answer(scope, receive, send)
            return
        body = _Decoded(receive, gzip=wanted[0] != "deflate", most=self._caps.of(scope["path"]))
        dropped = (b"content-encoding", b"content-length")
        headers = [pair for pair in scope["headers"] if pair[0] not in dropped]
        await self._app({**scope, "headers": headers}, body.receive, send)


class BodyCaps:
    """The most bytes that a body may have, by path. A form around a file may be a little longer."""

    FORM_BYTES = 2**20

    def __init__(self, most: int, *, larger: Mapping[str, int]) -> None:
        self._most = most
        self._larger = {path: size + self.FORM_BYTES for path, size in larger.items()}

    def of(self, path: str) -> int:
        """Return the cap of a path."""
        return self._larger.get(path, self._most)

    def problem(self, path: str) -> Problem:
        """Return what a longer body is answered with."""
        return Problem("content-too-large", f"The body exceeds {self.of(path)} bytes.")


class _Decoded:
    """The decoded body as ASGI messages."""

    def __init__(self, receive: Receive, *, gzip: bool, most: int) -> None:
        self._receive = receive
        self._bits = _GZIP if gzip else _ZLIB
        self._gzip = gzip
        self._most = most
        self._taken = 0
        self._tail = b""  # compressed, not decoded yet
        self._more = True
        self._begun = False
        self._decoder = zlib.decompressobj(self._bits)

    async def receive(self) -> Message:
        """Return the next piece."""
        while True:
            if not self._tail and self._more:
                message = await self._receive()
                if message["type"] != "http.request":
                    return message
                self._tail = message.get("body", b"")
                self._more = message.get("more_body", False)
            elif not self._tail:
                return await self._end()
            piece = self._decode()
            self._taken += len(piece)
            if self._taken > self._most:
                raise Problem("content-too-large", f"The body unpacks to over {self._most} bytes.")
            if piece:
                return {"type": "http.request", "body": piece, "more_body": True}

    async def _end(self) -> Message:
        if self._bits:
            if self._begun and not self._decoder.eof:
                raise _malformed("it is cut off")
            self._bits = 0
            return {"type": "http.request", "body": b"", "more_body": False}
        return await self._receive()

    def _decode(self) -> bytes:
        try:
            if self._decoder.eof:
                if not self._gzip:
                    raise _malformed("something follows its end")
                self._decoder = zlib.decompressobj(self._bits)  # files packed one after another
            elif not self._begun and not self._gzip and self._tail[0] & 0x0F != 8:
                self._decoder = zlib.decompressobj(_RAW)  # what some clients call deflate
            self._begun = True
            piece = self._decoder.decompress(self._tail, _PIECE)
        except zlib.error as error:
            raise _malformed("it cannot be decoded") from error
        self._tail = self._decoder.unconsumed_tail or self._decoder.unused_data
        return piece


def _malformed(why: str) -> Problem:
    return Problem("malformed-encoding", f"The body is not encoded as declared: {why}.")
