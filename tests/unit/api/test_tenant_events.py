"""``/v1/events``: one stream of all of a tenant's jobs."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest
from sqlalchemy.engine import make_url

from services.api import tenant_events
from shared.db import create_database_engine
from shared.db.migrate import upgrade
from tests.unit.api.service import Service, assert_problem, picture

Event = dict[str, str]


def read(answer: httpx.Response) -> Iterator[Event]:
    """Yield the events of a stream as they arrive."""
    event: Event = {}
    for line in answer.iter_lines():
        name, separator, value = line.partition(": ")
        if separator and name:
            event[name] = value
        elif not line and "event" in event:
            yield event
            event = {}


@contextmanager
def following(service: Service, **headers: str) -> Iterator[Iterator[Event]]:
    """Open the stream; a test that waits in vain fails by its client's time-out."""
    with service.client.stream("GET", "/v1/events", headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield read(answer)


def wait_for(events: Iterator[Event], job_id: str, state: str) -> Event:
    """Read on until a job is in this state."""
    for event in events:
        data = json.loads(event["data"])
        if data.get("id") == job_id and (data.get("state") == state or event["event"] == state):
            return event
    raise AssertionError("the stream ended")


def test_a_list_can_follow_all_jobs_by_one_stream(service: Service) -> None:
    old = service.create()
    with following(service) as events:
        first = next(events)
        assert (first["event"], json.loads(first["data"])["id"]) == ("job", old)
        new = service.create()
        wait_for(events, new, "queued")
        job = service.claim(new)
        claims = service.resources.repository.claims
        claims.progress(new, job.fence, {"done": 1, "total": 2, "message": "half"})
        running = wait_for(events, new, "running")
        while json.loads(running["data"])["progress"] is None:
            running = wait_for(events, new, "running")
        assert json.loads(running["data"])["progress"]["done"] == 1
        claims.finish(new, job.fence, state="succeeded", retention_seconds=60, result={})
        ended = json.loads(wait_for(events, new, "succeeded")["data"])
        (listed,) = service.client.get("/v1/jobs?state=succeeded").json()["jobs"]
        assert ended == listed
        service.client.delete(f"/v1/jobs/{new}")
        assert json.loads(wait_for(events, new, "deleted")["data"]) == {"id": new}


@pytest.mark.parametrize("ends", [False, True])
def test_a_job_that_leaves_no_trace_is_told_to_be_gone(service: Service, ends: bool) -> None:
    jobs = service.resources.repository.jobs
    with following(service) as events:
        gone, stays = service.create(), service.create()
        wait_for(events, stays, "queued")
        if ends:
            service.finish(gone)
            wait_for(events, gone, "succeeded")
        assert jobs.purge("default", gone, tombstone=False)
        wait_for(events, gone, "deleted")
        service.finish(stays)
        wait_for(events, stays, "succeeded")


def test_who_comes_back_hears_what_was_missed(service: Service) -> None:
    lived, ended, deleted = (service.create() for _ in range(3))
    with following(service) as events:
        ids = [next(events) for _ in range(3)]
    last = ids[-1]["id"]
    service.finish(ended)
    service.client.delete(f"/v1/jobs/{deleted}")
    created = service.create()
    with following(service, **{"Last-Event-ID": last}) as events:
        heard = [next(events) for _ in range(4)]
    by_id = {json.loads(event["data"])["id"]: event for event in heard}
    assert by_id.keys() == {lived, ended, deleted, created}
    assert by_id[deleted]["event"] == "deleted"
    assert json.loads(by_id[ended]["data"])["state"] == "succeeded"


def test_no_event_is_passed_over_when_a_reader_is_cut_off_in_the_middle(service: Service) -> None:
    jobs = [service.create() for _ in range(3)]
    with following(service) as events:
        assert json.loads(next(events)["data"])["id"] == jobs[0]
    # The first of three carries no id to resume from, so all of them come again.
    with following(service) as events:
        heard = [next(events) for _ in range(3)]
    assert [json.loads(event["data"])["id"] for event in heard] == jobs
    assert ["id" in event for event in heard] == [False, False, True]


def test_a_quiet_stream_can_be_resumed_too(service: Service) -> None:
    with following(service) as events:
        ready = next(events)
    assert ready["event"] == "ready"
    job_id = service.create()
    service.finish(job_id)
    with following(service, **{"Last-Event-ID": ready["id"]}) as events:
        wait_for(events, job_id, "succeeded")


@pytest.mark.parametrize("after", ["x", "-1", "1.5.2", ".", "1" * 30, "1e9", "nan"])
def test_ids_that_no_stream_gave_are_refused(service: Service, after: str) -> None:
    answer = service.client.get("/v1/events", headers={"Last-Event-ID": after})
    assert_problem(answer, 400, "invalid-header")


def test_a_stream_tells_of_its_own_tenant_and_ends_with_its_key(
    serve: Callable[..., Service],
) -> None:
    service = serve(require_keys=True)
    keys = service.resources.repository.keys
    ours, secret = keys.create("ours")
    _, other = keys.create("theirs")
    for key in (secret, other):
        service.client.post(
            "/v1/jobs/classify",
            files={"image": picture()},
            headers={"Authorization": f"Bearer {key}"},
        )
    (mine,) = service.client.get("/v1/jobs", headers={"Authorization": f"Bearer {secret}"}).json()[
        "jobs"
    ]
    with following(service, Authorization=f"Bearer {secret}") as events:
        assert json.loads(next(events)["data"])["id"] == mine["id"]
        keys.revoke(ours.id)
        assert list(events) == []
    assert_problem(service.client.get("/v1/events"), 401, "unauthorized")


def test_streams_of_one_tenant_are_bounded_and_counted_back(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenant_events, "MOST_STREAMS_A_TENANT", 1)
    with following(service) as events:
        next(events)
        refused = service.client.get("/v1/events")
        assert_problem(refused, 429, "too-many-waiting")
        assert refused.headers["retry-after"]
    give_up = time.monotonic() + 20
    while service.app.state.tenant_streams._open and time.monotonic() < give_up:
        time.sleep(0.01)
    with following(service) as events:
        next(events)


def test_a_head_request_opens_no_stream(service: Service) -> None:
    answer = service.client.head("/v1/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text == ""


def test_streams_on_postgres_hear_of_commits(
    serve: Callable[..., Service], fresh_database: str
) -> None:
    engine = create_database_engine(make_url(fresh_database))
    upgrade(engine)
    engine.dispose()
    service = serve(database_url=fresh_database)
    with following(service) as events:
        assert next(events)["event"] == "ready"
        job_id = service.create()
        wait_for(events, job_id, "queued")
        service.finish(job_id)
        wait_for(events, job_id, "succeeded")
        service.client.delete(f"/v1/jobs/{job_id}")
        wait_for(events, job_id, "deleted")
