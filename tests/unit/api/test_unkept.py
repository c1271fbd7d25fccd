"""Jobs of which nothing is kept: frames of a camera."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from sqlalchemy import func, select

from shared.db.tables import Image, Job
from tests.unit.api.service import Service, assert_problem, picture

URL = "/v1/jobs/classify?keep=false"


@contextmanager
def a_worker(service: Service) -> Iterator[None]:
    """Finish the next job, as a worker does."""

    def run() -> None:
        find = service.resources.repository.jobs.page
        while not (found := find("default", limit=1, state="queued")):
            time.sleep(0.005)
        service.finish(found[0].id, artifacts=[("out.png", "image/png", picture())])

    thread = threading.Thread(target=run)
    thread.start()
    yield
    thread.join()


def nothing_is_left(service: Service) -> bool:
    """Whether neither a job, its tombstone, a photo nor a file is there."""
    with service.resources.repository.engine.connect() as connection:
        rows = [connection.scalar(select(func.count()).select_from(one)) for one in (Job, Image)]
    return rows == [0, 0] and service.stored_files() == []


def test_when_the_answer_is_there_nothing_else_is(service: Service) -> None:
    with a_worker(service):
        answer = service.client.post(URL, files={"image": picture()}, headers={"Prefer": "wait=20"})
    assert (answer.status_code, answer.json()["state"]) == (201, "succeeded")
    assert "location" not in answer.headers
    assert nothing_is_left(service)
    gone = service.client.get(f"/v1/jobs/{answer.json()['id']}")
    assert_problem(gone, 404, "not-found")


def test_the_picture_itself_can_be_had(service: Service) -> None:
    with a_worker(service):
        answer = service.client.post(
            URL,
            files={"image": picture()},
            headers={"Prefer": "wait=20", "Accept": "image/*"},
        )
    assert answer.content == picture()
    assert not {"location", "content-location"} & set(answer.headers)
    assert nothing_is_left(service)


def test_a_job_that_lasts_longer_is_stopped(service: Service) -> None:
    answer = service.client.post(URL, files={"image": picture()}, headers={"Prefer": "wait=0.1"})
    assert_problem(answer, 504, "wait-timeout")
    assert "location" not in answer.headers
    assert nothing_is_left(service)


def test_a_client_that_leaves_leaves_nothing(service: Service) -> None:
    with pytest.raises(httpx.ReadTimeout):
        service.client.post(
            URL, files={"image": picture()}, headers={"Prefer": "wait=30"}, timeout=0.3
        )
    give_up = time.monotonic() + 20
    while not nothing_is_left(service) and time.monotonic() < give_up:
        time.sleep(0.01)
    assert nothing_is_left(service)


def test_without_a_wait_there_would_be_no_answer(service: Service) -> None:
    answer = service.client.post(URL, files={"image": picture()})
    assert_problem(answer, 400, "invalid-header")
    assert nothing_is_left(service)


def test_a_worker_that_still_holds_it_is_told_that_it_lost_it(service: Service) -> None:
    job_id = service.create()
    job = service.claim(job_id)
    assert service.resources.repository.jobs.purge("default", job_id, tombstone=False)
    claims = service.resources.repository.claims
    assert claims.progress(job_id, job.fence, {"done": 1, "total": 2}) is None
    assert not claims.finish(job_id, job.fence, state="succeeded", retention_seconds=60, result={})


def test_photos_that_were_uploaded_before_stay(service: Service) -> None:
    image = service.upload()
    with a_worker(service):
        answer = service.client.post(URL, json={"images": [image]}, headers={"Prefer": "wait=20"})
    assert answer.status_code == 201
    assert service.client.get(f"/v1/images/{image}").status_code == 200
