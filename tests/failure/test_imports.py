"""Data sets and models taken in through HTTP by real workers; one is killed in the middle."""

import hashlib
import io
import zipfile
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from services.worker.datasets.packs import PackedDataset
from shared.db.queries import dataset_prefix, upload_prefix
from tests.failure.stack import Stack, end

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(300)]

TENANT = "default"
WORKER = ("-m", "services.cli", "worker")


def archive(images: int) -> bytes:
    """Return a ZIP of noise in two class folders, with one file that is no picture."""
    random = np.random.default_rng(0)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        zipped.writestr("ours/README.txt", "hello")
        for number in range(images):
            picture = io.BytesIO()
            pixels = random.integers(0, 256, (48, 48, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(picture, "PNG")
            zipped.writestr(f"ours/{'ab'[number % 2]}/{number}.png", picture.getvalue())
    return buffer.getvalue()


def finished(stack: Stack, client: httpx.Client, job_id: str) -> dict[str, Any]:
    job: dict[str, Any] = {}

    def has_ended() -> bool:
        job.update(client.get(f"/v1/jobs/{job_id}").json())
        return job["state"] in ("succeeded", "failed", "cancelled")

    stack.wait(has_ended, what=f"{job_id} to end", seconds=120)
    return job


def test_an_import_survives_its_worker(stack: Stack, client: httpx.Client) -> None:
    stack.keeper()
    first = stack.start(WORKER)
    answer = client.post(
        "/v1/datasets",
        params={"name": "ours"},
        content=archive(3000),
        headers={"Content-Type": "application/zip"},
    )
    assert answer.status_code == 202, answer.text
    job_id = answer.json()["id"]

    def is_under_way() -> bool:
        progress = client.get(f"/v1/jobs/{job_id}").json()["progress"] or {}
        return bool(progress.get("done", 0) >= 5)

    stack.wait(is_under_way, what="the import", seconds=90)
    end(first)
    stack.start(WORKER)
    job = finished(stack, client, job_id)

    assert job["attempts"] == 2
    result = job["result"]
    assert (result["images"], result["left_out_total"]) == (3000, 1)
    found = client.get("/v1/datasets").json()["datasets"]
    assert [dataset["id"] for dataset in found] == [result["dataset"]]
    shown = client.get(found[0]["url"]).json()
    assert (shown["counts"], shown["report"]) == (result["counts"], result["report"])
    sheet = client.get(shown["contact_sheet_url"])
    assert Image.open(io.BytesIO(sheet.content)).format == "JPEG"
    prefix = dataset_prefix(TENANT, result["dataset"])
    pack = PackedDataset(stack.objects.get(prefix + "pack.zip"))
    assert len(pack.card.items) == 3000
    assert pack.read(pack.card.items[7]).shape == (48, 48, 3)

    def upload_is_gone() -> bool:
        return list(stack.objects.keys(upload_prefix(TENANT, job_id))) == []

    stack.wait(upload_is_gone, what="the upload to be deleted")
    assert client.delete(found[0]["url"]).status_code == 204
    stack.wait(lambda: list(stack.objects.keys(prefix)) == [], what="the bytes to be deleted")


def test_a_model_goes_out_and_comes_back(stack: Stack, client: httpx.Client) -> None:
    stack.keeper()
    stack.start(WORKER)
    card = client.get("/v1/models/mask-cnn-32").json()
    weights = client.get(card["weights_url"]).content
    fields = {
        "id": "back-again",
        "architecture": card["architecture"],
        "classes": ",".join(card["classes"]),
        "input_size": str(card["input_size"][0]),
    }
    answer = client.post("/v1/models", files={"file": weights}, data=fields)
    job = finished(stack, client, answer.json()["id"])

    assert job["state"] == "succeeded", job
    mine = client.get("/v1/models/back-again").json()
    assert (mine["source"], mine["sha256"]) == ("yours", card["sha256"])
    handed_out = client.get(mine["weights_url"]).content
    assert hashlib.sha256(handed_out).hexdigest() == card["sha256"]

    bad = client.post("/v1/models", files={"file": weights[:-9]}, data={**fields, "id": "torn"})
    refused = finished(stack, client, bad.json()["id"])
    assert refused["problem"]["type"] == "/problems/invalid-model"
    again = client.post("/v1/models", files={"file": weights}, data=fields)
    assert (
        finished(stack, client, again.json()["id"])["problem"]["type"] == "/problems/model-exists"
    )
