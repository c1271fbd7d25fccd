"""``train`` through HTTP with real workers; one is killed, and the model is the same."""

import io
from typing import Any

import httpx
import numpy as np
import pytest

from services.demo.drawn import drawn_face
from shared.db.queries import new_id
from tests.failure.http import Json, finished, upload_faces
from tests.failure.stack import Stack, end

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(400)]

TENANT = "default"
WORKER = ("-m", "services.cli", "worker")


def post(client: httpx.Client, dataset_id: str, model_id: str, **fields: Any) -> str:
    answer = client.post(
        "/v1/jobs/train",
        json={
            "datasets": [dataset_id],
            "model_id": model_id,
            "task": "mask3",
            "architecture": "cnn",
            "hyperparameters": {"epochs": 12, "batch_size": 16, "max_lr": 0.002},
            "seed": 5,
            **fields,
        },
    )
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def learned(job: Json) -> Json:
    """Return what two equal runs have to agree on."""
    result = job["result"]
    assert result is not None, job
    figures = {name: result[name] for name in ("epochs", "best_epoch", "validation", "test")}
    return {"sha256": result["model"]["sha256"], **figures}


def test_a_killed_training_ends_with_the_model_of_an_unbroken_one(
    stack: Stack, client: httpx.Client
) -> None:
    stack.keeper()
    first = stack.start(WORKER)
    dataset_id = upload_faces(client)
    broken = post(client, dataset_id, "broken")

    def is_under_way() -> bool:
        progress = client.get(f"/v1/jobs/{broken}").json()["progress"] or {}
        return progress.get("epoch", 0) >= 3

    stack.wait(is_under_way, what="the third epoch", seconds=90)
    end(first)
    stack.start(WORKER, TORCH_HOME=str(stack.folder / "no weights"))
    whole = post(client, dataset_id, "whole")
    broken_job, whole_job = finished(client, broken), finished(client, whole)

    assert (stack.repository.jobs.get(TENANT, broken) or pytest.fail("gone")).losses >= 1
    assert learned(broken_job) == learned(whole_job)
    result = whole_job["result"]
    assert result["test"]["accuracy"]["rate"] > 0.6
    assert len(result["epochs"]) == 12
    events = stack.repository.jobs.events_after(TENANT, broken, 0)
    epochs = [event.data["epoch"] for event in events if event.type == "epoch"]
    assert sorted(set(epochs)) == list(range(1, 13))
    assert epochs == sorted(epochs), "an epoch that was saved was trained again"
    curves = next(a for a in whole_job["artifacts"] if a["name"] == result["main_artifact"])
    assert client.get(curves["url"]).content.startswith(b"\x89PNG")

    picture = io.BytesIO()
    drawn_face("without_mask", np.random.default_rng(99)).save(picture, "PNG")
    answer = client.post(
        "/v1/jobs/classify",
        files={"image": picture.getvalue()},
        data={"faces": "whole", "model": "broken"},
        headers={"Prefer": "wait=30"},
    ).json()
    assert answer["result"]["counts"]["without_mask"] == 1, answer

    refused = finished(client, post(client, dataset_id, "whole"))
    assert refused["problem"]["type"] == "/problems/model-exists"
    published = post(
        client,
        dataset_id,
        "from-imagenet",
        architecture="resnet18",
        initialization={"source": "imagenet"},
    )
    missing = finished(client, published)["problem"]
    assert (missing["type"], missing["status"]) == ("/problems/model-unavailable", 409)
    place = stack.settings.registry_dir / "torchvision" / "resnet18-f37072fd.pth"
    assert f"SHA-256 begins with f37072fd, at {place}" in missing["detail"]
    unknown = client.post(
        "/v1/jobs/train", json={"datasets": [new_id("ds")], "model_id": "nothing"}
    )
    assert unknown.json()["type"] == "/problems/unknown-dataset"

    long = post(client, dataset_id, "cut-short", hyperparameters={"epochs": 1000, "batch_size": 8})
    stack.wait(
        lambda: (client.get(f"/v1/jobs/{long}").json()["progress"] or {}).get("epoch", 0) >= 3,
        what="some epochs",
    )
    client.post(f"/v1/jobs/{long}/cancel")
    assert finished(client, long)["state"] == "cancelled"
    kept = stack.repository.models.get(TENANT, "cut-short")
    assert kept is not None
    assert kept.card["training"]["stopped"]
