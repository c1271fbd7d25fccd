"""Deletion deletes: what was made of an image, what a revoked key still follows, what is kept."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from services.api import auth, events, health
from tests.unit.api.service import Service, assert_problem, picture
from tests.unit.api.test_auth import key_of
from tests.unit.api.test_datasets import register as register_dataset
from tests.unit.api.test_models import register as register_model


def test_an_annotated_picture_goes_with_its_image(service: Service) -> None:
    image_id = service.upload()
    job = service.client.post("/v1/jobs/classify", json={"images": [image_id]}).json()
    service.finish(job["id"], artifacts=[("annotated-0.jpg", "image/jpeg", picture())])
    before = service.client.get(job["url"])
    path = before.json()["artifacts"][0]["url"]
    assert service.client.get(path).status_code == 200

    assert service.client.delete(f"/v1/images/{image_id}").status_code == 204

    assert_problem(service.client.get(path), 404, "not-found")
    after = service.client.get(job["url"], headers={"If-None-Match": before.headers["etag"]})
    assert after.status_code == 200, "the job is not what it was"
    assert after.json()["artifacts"] == []
    assert after.json()["state"] == "succeeded"
    assert after.json()["result"] == before.json()["result"]
    stream = service.client.get(f"{job['url']}/events").text
    assert f'"image":"{image_id}","artifacts":["annotated-0.jpg"]' in stream


def test_the_picture_of_an_image_that_came_with_its_job_goes_too(service: Service) -> None:
    job_id = service.create()
    image_id = service.client.get(f"/v1/jobs/{job_id}").json()["spec"]["images"][0]
    service.finish(job_id, artifacts=[("annotated-0.jpg", "image/jpeg", picture())])

    assert service.client.delete(f"/v1/images/{image_id}").status_code == 204

    path = f"/v1/jobs/{job_id}/artifacts/annotated-0.jpg"
    assert_problem(service.client.get(path), 404, "not-found")


@pytest.fixture
def impatient(
    serve: Callable[..., Service], monkeypatch: pytest.MonkeyPatch
) -> tuple[Service, str, dict[str, str], str]:
    """An API that looks at keys often; a key's id, its header, and the path of its live job."""
    monkeypatch.setattr(auth, "REMEMBER_SECONDS", 0.02)
    monkeypatch.setattr(events, "KEY_CHECK_SECONDS", 0.05)
    service = serve(require_keys=True)
    key_id, headers = key_of(service, "acme")
    form = {"image": picture()}
    job = service.client.post("/v1/jobs/classify", files=form, headers=headers).json()
    return service, key_id, headers, job["url"]


def test_a_stream_ends_after_its_key_was_revoked(
    impatient: tuple[Service, str, dict[str, str], str],
) -> None:
    service, key_id, headers, path = impatient
    with service.client.stream("GET", f"{path}/events", headers=headers) as stream:
        lines = stream.iter_lines()
        assert any(line == "event: queued" for line in lines)
        service.resources.repository.keys.revoke(key_id)
        rest = list(lines)  # ends: the job is queued still, and would be followed for an hour

    assert not any(line.startswith("event:") for line in rest)


def test_a_long_poll_tells_a_revoked_key_nothing(
    impatient: tuple[Service, str, dict[str, str], str],
) -> None:
    service, key_id, headers, path = impatient

    def revoke_and_end() -> None:
        service.resources.repository.keys.revoke(key_id)
        time.sleep(0.1)  # longer than a key is remembered
        service.finish(path.rpartition("/")[2])

    timer = threading.Timer(0.1, revoke_and_end)
    timer.start()
    answer = service.client.get(path, headers={**headers, "Prefer": "wait=20"})
    timer.join()

    assert_problem(answer, 401, "unauthorized")


@pytest.mark.parametrize("kind", ["datasets", "models"])
def test_data_sets_and_models_say_when_they_expire_and_can_be_kept(
    service: Service, kind: str
) -> None:
    name = "mine"
    if kind == "datasets":
        name = register_dataset(service)
    else:
        register_model(service)
    path = f"/v1/{kind}/{name}"
    assert service.client.get(path).json()["keep"] is True, "as what earlier releases made"

    let_go = service.client.delete(f"{path}/keep").json()
    assert let_go["keep"] is False
    left = datetime.fromisoformat(let_go["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=29, hours=23) < left <= timedelta(days=30)

    kept = service.client.put(f"{path}/keep").json()
    assert (kept["keep"], kept["expires_at"]) == (True, None)
    for method in ("PUT", "DELETE"):
        missing = service.client.request(method, f"/v1/{kind}/nothing/keep")
        assert_problem(missing, 404, "not-found")


def test_a_shipped_model_has_no_retention(service: Service) -> None:
    shipped = service.client.get("/v1/models/mask-cnn-32").json()
    assert (shipped["keep"], shipped["expires_at"]) == (True, None)
    answer = service.client.delete("/v1/models/mask-cnn-32/keep")
    assert_problem(answer, 409, "model-is-shipped")


def test_on_a_full_disk_it_is_not_ready_takes_nothing_and_deletes(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_id, job_id = service.upload(), service.create()
    assert service.client.get("/readyz").json()["checks"]["disk"] == "ok"

    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=2**20))
    monkeypatch.setattr(health, "disk_usage", lambda folder: SimpleNamespace(free=2**20))

    document = assert_problem(service.client.get("/readyz"), 503, "not-ready")
    assert document["checks"]["disk"].startswith("full: ")
    upload = service.client.post("/v1/images", files={"image": picture()})
    assert_problem(upload, 507, "storage-full")
    job = service.client.post("/v1/jobs/classify", json={"images": [image_id]})
    assert_problem(job, 507, "storage-full")
    assert service.client.delete(f"/v1/jobs/{job_id}").status_code == 204
    assert service.client.delete(f"/v1/images/{image_id}").status_code == 204
