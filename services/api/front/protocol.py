"""uvicorn's HTTP/1.1 protocol with bounds on the head, on time and on unread answers.

uvicorn bounds no header: httptools joins the pieces of one by copying, which takes quadratic time
on the event loop before any key is checked. Nor does it bound how long a request may take to
arrive.
"""

import asyncio
import json
import socket
from typing import Any, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from services.api.front.addresses import parse_address
from services.api.front.connections import Connections
from shared.problems import Problem


class BoundedProtocol(HttpToolsProtocol):
    """One connection. Each refusal is a problem document; then the connection closes."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        house: Connections,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._house = house
        self._bounds = house.bounds
        self._refusal: Problem | None = None  # why the parser was stopped
        self._refused = False
        self._in_head = False
        self._in_body = False
        self._unused = 0  # bytes taken in since the parser last made something of them
        self._head_bytes = 0
        self._head_lines = 0
        self._hosts = 0
        self._patience = self._bounds.head_seconds
        self._write_patience = self._bounds.write_seconds

    # the connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        peer = transport.get_extra_info("socket")
        if peer is not None and peer.family in (socket.AF_INET, socket.AF_INET6):
            # Left to itself the kernel keeps megabytes of each body that waits for its turn.
            size = self._bounds.receive_buffer_bytes
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
        if not self._house.admit(self, parse_address(self.client[0] if self.client else None)):
            self._refuse(Problem("too-many-connections", "Too many connections are open."))
            self.transport.close()  # no lingering: it is not counted

    def connection_lost(self, exc: Exception | None) -> None:
        self._house.leave(self)
        super().connection_lost(exc)

    def drop(self) -> None:
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self._refused or self.parser is None:
            return  # read and thrown away, so that the client gets to read its answer
        self._unused += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            if self.cycle is not None:
                self.cycle.keep_alive = False  # answered in HTTP/1.1; what follows is not
        except httptools.HttpParserError:
            self._refuse(
                self._refusal or Problem("malformed-request", "The request is not valid HTTP/1.1.")
            )
        else:
            if self._unused > self._bounds.head_bytes:
                self._refuse(self._head_too_large())

    # the parser's callbacks

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._house.busy(self)
        self._in_head, self._in_body = True, False
        self._unused = self._head_bytes = self._head_lines = self._hosts = 0
        self._patience = self._bounds.head_seconds

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > self._bounds.target_bytes:
            most = self._bounds.target_bytes
            self._stop(Problem("uri-too-long", f"Path and query have at most {most} bytes."))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value)
        self._head_lines += 1
        if self._head_bytes > self._bounds.head_bytes or self._head_lines > self._bounds.head_lines:
            self._stop(self._head_too_large())
        if not self._in_head:
            return  # a trailer is no header of the request
        self._hosts += name.lower() == b"host"
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head, self._in_body, self._unused = False, True, 0
        if self._hosts > 1 or (not self._hosts and self.parser.get_http_version() == "1.1"):
            self._stop(Problem("malformed-request", "A request has one Host header."))
        self._patience = self._bounds.body_seconds
        super().on_headers_complete()
        self.cycle.transport = cast("asyncio.Transport", _AnswerTransport(self))

    def on_body(self, body: bytes) -> None:
        self._unused = 0
        if not self.cycle.response_complete:
            earned = self._patience + len(body) / self._bounds.body_bytes_per_second
            self._patience = min(earned, self._bounds.body_seconds)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_body, self._unused = False, 0
        super().on_message_complete()
        if self.cycle.response_complete:
            self._await_next()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._in_body:
            self._unset_keepalive_if_required()
            self._patience = self._bounds.linger_seconds  # for the rest of a body nobody wants
        elif not self._in_head and self.cycle.response_complete:
            self._await_next()

    def close_after_answer(self) -> None:
        """Close, but let the client read its answer.

        Closing with bytes unread would reset the connection, and the answer would be lost.
        """
        if self._in_body and not self.transport.is_closing():
            self._refused = True
            self._patience = self._bounds.linger_seconds
            self.flow.resume_reading()
            self._end_writing()
        else:
            self.transport.close()

    def resume_writing(self) -> None:
        self._write_patience = self._bounds.write_seconds
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        self._refuse(Problem("malformed-request", msg))

    # time

    def tick(self, seconds: float) -> None:
        """Lose patience with a client that neither sends nor takes."""
        if self.transport.is_closing() or self.flow.write_paused:
            self._write_patience -= seconds
            if self._write_patience <= 0:
                self.transport.abort()
            return
        self._write_patience = self._bounds.write_seconds
        answering = self.cycle is not None and not self.cycle.response_complete
        waiting = self._refused or self._in_head or self._in_body or not answering
        if not waiting or self.flow.read_paused:
            return  # what takes time here is not the client
        self._patience -= seconds
        if self._patience <= 0:
            self._lose_patience()

    def _lose_patience(self) -> None:
        if self._refused:
            self.transport.abort()
        elif not (self._in_head or self._in_body):
            self._house.refused("silent")
            self.transport.close()  # it never asked for anything
        else:
            part = "head" if self._in_head else "body"
            self._refuse(
                Problem("request-timeout", f"The request's {part} did not arrive in time.")
            )

    def _await_next(self) -> None:
        self._patience = self._bounds.head_seconds
        self._house.idle(self)

    # refusals

    def _head_too_large(self) -> Problem:
        most, lines = self._bounds.head_bytes, self._bounds.head_lines
        return Problem("headers-too-large", f"Headers have at most {most} bytes, {lines} lines.")

    def _stop(self, problem: Problem) -> None:
        """Stop the parser from within one of its callbacks."""
        self._refusal = problem
        raise ValueError(problem.detail)

    def _refuse(self, problem: Problem) -> None:
        """Answer with the problem and send nothing more; the client may still read it."""
        self._refused = True
        self._house.refused(problem.slug)
        self._patience = self._bounds.linger_seconds
        cycle = self.cycle
        pending = cycle is not None and not cycle.response_complete
        begun = pending and cycle.response_started
        if pending:
            cycle.disconnected = True
            cycle.message_event.set()
        if begun or self.transport.is_closing():
            self.transport.close()  # half an answer cannot be followed by another
            return
        self.flow.resume_reading()
        self.transport.write(_answer(problem))
        self._end_writing()

    def _end_writing(self) -> None:
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()


class _AnswerTransport:
    """What an answer is written to; its end waits for the rest of the request."""

    def __init__(self, protocol: BoundedProtocol) -> None:
        self._protocol = protocol

    def write(self, data: bytes) -> None:
        self._protocol.transport.write(data)

    def is_closing(self) -> bool:
        return self._protocol.transport.is_closing()

    def close(self) -> None:
        self._protocol.close_after_answer()


def _answer(problem: Problem) -> bytes:
    body = json.dumps(problem.document()).encode()
    headers = (
        b"content-type: application/problem+json\r\n"
        b"cache-control: no-store\r\n"
        b"x-content-type-options: nosniff\r\n"
        b"connection: close\r\n"
        b"content-length: %d\r\n\r\n" % len(body)
    )
    return STATUS_LINE[problem.status] + headers + body
