"""``attack`` through HTTP with real workers; one is killed, and what is delivered is the same."""

from typing import Any

import httpx
import pytest

from tests.failure.http import Json, finished, upload_faces
from tests.failure.stack import Stack, end

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(400)]

TENANT = "default"
WORKER = ("-m", "services.cli", "worker")


def post(client: httpx.Client, dataset_id: str) -> str:
    answer = client.post(
        "/v1/jobs/attack",
        json={
            "data": {"dataset": dataset_id, "split": "all"},
            "model": "mask3-mobilenetv3s-112",
            "attack": {"name": "pgd", "eps": 2, "steps": 12},
            "seed": 4,
        },
    )
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def delivered(client: httpx.Client, job: Json) -> tuple[Json, dict[str, bytes]]:
    """Return what two equal runs have to agree on: the result and all attacked pictures."""
    result: dict[str, Any] = {k: v for k, v in job["result"].items() if k != "timing"}
    pictures = {
        made["name"]: client.get(made["url"]).content
        for made in job["artifacts"]
        if made["name"].startswith("adversarial")
    }
    return result, pictures


def test_a_killed_attack_ends_with_the_result_of_an_unbroken_one(
    stack: Stack, client: httpx.Client
) -> None:
    stack.keeper()
    first = stack.start(WORKER)
    dataset_id = upload_faces(client)
    broken = post(client, dataset_id)

    def is_under_way() -> bool:
        seen = client.get(f"/v1/jobs/{broken}").json()
        assert seen["state"] != "succeeded", "over before it could be killed"
        progress = seen["progress"] or {}
        return bool(progress.get("done", 0) > 1700)  # the first 16 photos of 100 each are kept

    stack.wait(is_under_way, what="some attacked images", seconds=150)
    end(first)
    assert stack.repository.claims.checkpoint_files(broken)
    stack.start(WORKER)
    whole = post(client, dataset_id)
    broken_job, whole_job = finished(client, broken), finished(client, whole)

    assert (stack.repository.jobs.get(TENANT, broken) or pytest.fail("gone")).losses >= 1
    result, pictures = delivered(client, broken_job)
    assert (result, pictures) == delivered(client, whole_job)
    assert len(pictures) > 100
