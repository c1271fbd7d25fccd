"""``/v1/service``: what runs and waits."""

from collections.abc import Callable

from tests.unit.api.service import Service, assert_problem


def test_it_counts_what_waits_runs_and_ended_and_who_is_at_it(service: Service) -> None:
    waiting, running, ended = (service.create() for _ in range(3))
    job = service.claim(running)
    service.finish(ended)
    answer = service.client.get("/v1/service")
    assert answer.headers["cache-control"] == "no-store"
    status = answer.json()
    live = {(row["queue"], row["kind"], row["state"]): row for row in status["live"]}
    assert live.keys() == {
        ("interactive", "classify", "queued"),
        ("interactive", "classify", "running"),
    }
    assert all(row["jobs"] == 1 and 0 <= row["oldest_seconds"] < 60 for row in live.values())
    assert status["ended"] == [{"kind": "classify", "state": "succeeded", "jobs": 1}]
    (worker,) = status["workers"]
    assert (worker["name"], worker["job"], worker["kind"]) == (job.owner, running, "classify")
    assert worker["jobs"] == 1
    assert waiting not in answer.text


def test_an_idle_service_is_empty(service: Service) -> None:
    status = service.client.get("/v1/service").json()
    assert (status["live"], status["ended"], status["workers"]) == ([], [], [])


def test_keys_of_single_tenants_do_not_see_everybodys_jobs(serve: Callable[..., Service]) -> None:
    service = serve(require_keys=True)
    _, secret = service.resources.repository.keys.create("ours")
    answer = service.client.get("/v1/service", headers={"Authorization": f"Bearer {secret}"})
    assert_problem(answer, 403, "not-for-keys")
    assert_problem(service.client.get("/v1/service"), 401, "unauthorized")
