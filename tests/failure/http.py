"""What the tests over HTTP have in common."""

from typing import Any

import httpx

from services.demo.drawn import WEARING, drawn_archive

Json = dict[str, Any]


def upload_faces(client: httpx.Client) -> str:
    """Upload drawn faces in three classes; returns the data set's id."""
    answer = client.post(
        "/v1/datasets",
        params={"name": "drawn faces"},
        content=drawn_archive(tuple(WEARING), each=50),
        headers={"Content-Type": "application/zip"},
    )
    assert answer.status_code == 202, answer.text
    job = finished(client, answer.json()["id"])
    assert job["state"] == "succeeded", job
    return str(job["result"]["dataset"])


def finished(client: httpx.Client, job_id: str) -> Json:
    for _ in range(5):
        job: Json = client.get(f"/v1/jobs/{job_id}", headers={"Prefer": "wait=60"}).json()
        if job["state"] in ("succeeded", "failed", "cancelled"):
            return job
    raise AssertionError(f"{job_id} does not end")
