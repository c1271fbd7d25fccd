"""Bounds in front of the application: heads, time, connections. All on loopback, all small."""

import asyncio
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from starlette.requests import HTTPConnection

from services.api.front import Bounds, Connections, client_address
from services.api.front.addresses import account, parse_address
from tests.unit.api.service import Service, picture

QUICK = Bounds(
    head_seconds=0.3,
    body_seconds=0.3,
    body_bytes_per_second=100_000,
    write_seconds=0.4,
    linger_seconds=0.3,
    tick_seconds=0.05,
)
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
UPLOAD = (
    b"POST /v1/images HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
    b"Content-Length: 100000\r\n\r\n"
)


@contextmanager
def connected(service: Service) -> Iterator[socket.socket]:
    """A raw connection to the service."""
    address = (service.client.base_url.host, service.client.base_url.port)
    with socket.create_connection(address, timeout=20) as connection:
        yield connection


def read_all(connection: socket.socket) -> bytes:
    """Read until the service closes."""
    data = b""
    try:
        while piece := connection.recv(65536):
            data += piece
    except ConnectionResetError:
        pass
    return data


def exchange(service: Service, *pieces: bytes) -> tuple[int, dict[str, Any]]:
    """Send bytes; returns the status and the problem of an answer after which it closes."""
    with connected(service) as connection:
        for piece in pieces:
            connection.sendall(piece)
        answer = read_all(connection)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower(), answer
    assert b"application/problem+json" in head, answer
    document: dict[str, Any] = json.loads(body)
    assert document["status"] == int(head.split()[1])
    return document["status"], document


def trickled(connection: socket.socket) -> int:
    """Send single bytes, at most 400; returns how many the service took before it closed."""
    for number in range(400):
        try:
            connection.sendall(b"a")
        except (BrokenPipeError, ConnectionResetError):
            return number
        time.sleep(0.02)
    return 400


def get(path: str = "/livez", *headers: bytes) -> bytes:
    lines = [f"GET {path} HTTP/1.1".encode(), b"Host: localhost", *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("request_", "status", "slug"),
    [
        (get("/livez", b"X-A: " + b"a" * 70_000), 431, "headers-too-large"),
        (get("/livez", *[b"X-%d: a" % n for n in range(200)]), 431, "headers-too-large"),
        (get("/livez", b"X-" + b"a" * 70_000 + b": a"), 431, "headers-too-large"),
        (get("/livez?" + "a" * 20_000), 414, "uri-too-long"),
        (b"GET /livez HTTP/1.1\r\n\r\n", 400, "malformed-request"),
        (get("/livez", b"Host: evil.example"), 400, "malformed-request"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", 400, "malformed-request"),
        (get("/livez", b"Content-Length: 1", b"Content-Length: 2"), 400, "malformed-request"),
        (
            get("/livez", b"Content-Length: 1", b"Transfer-Encoding: chunked"),
            400,
            "malformed-request",
        ),
        (b"GET http://[::1/livez HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "malformed-request"),
        (b"CONNECT evil.example:443 HTTP/1.1\r\nHost: a\r\n\r\n", 400, "malformed-request"),
    ],
)
def test_a_head_over_the_bounds_is_refused(
    service: Service, request_: bytes, status: int, slug: str
) -> None:
    found, document = exchange(service, request_)
    assert (found, document["type"]) == (status, f"/problems/{slug}")
    assert service.client.get("/livez").status_code == 200


@pytest.mark.parametrize(
    "start",
    [
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-A: ",
        b"GET /livez?",
        UPLOAD.replace(b"Content-Length: 100000", b"Transfer-Encoding: chunked") + b"1;",
        UPLOAD.replace(b"Content-Length: 100000", b"Transfer-Encoding: chunked") + b"0\r\nX: ",
    ],
    ids=["header", "target", "chunk extension", "trailer"],
)
def test_what_never_ends_is_refused_while_it_arrives(service: Service, start: bytes) -> None:
    """Nothing is held of it: the service stops reading it after some 64 KiB."""
    status, document = exchange(service, start, *[b"a" * 16_384] * 40)
    assert status in (414, 431), document


def test_many_pieces_of_a_header_cost_no_quadratic_time(service: Service) -> None:
    """A header of 64 KB in pieces of ten bytes is one that is allowed, and is answered."""
    pieces = [b"a" * 10] * 6_000
    with connected(service) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-A: ")
        for piece in pieces:
            connection.sendall(piece)
        connection.sendall(b"\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")


def test_trailers_are_no_headers(serve: Callable[..., Service]) -> None:
    """A key smuggled in behind the body is nobody's key."""
    service = serve(require_keys=True)
    _, secret = service.resources.repository.keys.create("ours")
    body = (
        b"POST /v1/jobs/classify HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2\r\n{}\r\n0\r\nAuthorization: Bearer " + secret.encode() + b"\r\n\r\n"
    )
    with connected(service) as connection:
        connection.sendall(body)
        assert read_all(connection).startswith(b"HTTP/1.1 401")


@pytest.mark.parametrize("start", [b"", b"GET /li", b"\r\n\r\n"], ids=["none", "half", "blank"])
def test_a_head_that_does_not_come_in_time_is_waited_for_no_longer(
    serve: Callable[..., Service], start: bytes
) -> None:
    service = serve(bounds=QUICK)
    with connected(service) as connection:
        connection.sendall(start)
        answer = read_all(connection)
    assert answer == b"" if start != b"GET /li" else answer.startswith(b"HTTP/1.1 408")


def test_a_head_by_single_bytes_does_not_extend_its_time(serve: Callable[..., Service]) -> None:
    service = serve(bounds=QUICK)
    with connected(service) as connection:
        assert trickled(connection) < 400
    assert service.client.get("/livez").status_code == 200


def test_half_open_uploads_end(serve: Callable[..., Service]) -> None:
    service = serve(bounds=QUICK)
    answers = []
    connections = []
    address = (service.client.base_url.host, service.client.base_url.port)
    for _ in range(20):
        connection = socket.create_connection(address, timeout=20)
        connection.sendall(UPLOAD + b"half")
        connections.append(connection)
    for connection in connections:
        answers.append(read_all(connection))
        connection.close()
    assert all(answer.startswith(b"HTTP/1.1 408") for answer in answers)
    assert not service.stored_files()


def test_an_upload_slower_than_the_bound_ends_and_one_as_fast_does_not(
    serve: Callable[..., Service],
) -> None:
    data = picture(300, 300, compress_level=0)
    service = serve(bounds=QUICK)

    def slowly(pause: float) -> Iterator[bytes]:
        for start in range(0, len(data), 9_000):
            yield data[start : start + 9_000]
            time.sleep(pause)

    headers = {"Content-Type": "image/png", "Content-Length": str(len(data))}
    fast = service.client.post("/v1/images", content=slowly(0.05), headers=headers)
    assert fast.status_code == 201
    with connected(service) as connection:
        connection.sendall(UPLOAD)
        assert trickled(connection) < 400


def test_a_long_poll_outlasts_the_bounds_on_requests(serve: Callable[..., Service]) -> None:
    service = serve(bounds=QUICK)
    job = service.create()
    answer = service.client.get(f"/v1/jobs/{job}", headers={"Prefer": "wait=1"})
    assert answer.status_code == 200
    assert answer.json()["state"] == "queued"


def test_a_client_that_takes_nothing_of_its_answer_is_dropped(
    serve: Callable[..., Service],
) -> None:
    service = serve(bounds=QUICK)
    job_id = service.create()
    service.finish(job_id, artifacts=[("big.bin", "application/octet-stream", bytes(20_000_000))])
    with connected(service) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(get(f"/v1/jobs/{job_id}/artifacts/big.bin"))
        end = time.monotonic() + 20
        while (
            'route="/v1/jobs/{job_id}/artifacts/{name}"' not in service.client.get("/metrics").text
        ):
            assert time.monotonic() < end, "the answer is still being sent"
            time.sleep(0.05)


def test_after_an_early_answer_the_rest_of_the_body_is_not_waited_for(
    serve: Callable[..., Service],
) -> None:
    service = serve(bounds=QUICK, require_keys=True)
    with connected(service) as connection:
        connection.sendall(UPLOAD + b"half")
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 401")


def test_requests_on_one_connection_and_pipelined_ones_are_all_answered(service: Service) -> None:
    with connected(service) as connection:
        connection.sendall(LIVEZ * 5)
        data = b""
        while data.count(b"HTTP/1.1 200") < 5:
            data += connection.recv(65536)
        connection.sendall(LIVEZ)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")


def test_an_upgrade_is_answered_in_plain_http(service: Service) -> None:
    with connected(service) as connection:
        connection.sendall(get("/livez", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c"))
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"ok\n")


def test_connections_over_the_bound_are_refused_and_idle_ones_make_room(
    serve: Callable[..., Service],
) -> None:
    service = serve(bounds=Bounds(connections=4))
    service.client.get("/livez", headers={"Connection": "close"})
    address = (service.client.base_url.host, service.client.base_url.port)
    idle = [socket.create_connection(address, timeout=20) for _ in range(6)]
    assert service.client.get("/livez", headers={"Connection": "close"}).status_code == 200
    for connection in idle:
        connection.close()
    busy = []
    for _ in range(4):
        busy.append(socket.create_connection(address, timeout=20))
        busy[-1].sendall(UPLOAD + b"half")
    end = time.monotonic() + 20
    while True:
        with connected(service) as connection:
            connection.sendall(LIVEZ)
            answer = read_all(connection) if time.monotonic() < end else b"never refused"
        if answer.startswith(b"HTTP/1.1 503"):
            break
        assert time.monotonic() < end
    assert b"/problems/too-many-connections" in answer
    for connection in busy:
        connection.close()


class Seat:
    """A connection that only remembers being dropped."""

    def __init__(self) -> None:
        self.dropped = False

    def tick(self, seconds: float) -> None:
        """Pass the time."""

    def drop(self) -> None:
        self.dropped = True


def test_addresses_are_bound_one_by_one_but_neither_loopback_nor_proxies() -> None:
    asyncio.run(_addresses_are_bound())


async def _addresses_are_bound() -> None:
    house = Connections(
        Bounds(connections=100, connections_per_address=2, proxies=[ip_network("10.0.0.0/8")])
    )
    for address, admitted in (
        ("192.0.2.1", [True, True, False]),
        ("192.0.2.2", [True, True, False]),
        ("2001:db8::1", [True]),
        ("2001:db8::2", [True]),  # of the same /64 network
        ("2001:db8::3", [False]),
        ("10.1.2.3", [True] * 5),
        ("127.0.0.1", [True] * 5),
        ("::1", [True] * 5),
    ):
        found = [house.admit(Seat(), ip_address(address)) for _ in admitted]
        assert found == admitted, address


def test_who_leaves_makes_room_and_the_longest_idle_one_goes_first() -> None:
    asyncio.run(_who_leaves_makes_room())


async def _who_leaves_makes_room() -> None:
    house = Connections(Bounds(connections=2, connections_per_address=2))
    first, second, third = Seat(), Seat(), Seat()
    assert house.admit(first, ip_address("192.0.2.1"))
    assert house.admit(second, ip_address("192.0.2.2"))
    house.busy(first)
    house.idle(first)
    assert house.admit(third, ip_address("192.0.2.3"))
    assert (first.dropped, second.dropped) == (False, True)
    for seat in (first, third):
        house.busy(seat)
    assert not house.admit(Seat(), ip_address("192.0.2.4"))
    house.leave(first)
    house.leave(first)
    assert house.admit(Seat(), ip_address("192.0.2.4"))


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("192.0.2.1", None, "192.0.2.1"),
        ("192.0.2.1", "198.51.100.7", "192.0.2.1"),  # not a proxy of ours
        ("10.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "203.0.113.9, 198.51.100.7", "198.51.100.7"),  # the first may be invented
        ("10.0.0.1", "203.0.113.9, 10.0.0.2", "203.0.113.9"),
        ("10.0.0.1", "nonsense", "10.0.0.1"),
        ("10.0.0.1", None, "10.0.0.1"),
        ("::ffff:10.0.0.1", "[2001:db8::1]", "2001:db8::1"),
    ],
)
def test_a_clients_address_is_believed_of_proxies_only(
    peer: str, forwarded: str | None, expected: str
) -> None:
    headers = [(b"x-forwarded-for", forwarded.encode())] if forwarded else []
    scope = {"type": "http", "headers": headers, "client": (peer, 1234)}
    found = client_address(HTTPConnection(scope), [ip_network("10.0.0.0/8")])
    assert str(found) == expected


def test_accounts() -> None:
    assert account(parse_address("::ffff:192.0.2.1")) == "192.0.2.1"
    assert account(parse_address("2001:db8::1:2")) == "2001:db8::/64"
    assert account(parse_address("testclient")) == "None"
