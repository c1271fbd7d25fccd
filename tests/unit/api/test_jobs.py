"""Jobs by HTTP: created once, waited for, listed, cancelled, deleted."""

import io
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import pytest
from PIL import Image, ImageChops

from services.api.watcher import Watcher
from shared.db.jobs import Snapshot
from shared.problems import Problem
from tests.unit.api.service import Service, assert_problem, picture


def finish_soon(service: Service, **end: object) -> threading.Thread:
    """Finish the next job as soon as it is there, in a thread."""

    def run() -> None:
        while True:
            waiting = service.resources.repository.jobs.page("default", limit=1, state="queued")
            if waiting:
                service.finish(waiting[0].id, **end)  # type: ignore[arg-type]
                return
            time.sleep(0.005)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_a_form_with_one_photo_is_a_whole_job(service: Service) -> None:
    answer = service.client.post("/v1/jobs/classify", files={"image": picture()})
    assert answer.status_code == 202
    assert answer.headers["location"] == answer.json()["url"]
    assert int(answer.headers["retry-after"]) > 0
    job = service.client.get(answer.headers["location"]).json()
    assert job["state"] == "queued"
    assert job["attempts"] == 0
    assert job["spec"]["faces"] == "auto"
    assert datetime.fromisoformat(job["expires_at"]) > datetime.fromisoformat(job["created_at"])


def test_images_come_in_order_named_ones_first(service: Service) -> None:
    named = [service.upload(), service.upload()]
    answer = service.client.post(
        "/v1/jobs/classify",
        data={"spec": json.dumps({"images": [named[0]]}), "images": named[1]},
        files=[("image", picture(5, 5)), ("images", picture(6, 6))],
    )
    images = answer.json()["spec"]["images"]
    assert images[:2] == named
    widths = [service.client.get(f"/v1/images/{name}").json()["width"] for name in images[2:]]
    assert widths == [5, 6]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"faces": "whole"}, {"faces": "whole"}),
        ({"annotate": "false"}, {"annotate": False}),
        (
            {"faces": '[{"x": 1, "y": 2, "width": 3, "height": 4}]'},
            {"faces": [{"x": 1.0, "y": 2.0, "width": 3.0, "height": 4.0}]},
        ),
        ({"model": "mask-cnn-32"}, {"model": "mask-cnn-32"}),
        ({"spec": '{"annotate": false}', "faces": "whole"}, {"annotate": False, "faces": "whole"}),
    ],
)
def test_plain_form_fields_are_fields_of_the_spec(
    service: Service, fields: dict[str, str], expected: dict[str, object]
) -> None:
    answer = service.client.post(
        "/v1/jobs/classify", data=fields, files={"image": ("a.png", picture())}
    )
    assert answer.status_code == 202, answer.text
    spec = answer.json()["spec"]
    assert {name: spec[name] for name in expected} == expected


def test_the_spec_may_be_a_file_of_the_form(service: Service) -> None:
    files = {"spec": ("spec.json", b'{"faces": "whole"}'), "image": ("a.png", picture())}
    answer = service.client.post("/v1/jobs/classify", files=files)
    assert answer.json()["spec"]["faces"] == "whole"


def test_waiting_returns_the_end_as_soon_as_it_is_there(service: Service) -> None:
    thread = finish_soon(service, artifacts=[("out.png", "image/png", picture())])
    answer = service.client.post(
        "/v1/jobs/classify", files={"image": picture()}, headers={"Prefer": "wait=20"}
    )
    thread.join()
    assert answer.status_code == 201
    assert answer.headers["preference-applied"] == "wait=20"
    assert answer.headers["location"] == answer.json()["url"]
    assert "retry-after" not in answer.headers
    assert answer.json()["state"] == "succeeded"
    assert [artifact["name"] for artifact in answer.json()["artifacts"]] == ["out.png"]


def test_waiting_in_vain_is_202(serve: Callable[..., Service]) -> None:
    service = serve(max_wait_seconds=0.1)
    headers = [("Prefer", "respond-async"), ("Prefer", "wait=50")]
    answer = service.client.post("/v1/jobs/classify", files={"image": picture()}, headers=headers)
    assert answer.status_code == 202
    assert answer.headers["preference-applied"] == "respond-async, wait=0.1"
    assert answer.json()["state"] == "queued"


def test_the_picture_itself(service: Service) -> None:
    drawn = picture(30, 20)
    thread = finish_soon(service, artifacts=[("out.png", "image/png", drawn)])
    answer = service.client.post(
        "/v1/jobs/classify",
        files={"image": picture()},
        headers={"Prefer": "wait=20", "Accept": "image/png, */*;q=0.5"},
    )
    thread.join()
    assert answer.status_code == 201
    assert answer.headers["content-type"] == "image/png"
    assert answer.content == drawn
    kept = service.client.get(answer.headers["content-location"])
    assert kept.content == drawn
    assert kept.headers["etag"] == answer.headers["etag"]


@pytest.mark.parametrize("accept", ["image/*", "application/json"])
def test_a_verdict_comes_in_a_header_too(service: Service, accept: str) -> None:
    drawn = [("weak-0.png", "image/png", picture(30, 20))]
    thread = finish_soon(service, artifacts=drawn, verdict="weak")
    answer = service.client.post(
        "/v1/jobs/encrypt",
        files={"image": picture()},
        headers={"Prefer": "wait=20", "Accept": accept},
    )
    thread.join()
    assert answer.status_code == 201
    assert answer.headers["bauta-verdict"] == "weak"
    again = service.client.get(answer.headers["location"])
    assert again.headers["bauta-verdict"] == "weak"
    assert again.json()["result"]["verdict"] == "weak"


def test_a_photo_that_is_not_protected_as_required_is_422(service: Service) -> None:
    problem = Problem("not-protected", "no", verdict="unprotected")
    thread = finish_soon(service, problem=problem)
    answer = service.client.post(
        "/v1/jobs/encrypt",
        files={"image": picture()},
        data={"require": "protected"},
        headers={"Prefer": "wait=20", "Accept": "image/jpeg"},
    )
    thread.join()
    assert assert_problem(answer, 422, "not-protected")["verdict"] == "unprotected"
    assert "bauta-verdict" not in answer.headers


@pytest.mark.parametrize(
    ("end", "accept", "status", "slug"),
    [
        ({"artifacts": [("o.csv", "text/csv", b"x")]}, "image/*", 406, "not-acceptable"),
        ({}, "image/*", 406, "not-acceptable"),
        ({"problem": Problem("invalid-input", "no")}, "image/*", 422, "invalid-input"),
    ],
)
def test_no_picture_is_a_problem_and_never_json_saved_as_one(
    service: Service, end: dict[str, object], accept: str, status: int, slug: str
) -> None:
    thread = finish_soon(service, **end)
    answer = service.client.post(
        "/v1/jobs/classify",
        files={"image": picture()},
        headers={"Prefer": "wait=20", "Accept": accept},
    )
    thread.join()
    problem = assert_problem(answer, status, slug)
    assert answer.headers["location"] == f"/v1/jobs/{problem['job']}"


@pytest.mark.parametrize(
    ("stored", "accept", "expected"),
    [
        ("PNG", "image/jpeg", "image/jpeg"),
        ("JPEG", "image/png", "image/png"),
        ("PNG", "image/webp;q=0.9, application/json;q=0.1", "image/webp"),
        ("PNG", "image/avif, image/webp, image/png;q=0.8", "image/png"),
        ("JPEG", "image/*", "image/jpeg"),
        ("PNG", "image/gif, image/jpeg", "image/jpeg"),
    ],
)
def test_the_picture_comes_as_a_type_that_was_asked_for(
    service: Service, stored: str, accept: str, expected: str
) -> None:
    """As stored if that is welcome, else encoded anew, of the same size and much the same look."""
    media_type, data = f"image/{stored.lower()}", picture(40, 30, file_format=stored)
    thread = finish_soon(service, artifacts=[("out", media_type, data)])
    answer = service.client.post(
        "/v1/jobs/classify",
        files={"image": picture()},
        headers={"Prefer": "wait=20", "Accept": accept},
    )
    thread.join()
    assert answer.status_code == 201, answer.text
    assert answer.headers["content-type"] == expected
    with Image.open(io.BytesIO(answer.content)) as sent, Image.open(io.BytesIO(data)) as kept:
        assert f"image/{(sent.format or '').lower()}" == expected
        difference = ImageChops.difference(sent.convert("RGB"), kept.convert("RGB"))
        assert sent.size == (40, 30)
        assert max(high for _, high in difference.getextrema()) <= 8
    if expected == media_type:
        assert answer.content == data
        assert "bauta-converted-from" not in answer.headers
    else:
        assert answer.headers["bauta-converted-from"] == media_type


@pytest.mark.parametrize(
    ("accept", "fields"), [("image/gif", {}), ("image/*", {"annotate": "false"})]
)
def test_a_picture_that_cannot_come_is_refused_before_the_job_is_made(
    service: Service, accept: str, fields: dict[str, str]
) -> None:
    answer = service.client.post(
        "/v1/jobs/classify",
        files={"image": picture()},
        data=fields,
        headers={"Prefer": "wait=20", "Accept": accept},
    )
    assert_problem(answer, 406, "not-acceptable")
    assert service.client.get("/v1/jobs").json()["jobs"] == []
    assert service.stored_files() == []


def test_why_there_is_no_picture_is_said(service: Service) -> None:
    warnings = ["no face was found in 1 of 1 photos"]
    thread = finish_soon(service, warnings=warnings)
    answer = service.client.post(
        "/v1/jobs/classify",
        files={"image": picture()},
        headers={"Prefer": "wait=20", "Accept": "image/*"},
    )
    thread.join()
    assert assert_problem(answer, 406, "not-acceptable")["warnings"] == warnings


def test_no_picture_in_time_is_504_with_the_jobs_place(service: Service) -> None:
    answer = service.client.post(
        "/v1/jobs/classify",
        files={"image": picture()},
        headers={"Prefer": "wait=0.05", "Accept": "image/*"},
    )
    assert_problem(answer, 504, "wait-timeout")
    assert service.client.get(answer.headers["location"]).json()["state"] == "queued"


def test_a_picture_without_a_wait_is_refused_before_anything_is_made(service: Service) -> None:
    answer = service.client.post(
        "/v1/jobs/classify", files={"image": picture()}, headers={"Accept": "image/*"}
    )
    assert_problem(answer, 406, "not-acceptable")
    assert service.client.get("/v1/jobs").json()["jobs"] == []


def test_an_idempotency_key_makes_one_job_of_many_requests(service: Service) -> None:
    headers = {"Idempotency-Key": "order-1"}

    def send(data: bytes, **fields: str) -> object:
        return service.client.post(
            "/v1/jobs/classify", data=fields, files={"image": ("a", data)}, headers=headers
        )

    first = send(picture())
    before = service.stored_files()
    again = send(picture(), faces="auto")
    assert again.status_code == 202
    assert again.json()["id"] == first.json()["id"]
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    assert service.stored_files() == before
    assert_problem(send(picture(), faces="whole"), 422, "idempotency-key-reused")
    assert_problem(send(picture(20, 20)), 422, "idempotency-key-reused")
    assert service.stored_files() == before
    service.finish(first.json()["id"])
    ended = send(picture())
    assert (ended.status_code, ended.json()["state"]) == (201, "succeeded")
    assert len(service.client.get("/v1/jobs").json()["jobs"]) == 1


def test_requests_with_one_key_at_the_same_time_make_one_job(service: Service) -> None:
    ids: list[str] = []

    def send() -> None:
        answer = service.client.post(
            "/v1/jobs/classify", files={"image": picture()}, headers={"Idempotency-Key": "k"}
        )
        ids.append(answer.json()["id"])

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 8
    assert len(set(ids)) == 1
    assert len(service.stored_files()) == 1


def test_validate_only_returns_the_spec_and_creates_nothing(service: Service) -> None:
    answer = service.client.post(
        "/v1/jobs/classify?validate_only=true",
        data={"faces": "whole"},
        files={"image": ("a.png", picture())},
    )
    assert answer.status_code == 200
    assert answer.json()["valid"] is True
    assert answer.json()["spec"]["faces"] == "whole"
    assert answer.json()["queue"] == "interactive"
    assert service.stored_files() == []
    assert service.client.get("/v1/jobs").json()["jobs"] == []
    bad = service.client.post("/v1/jobs/classify?validate_only=true", files={"image": b"no"})
    assert_problem(bad, 415, "unsupported-image-type")


def test_validate_only_looks_for_the_images_that_are_named(service: Service) -> None:
    path = "/v1/jobs/classify?validate_only=true"
    headers = {"Content-Type": "image/png"}
    stored = service.client.post("/v1/images", content=picture(), headers=headers).json()["id"]
    assert service.client.post(path, json={"images": [stored]}).status_code == 200

    missing = f"img_{0:024x}"
    answer = service.client.post(path, json={"images": [stored, missing]})
    problem = assert_problem(answer, 422, "unknown-image")
    assert [error["pointer"] for error in problem["errors"]] == ["/images/1"]


def test_a_job_has_an_etag_that_changes_with_it(service: Service) -> None:
    path = f"/v1/jobs/{service.create()}"
    first = service.client.get(path)
    condition = {"If-None-Match": first.headers["etag"]}
    unchanged = service.client.get(path, headers=condition)
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    service.claim(first.json()["id"])
    changed = service.client.get(path, headers=condition)
    assert changed.status_code == 200
    assert changed.json()["state"] == "running"


def test_long_polling_answers_at_the_end(service: Service) -> None:
    job_id = service.create()
    timer = threading.Timer(0.1, service.finish, [job_id])
    timer.start()
    answer = service.client.get(f"/v1/jobs/{job_id}", headers={"Prefer": "wait=20"})
    timer.join()
    assert answer.json()["state"] == "succeeded"
    assert answer.headers["preference-applied"] == "wait=20"
    early = service.client.get(f"/v1/jobs/{service.create()}", headers={"Prefer": "wait=0.05"})
    assert early.json()["state"] == "queued"


def test_a_long_poll_is_woken_by_the_end_only(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    woken = []
    wake = Watcher._wake

    def noted(self: Watcher, waiter: Any, snapshot: Snapshot | None) -> None:
        woken.append(snapshot and snapshot.state)
        wake(self, waiter, snapshot)

    monkeypatch.setattr(Watcher, "_wake", noted)
    job_id = service.create()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(
            service.client.get, f"/v1/jobs/{job_id}", headers={"Prefer": "wait=20"}
        )
        while service.resources.watcher.waiting == 0:
            time.sleep(0.005)
        job = service.claim(job_id)
        claims = service.resources.repository.claims
        for done in range(3):
            claims.progress(job_id, job.fence, {"done": done, "total": 3, "message": ""})
            time.sleep(0.1)
        assert not answer.done()
        claims.finish(job_id, job.fence, state="failed", retention_seconds=60)
        assert answer.result().json()["state"] == "failed"
    assert woken == ["failed"]


def test_too_many_waiting_is_429_and_creates_nothing(serve: Callable[..., Service]) -> None:
    service = serve(max_connections_waiting=1)
    job_id = service.create()
    poll = threading.Thread(
        target=service.client.get,
        args=[f"/v1/jobs/{job_id}"],
        kwargs={"headers": {"Prefer": "wait=20"}},
    )
    poll.start()
    while service.resources.watcher.waiting == 0:
        time.sleep(0.005)
    wait = {"Prefer": "wait=5"}
    for answer in (
        service.client.get(f"/v1/jobs/{job_id}", headers=wait),
        service.client.get(f"/v1/jobs/{job_id}/events"),
        service.client.post("/v1/jobs/classify", files={"image": picture()}, headers=wait),
    ):
        assert_problem(answer, 429, "too-many-waiting")
        assert int(answer.headers["retry-after"]) > 0
    assert len(service.client.get("/v1/jobs").json()["jobs"]) == 1
    service.finish(job_id)
    poll.join()
    assert service.resources.watcher.waiting == 0


def test_listing_walks_all_jobs_newest_first(service: Service) -> None:
    ids = [service.create() for _ in range(5)]
    service.finish(ids[2])
    found, path = [], "/v1/jobs?page_size=2"
    while path:
        answer = service.client.get(path)
        found += [job["id"] for job in answer.json()["jobs"]]
        link = answer.links.get("next", {})
        assert bool(link) == bool(answer.json()["next_page_token"])
        path = link.get("url", "")
    assert found == ids[::-1]
    done = service.client.get("/v1/jobs?state=succeeded&kind=classify").json()["jobs"]
    assert [job["id"] for job in done] == [ids[2]]
    assert service.client.get("/v1/jobs?kind=encrypt").json()["jobs"] == []


def test_cancelling(service: Service) -> None:
    queued, running = service.create(), service.create()
    service.claim(running)
    for job_id, state in ((queued, "cancelled"), (running, "cancelling")):
        answer = service.client.post(f"/v1/jobs/{job_id}/cancel")
        assert (answer.status_code, answer.json()["state"]) == (202, state)
    assert service.client.post(f"/v1/jobs/{running}/cancel").status_code == 202
    assert_problem(service.client.post("/v1/jobs/job_x/cancel"), 404, "not-found")


def test_deleting_takes_the_job_and_its_photos_away(service: Service) -> None:
    job_id = service.create()
    image_id = service.client.get(f"/v1/jobs/{job_id}").json()["spec"]["images"][0]
    service.finish(job_id, artifacts=[("o.png", "image/png", picture())])
    assert service.client.delete(f"/v1/jobs/{job_id}").status_code == 204
    for path in (
        f"/v1/jobs/{job_id}",
        f"/v1/jobs/{job_id}/events",
        f"/v1/jobs/{job_id}/artifacts/o.png",
        f"/v1/images/{image_id}",
    ):
        assert_problem(service.client.get(path), 404, "not-found")
    assert_problem(service.client.delete(f"/v1/jobs/{job_id}"), 404, "not-found")
    sweeps = {sweep.prefix for sweep in service.resources.repository.keeping.due_sweeps()}
    assert sweeps == {f"default/jobs/{job_id}/", f"default/images/{image_id}/"}


def test_a_waiter_for_a_deleted_job_is_told(service: Service) -> None:
    job_id = service.create()
    timer = threading.Timer(0.1, service.client.delete, [f"/v1/jobs/{job_id}"])
    timer.start()
    answer = service.client.get(f"/v1/jobs/{job_id}", headers={"Prefer": "wait=20"})
    timer.join()
    assert_problem(answer, 404, "not-found")


def test_a_failed_job_carries_its_problem_whole(service: Service) -> None:
    job_id = service.create()
    service.finish(job_id, problem=Problem("worker-lost", "It died.", losses=3))
    job = service.client.get(f"/v1/jobs/{job_id}").json()
    assert job["state"] == "failed"
    assert job["problem"]["type"] == "/problems/worker-lost"
    assert job["problem"]["losses"] == 3


def test_photos_of_oneself_come_as_a_form(service: Service) -> None:
    answer = service.client.post(
        "/v1/jobs/generate-mask",
        files=[("image", picture()), ("image", picture())],
        data={"shape": "n95"},
    )
    assert answer.status_code == 202
    assert len(answer.json()["spec"]["images"]) == 2
    nothing = service.client.post("/v1/jobs/generate-mask", json={})
    assert_problem(nothing, 422, "invalid-request")
