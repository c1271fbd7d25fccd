"""``evaluate`` through HTTP with real workers; one is killed, and the figures are the same."""

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
        "/v1/jobs/evaluate",
        json={
            "data": {"dataset": dataset_id, "split": "all", "sample": 90},
            "models": ["mask-cnn-32"],
            "attacks": [
                {"name": "fgsm", "eps": 4},
                {"name": "pgd", "eps": 4, "steps": 15},
                {"name": "pgd", "eps": 8, "steps": 15},
            ],
            "defenses": [[{"name": "noise", "sigma": 0.05}]],
            "draws": 2,
            "bootstrap": 50,
            "seed": 4,
        },
    )
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def judged(job: Json) -> Json:
    """Return what two equal runs have to agree on."""
    result: dict[str, Any] = job["result"]
    assert result is not None, job
    rows = [{k: v for k, v in row.items() if k != "cost_ms"} for row in result["rows"]]
    return {"rows": rows, "reports": result["reports"]}


def test_a_killed_evaluation_ends_with_the_figures_of_an_unbroken_one(
    stack: Stack, client: httpx.Client
) -> None:
    stack.keeper()
    first = stack.start(WORKER)
    dataset_id = upload_faces(client)
    broken = post(client, dataset_id)

    def is_under_way() -> bool:
        seen = client.get(f"/v1/jobs/{broken}").json()
        assert seen["state"] in ("queued", "running"), f"over before it could be killed: {seen}"
        progress = seen["progress"] or {}
        # The report, FGSM on both parts of 50 images with and without the defense, a part of PGD.
        return bool(progress.get("done", 0) >= 6)

    stack.wait(is_under_way, what="some attacked images", seconds=90)
    end(first)
    stack.start(WORKER)
    whole = post(client, dataset_id)
    broken_job, whole_job = finished(client, broken), finished(client, whole)

    assert (stack.repository.jobs.get(TENANT, broken) or pytest.fail("gone")).losses >= 1
    assert judged(broken_job) == judged(whole_job)
    rows = whole_job["result"]["rows"]
    assert len(rows) == 6
    undefended = [row for row in rows if row["defense"] == "none"]
    (count,) = {row["images"] for row in rows}
    assert 50 < count < 90, "two parts; and the model knows two of three classes"
    robust = [row["robust_accuracy"]["rate"] for row in undefended]
    assert robust[0] >= robust[1] >= robust[2], "PGD is no weaker than FGSM, nor eps 8 than 4"
    (report,) = whole_job["result"]["reports"]
    assert report["sources"] == {}, "one collection, and not a source a picture"
    table = client.get(
        next(a["url"] for a in broken_job["artifacts"] if a["name"].endswith(".csv"))
    )
    assert table.status_code == 200
