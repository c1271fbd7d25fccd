"""Who may ask: keys, tenants, and pages of other origins."""

import socket
import time
from collections.abc import Callable

import pytest

from services.api import auth, wrong_keys
from tests.unit.api.service import Service, assert_problem, picture


@pytest.fixture
def keyed(serve: Callable[..., Service]) -> Service:
    """An API that requires keys."""
    return serve(require_keys=True)


def key_of(service: Service, tenant: str) -> tuple[str, dict[str, str]]:
    """Create a key; returns its id and the header that carries it."""
    row, secret = service.resources.repository.keys.create(tenant)
    return row.id, {"Authorization": f"Bearer {secret}"}


def test_without_a_key_nothing_is_given(keyed: Service) -> None:
    job = "/v1/jobs/job_0123456789abcdef01234567"
    for method, path in (
        ("GET", "/v1/jobs"),
        ("POST", "/v1/jobs/classify"),
        ("POST", "/v1/jobs/dance"),
        ("GET", job),
        ("GET", f"{job}/events"),
        ("GET", f"{job}/artifacts/x"),
        ("DELETE", job),
        ("POST", f"{job}/cancel"),
        ("POST", "/v1/images"),
        ("GET", "/v1/operations"),
    ):
        answer = keyed.client.request(method, path)
        assert_problem(answer, 401, "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"
    for header in ("Bearer wrong", "Bearer", "Basic YTpi", "Bearer ⁂".encode()):
        answer = keyed.client.get("/v1/jobs", headers={"Authorization": header})
        assert_problem(answer, 401, "unauthorized")
    assert keyed.client.get("/livez").status_code == 200


def test_tenants_do_not_see_each_other(keyed: Service) -> None:
    _, mine = key_of(keyed, "ours")
    _, theirs = key_of(keyed, "theirs")
    headers = {**mine, "Content-Type": "image/png"}
    image_id = keyed.client.post("/v1/images", content=picture(), headers=headers).json()["id"]
    job = keyed.client.post("/v1/jobs/classify", json={"images": [image_id]}, headers=mine)
    path = job.json()["url"]
    keyed.finish(job.json()["id"], artifacts=[("o.png", "image/png", picture())])
    for method, foreign in (
        ("GET", path),
        ("GET", f"{path}/events"),
        ("GET", f"{path}/artifacts/o.png"),
        ("POST", f"{path}/cancel"),
        ("DELETE", path),
        ("GET", f"/v1/images/{image_id}"),
        ("GET", f"/v1/images/{image_id}/content"),
        ("DELETE", f"/v1/images/{image_id}"),
    ):
        assert_problem(keyed.client.request(method, foreign, headers=theirs), 404, "not-found")
    stolen = keyed.client.post("/v1/jobs/classify", json={"images": [image_id]}, headers=theirs)
    assert_problem(stolen, 422, "unknown-image")
    assert keyed.client.get("/v1/jobs", headers=theirs).json()["jobs"] == []
    assert keyed.client.get(f"{path}/artifacts/o.png", headers=mine).status_code == 200


def test_idempotency_keys_of_tenants_do_not_meet(keyed: Service) -> None:
    ids = set()
    for tenant in ("ours", "theirs"):
        _, headers = key_of(keyed, tenant)
        answer = keyed.client.post(
            "/v1/jobs/classify",
            files={"image": picture()},
            headers={**headers, "Idempotency-Key": "same"},
        )
        ids.add(answer.json()["id"])
    assert len(ids) == 2


def test_a_revoked_key_stops_working(keyed: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    key_id, headers = key_of(keyed, "ours")
    assert keyed.client.get("/v1/jobs", headers=headers).status_code == 200
    keyed.resources.repository.keys.revoke(key_id)
    later = time.monotonic() + 2 * auth.REMEMBER_SECONDS
    monkeypatch.setattr(auth.time, "monotonic", lambda: later)
    assert_problem(keyed.client.get("/v1/jobs", headers=headers), 401, "unauthorized")


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:8000"},
        {"Host": "[::1"},
        {"Origin": "https://evil.example"},
        {"Origin": "http://localhost:3000"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_pages_of_other_origins_cannot_use_a_keyless_service(
    service: Service, headers: dict[str, str]
) -> None:
    answer = service.client.post("/v1/jobs/classify", files={"image": picture()}, headers=headers)
    assert_problem(answer, 403, "forbidden-origin")
    assert service.client.get("/v1/jobs").json()["jobs"] == []


def test_the_services_own_page_can(service: Service) -> None:
    base = str(service.client.base_url).rstrip("/")
    headers = {"Origin": base, "Sec-Fetch-Site": "same-origin"}
    assert service.client.get("/v1/jobs", headers=headers).status_code == 200
    for name in ("localhost", "[::1]"):
        own = {"Host": name, "Origin": f"http://{name}"}
        assert service.client.get("/v1/jobs", headers=own).status_code == 200


def test_no_cross_origin_sharing_is_granted(service: Service) -> None:
    answer = service.client.options(
        "/v1/jobs",
        headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "GET"},
    )
    assert not [name for name in answer.headers if name.startswith("access-control")]


def raw(service: Service, request: bytes) -> tuple[int, bytes]:
    """Send bytes as a proxy does; returns the status and the whole answer."""
    address = (service.client.base_url.host, service.client.base_url.port)
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(request)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    return int(answer.split()[1]), answer


def as_nginx(service: Service, path: str) -> bytes:
    """What nginx sends with `proxy_pass http://127.0.0.1:PORT;` and nothing else."""
    host = f"{service.client.base_url.host}:{service.client.base_url.port}"
    lines = [f"GET {path} HTTP/1.0", f"Host: {host}", "Connection: close", "User-Agent: curl/8.5.0"]
    return ("\r\n".join([*lines, "Accept: */*"]) + "\r\n\r\n").encode()


def test_a_keyless_service_is_not_published_by_nginx(service: Service) -> None:
    for path in ("/v1/jobs", "/v1/operations"):
        status, answer = raw(service, as_nginx(service, path))
        assert status == 403
        assert b"/problems/proxy-without-keys" in answer
    assert raw(service, as_nginx(service, "/metrics"))[0] == 401
    assert b"checks" not in raw(service, as_nginx(service, "/readyz"))[1]


@pytest.mark.parametrize(
    "name", ["X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded", "Via"]
)
def test_a_keyless_service_takes_nothing_that_a_proxy_forwards(service: Service, name: str) -> None:
    answer = service.client.get("/v1/jobs", headers={name: "198.51.100.7"})
    assert_problem(answer, 403, "proxy-without-keys")


def test_with_keys_a_proxy_is_welcome(keyed: Service) -> None:
    _, headers = key_of(keyed, "ours")
    forwarded = {**headers, "X-Forwarded-For": "198.51.100.7", "Host": "masks.example"}
    assert keyed.client.get("/v1/jobs", headers=forwarded).status_code == 200
    assert keyed.client.get("/metrics", headers=forwarded).status_code == 200
    assert "checks" in keyed.client.get("/readyz", headers=forwarded).json()


def test_wrong_keys_are_slowed_down_and_valid_ones_are_not(
    keyed: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, valid = key_of(keyed, "ours")
    assert keyed.client.get("/v1/jobs", headers=valid).status_code == 200
    statuses = [
        keyed.client.get("/v1/jobs", headers={"Authorization": f"Bearer {n}"}).status_code
        for n in range(40)
    ]
    assert statuses[:10] == [401] * 10
    assert statuses[-1] == 429
    answer = keyed.client.get("/v1/jobs", headers={"Authorization": "Bearer x"})
    assert_problem(answer, 429, "too-many-wrong-keys")
    assert int(answer.headers["retry-after"]) > 0
    assert keyed.client.get("/v1/jobs", headers=valid).status_code == 200
    later = time.monotonic() + 200
    monkeypatch.setattr(wrong_keys.time, "monotonic", lambda: later)
    after = keyed.client.get("/v1/jobs", headers={"Authorization": "Bearer x"})
    assert after.status_code == 401


def test_wrong_keys_behind_a_proxy_are_counted_by_client(serve: Callable[..., Service]) -> None:
    service = serve(require_keys=True, proxies="127.0.0.0/8")

    def ask(client: str) -> int:
        headers = {"Authorization": "Bearer wrong", "X-Forwarded-For": client}
        return service.client.get("/v1/jobs", headers=headers).status_code

    assert [ask("198.51.100.7") for _ in range(40)][-1] == 429
    assert ask("198.51.100.8") == 401
