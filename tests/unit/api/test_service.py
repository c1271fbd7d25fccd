"""Around the jobs: events, operations, OpenAPI, health, metrics, headers, logs."""

import json
import logging
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import httpx
import pytest

from services.api import uploads
from services.api.app import THREADS
from shared.db.queries import new_id
from shared.images import ImageLimits, StoredImage, sanitize
from shared.specs import SPECS
from tests.unit.api.service import Service, assert_problem, picture


def parse(stream: str) -> list[dict[str, str]]:
    """Return the events of a stream, comments and the retry line left out."""
    events = []
    for block in stream.split("\n\n"):
        pairs = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if pairs.get("event"):
            events.append(pairs)
    return events


def test_events_tell_what_happened_and_resume(service: Service) -> None:
    job_id = service.create()
    job = service.claim(job_id)
    claims = service.resources.repository.claims
    for done in range(1, 4):
        claims.progress(job_id, job.fence, {"done": done, "total": 3, "message": "at work"})
    claims.finish(job_id, job.fence, state="succeeded", retention_seconds=60, result={})
    answer = service.client.get(f"/v1/jobs/{job_id}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = parse(answer.text)
    names = ["queued", "running", "progress", "progress", "progress", "succeeded"]
    assert [event["event"] for event in events] == names
    assert [int(event["id"]) for event in events] == list(range(1, 7))
    assert json.loads(events[3]["data"])["done"] == 2
    rest = service.client.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": "4"})
    assert parse(rest.text) == events[4:]
    for after in ("6", "999"):
        ended = service.client.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": after})
        assert parse(ended.text) == []


@pytest.mark.parametrize("after", ["x", "-1", "1" * 20, "²"])
def test_bad_event_ids_are_refused(service: Service, after: str) -> None:
    answer = service.client.get(
        f"/v1/jobs/{service.create()}/events", headers={"Last-Event-ID": after.encode()}
    )
    assert_problem(answer, 400, "invalid-header")


def test_events_arrive_while_the_job_runs(service: Service) -> None:
    job_id = service.create()
    with service.client.stream("GET", f"/v1/jobs/{job_id}/events") as answer:
        lines = answer.iter_lines()
        assert next(line for line in lines if line.startswith("event")) == "event: queued"
        job = service.claim(job_id)
        assert next(line for line in lines if line.startswith("event")) == "event: running"
        service.client.delete(f"/v1/jobs/{job_id}")
        assert not [line for line in lines if line.startswith("event")]
    assert job.fence == 1


def wait_for_waiters(service: Service, number: int) -> None:
    """Wait until so many requests wait."""
    end = time.monotonic() + 20
    while service.resources.watcher.waiting != number and time.monotonic() < end:
        time.sleep(0.005)
    assert service.resources.watcher.waiting == number


def test_a_reader_who_leaves_waits_no_more(service: Service) -> None:
    job_id = service.create()
    with service.client.stream("GET", f"/v1/jobs/{job_id}/events") as answer:
        lines = answer.iter_lines()
        next(lines)
        wait_for_waiters(service, 1)
    wait_for_waiters(service, 0)


def test_a_long_poll_whose_client_leaves_waits_no_more(service: Service) -> None:
    for method, path in (
        ("GET", f"/v1/jobs/{service.create()}"),
        ("POST", "/v1/jobs/classify"),
    ):
        files = {"image": picture()} if method == "POST" else None
        with pytest.raises(httpx.ReadTimeout):
            service.client.request(
                method, path, files=files, headers={"Prefer": "wait=30"}, timeout=0.3
            )
        wait_for_waiters(service, 0)


def test_operations_describe_what_jobs_take(service: Service) -> None:
    listed = service.client.get("/v1/operations").json()
    assert [operation["kind"] for operation in listed] == list(SPECS)
    classify = service.client.get("/v1/operations/classify").json()
    assert classify in listed
    assert classify["defaults"]["faces"] == "auto"
    assert classify["url"] == "/v1/jobs/classify"
    assert classify["spec_schema"]["additionalProperties"] is False
    assert "counts" in classify["result_schema"]["properties"]
    for operation in listed:
        for example in operation["examples"]:
            SPECS[operation["kind"]].model_validate(example)


def test_openapi_is_complete_enough_to_generate_clients(service: Service) -> None:
    document = service.client.get("/openapi.json").json()
    references = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert references <= document["components"]["schemas"].keys()
    ids = [
        operation["operationId"]
        for path in document["paths"].values()
        for operation in path.values()
    ]
    assert len(ids) == len(set(ids))
    with_a_file = [spec.endpoint for spec in SPECS.values() if spec.endpoint]
    for path in with_a_file:
        body = document["paths"][path]["post"]["requestBody"]["content"]
        assert "file" in body["multipart/form-data"]["schema"]["properties"]
    for kind in (kind for kind, spec in SPECS.items() if spec.endpoint is None):
        operation = document["paths"][f"/v1/jobs/{kind}"]["post"]
        body = operation["requestBody"]["content"]
        assert set(body) == {"application/json", "multipart/form-data"}
        assert set(operation["responses"]) >= {"200", "201", "202", "422", "429", "507"}
        assert {"Prefer", "Idempotency-Key", "validate_only"} <= {
            parameter["name"] for parameter in operation["parameters"]
        }
        assert operation["security"]
        assert "application/problem+json" in operation["responses"]["422"]["content"]
    assert "/v1/jobs/{kind}" not in document["paths"]


def test_ready_tells_what_is_missing(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    ready = service.client.get("/readyz")
    assert ready.status_code == 200
    assert set(ready.json()["checks"].values()) == {"ok"}

    def fail() -> None:
        raise ConnectionError("amqp://user:password@broker")

    monkeypatch.setattr(service.resources.doorbell, "check", fail)
    answer = service.client.get("/readyz")
    problem = assert_problem(answer, 503, "not-ready")
    assert problem["checks"]["broker"] != "ok"
    assert "password" not in answer.text
    assert service.client.post("/v1/jobs/classify", files={"image": picture()}).status_code == 202


def test_metrics_count_what_lies_in_the_broker(service: Service) -> None:
    queue = service.resources.settings.data_dir / "broker" / "messages" / "batch"
    service.resources.doorbell.ring(new_id("job"), "interactive")
    (queue / "garbage").write_bytes(b"{")
    assert 'bauta_waiting_rings{queue="interactive"} 1.0' in service.client.get("/metrics").text

    assert service.resources.doorbell.wait(["batch"], seconds=0.01) is None

    text = service.client.get("/metrics").text
    assert "bauta_unreadable_messages_total 1.0" in text
    assert 'bauta_waiting_rings{queue="batch"} 0.0' in text


def test_metrics_count_requests_and_jobs(service: Service) -> None:
    job_id = service.create()
    service.client.get(f"/v1/jobs/{job_id}")
    text = service.client.get("/metrics").text
    assert 'bauta_jobs{kind="classify",state="queued"} 1.0' in text
    assert 'bauta_oldest_queued_seconds{queue="interactive"}' in text
    assert "bauta_waiting_requests 0.0" in text
    assert re.search(
        r'bauta_http_requests_total\{method="GET",route="/v1/jobs/\{job_id\}",status="200"\} 1',
        text,
    )
    assert job_id not in text
    assert "default" not in text


def test_every_answer_carries_the_protective_headers(service: Service) -> None:
    for path in ("/v1/jobs", "/livez", "/nothing", "/", "/docs"):
        headers = service.client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "server" not in headers


def test_request_ids_are_echoed_when_they_are_harmless(service: Service) -> None:
    kept = service.client.get("/livez", headers={"X-Request-ID": "abc-1.2_3"})
    assert kept.headers["x-request-id"] == "abc-1.2_3"
    for given in ("a b", "x" * 101, ""):
        answer = service.client.get("/livez", headers={"X-Request-ID": given})
        assert re.fullmatch(r"[0-9a-f]{16}", answer.headers["x-request-id"])


def test_the_log_has_no_names_ids_or_keys(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    answer = service.client.post(
        "/v1/jobs/classify?tag=secret", files={"image": ("my-face.png", picture())}
    )
    job_id = answer.json()["id"]
    service.client.get(f"/v1/jobs/{job_id}")
    access = [r.getMessage() for r in caplog.records if r.name == "services.api.access"]
    assert any("POST /v1/jobs/classify 202" in line for line in access)
    assert any("GET /v1/jobs/{job_id} 200" in line for line in access)
    assert not any("secret" in line or "face" in line or job_id in line for line in access)


def test_waiting_for_a_turn_to_decode_holds_no_thread(
    serve: Callable[..., Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()

    def slow(data: bytes, limits: ImageLimits) -> StoredImage:
        go_on.wait(60)
        return sanitize(data, limits)

    monkeypatch.setattr(uploads, "sanitize", slow)
    service = serve(concurrent_decodes=1)
    threads = [threading.Thread(target=service.upload) for _ in range(2 * THREADS)]
    for thread in threads:
        thread.start()
    while service.resources.decoding.waiting < 2 * THREADS - 2:
        time.sleep(0.005)
    assert service.client.get("/v1/jobs").status_code == 200
    go_on.set()
    for thread in threads:
        thread.join()


def test_importing_the_app_is_cheap_and_needs_no_worker() -> None:
    code = (
        "import sys, services.api.app as module; assert module.app\n"
        "heavy = {'torch', 'numpy', 'cv2', 'services.worker'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
