"""Models by HTTP: listed, uploaded, chosen, handed out, deleted."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from shared.db.models import NewModel
from shared.db.queries import UPLOAD_FILE, model_prefix, new_id, upload_prefix
from shared.model_card import CARD_FILE, ModelCard
from tests.claiming import claim
from tests.unit.api.service import Service, assert_problem
from tests.unit.api.test_datasets import register as register_dataset

PATH = "/v1/models"
BUNDLED = Path(__file__).parents[3] / "services" / "worker" / "models" / "bundled"
WEIGHTS = b"weights of mine"
FIELDS = {"id": "mine", "architecture": "cnn", "input_size": "32", "classes": "a, b"}


def register(
    service: Service,
    model_id: str = "mine",
    tenant: str = "default",
    *,
    license_text: str = "mine",
) -> None:
    """Register a model, as an import job does."""
    repository = service.resources.repository
    job_id = service.create()
    job = claim(repository, job_id)
    assert job is not None
    prefix = model_prefix(tenant, new_id("weights"))
    sweep_id = repository.models.announce_prefix(tenant, prefix, within_seconds=60)
    service.resources.objects.put(prefix + "model.safetensors", WEIGHTS)
    card = ModelCard(
        id=model_id,
        task="mask",
        architecture="cnn",
        classes=("with_mask", "without_mask"),
        input_size=(32, 32),
        crop_margin=0.2,
        sha256=hashlib.sha256(WEIGHTS).hexdigest(),
        size=len(WEIGHTS),
        license=license_text,
        training_data={"fingerprint": "f"},
        training={},
        threat_model={"pgd": "eps 4: 12 % left"},
    )
    new = NewModel(
        id=card.id,
        task=card.task,
        card=card.model_dump(mode="json"),
        size=card.size,
        sha256=card.sha256,
        object_key=prefix + "model.safetensors",
        sweep_id=sweep_id,
    )
    assert repository.models.create(tenant, new, job_id=job_id, fence=job.fence)
    repository.claims.finish(
        job_id, job.fence, state="succeeded", retention_seconds=60, result={"model": model_id}
    )


def listed(service: Service, **params: str) -> dict[str, Any]:
    return {m["id"]: m for m in service.client.get(PATH, params=params).json()["models"]}


def test_the_shipped_models_are_there(service: Service) -> None:
    models = listed(service, task="mask")
    shipped = models["mask-face-112"]
    assert (shipped["source"], shipped["is_default"]) == ("shipped", True)
    assert models["mask-cnn-32"]["is_default"] is False
    assert "face-finder" not in models
    assert "face-finder" in listed(service)

    card = service.client.get(f"{PATH}/mask-cnn-32").json()
    kept = json.loads((BUNDLED / "mask-cnn-32" / CARD_FILE).read_text())
    assert card["training_data"] == kept["training_data"]
    assert card["license"] == kept["license"]
    weights = service.client.get(card["weights_url"])
    assert hashlib.sha256(weights.content).hexdigest() == card["sha256"]
    part = service.client.get(card["weights_url"], headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, weights.content[10:20])
    tag = {"If-None-Match": weights.headers["etag"]}
    assert service.client.get(card["weights_url"], headers=tag).status_code == 304
    head = service.client.head(card["weights_url"])
    assert head.headers["content-length"] == str(card["size"])


def test_a_shipped_model_stays(service: Service) -> None:
    path = f"{PATH}/mask-cnn-32"
    assert_problem(service.client.delete(path), 409, "model-is-shipped")
    assert_problem(service.client.put(f"{path}/default"), 409, "model-is-shipped")


def test_a_model_of_ones_own_can_serve_its_task(service: Service) -> None:
    register(service)
    mine = f"{PATH}/mine"
    assert service.client.get(mine).json()["is_default"] is False

    assert service.client.put(f"{mine}/default").json()["is_default"] is True
    models = listed(service, task="mask")
    assert [m["id"] for m in models.values() if m["is_default"]] == ["mine"]
    assert models["mine"]["source"] == "yours"
    assert service.client.get(mine).json()["threat_model"] == {"pgd": "eps 4: 12 % left"}

    service.client.put(f"{PATH}/mask-face-112/default")
    models = listed(service, task="mask")
    assert [m["id"] for m in models.values() if m["is_default"]] == ["mask-face-112"]


def test_weights_are_handed_out_and_deleted(service: Service) -> None:
    register(service)
    assert service.client.get(f"{PATH}/mine/weights").content == WEIGHTS
    job = service.client.post(
        "/v1/jobs/classify", json={"images": [service.upload()], "model": "mine"}
    ).json()
    assert_problem(service.client.delete(f"{PATH}/mine"), 409, "model-in-use")
    service.client.post(f"/v1/jobs/{job['id']}/cancel")

    assert service.client.delete(f"{PATH}/mine").status_code == 204
    for path in (f"{PATH}/mine", f"{PATH}/mine/weights"):
        assert_problem(service.client.get(path), 404, "not-found")


def test_another_tenants_model_does_not_exist(service: Service) -> None:
    register(service)
    _, secret = service.resources.repository.keys.create("other")
    headers = {"Authorization": f"Bearer {secret}"}

    assert "mine" not in {
        m["id"] for m in service.client.get(PATH, headers=headers).json()["models"]
    }
    for path in (f"{PATH}/mine", f"{PATH}/mine/weights"):
        assert_problem(service.client.get(path, headers=headers), 404, "not-found")
    assert_problem(service.client.delete(f"{PATH}/mine", headers=headers), 404, "not-found")
    assert_problem(service.client.put(f"{PATH}/mine/default", headers=headers), 404, "not-found")


def test_an_upload_becomes_a_job(service: Service) -> None:
    answer = service.client.post(PATH, files={"file": WEIGHTS}, data=FIELDS)

    assert answer.status_code == 202
    job = answer.json()
    assert job["kind"] == "import-model"
    assert job["spec"]["classes"] == ["a", "b"]
    key = upload_prefix("default", job["id"]) + UPLOAD_FILE
    assert service.resources.objects.get(key) == WEIGHTS

    card = json.dumps({**FIELDS, "classes": ["a", "b"], "metrics": {"accuracy": 0.9}})
    answer = service.client.post(PATH, files={"file": WEIGHTS}, data={"card": card})
    assert answer.json()["spec"]["metrics"] == {"accuracy": 0.9}


def test_bad_cards_are_refused(service: Service) -> None:
    def post(**fields: str) -> Any:
        return service.client.post(PATH, files={"file": WEIGHTS}, data={**FIELDS, **fields})

    one_class = assert_problem(post(classes="a"), 422, "invalid-request")
    assert one_class["errors"][0]["pointer"] == "/classes"
    assert_problem(post(classes="a,a"), 422, "invalid-request")
    assert_problem(post(id="../x"), 422, "invalid-request")
    assert_problem(post(card="{"), 400, "malformed-json")
    assert_problem(post(nonsense="1"), 422, "invalid-request")
    assert service.client.get("/v1/jobs").json()["jobs"] == []


def test_a_model_over_the_cap_is_refused(serve: Any) -> None:
    service = serve(max_model_bytes=1024)
    answer = service.client.post(PATH, files={"file": b"x" * 1025}, data=FIELDS)
    assert_problem(answer, 413, "content-too-large")
    assert service.stored_files() == []


JOBS_WITH_MODELS: dict[str, dict[str, Any]] = {
    "classify": {"model": "nobodys"},
    "attack": {"model": "nobodys"},
    "defend": {"model": "nobodys"},
    "encrypt": {"recognizers": ["nobodys"]},
    "generate-mask": {"recognizers": ["nobodys"]},
    "evaluate": {"models": ["mask-cnn-32", "nobodys"], "labels": ["with_mask"]},
}


@pytest.mark.parametrize("kind", JOBS_WITH_MODELS)
def test_no_job_can_name_a_model_that_is_not_there(service: Service, kind: str) -> None:
    document = JOBS_WITH_MODELS[kind] | {"images": [service.upload()]}
    for path in (f"/v1/jobs/{kind}", f"/v1/jobs/{kind}?validate_only=true"):
        problem = assert_problem(service.client.post(path, json=document), 422, "unknown-model")
        assert problem["detail"] == "There is no model nobodys."
    assert service.client.get("/v1/jobs").json()["jobs"] == []


@pytest.mark.parametrize(
    "fields",
    [
        {"initialization": {"source": "model", "model": "nobodys"}},
        {"robust": {"name": "distillation", "teacher": "nobodys"}},
    ],
)
def test_no_training_starts_from_a_model_that_is_not_there(
    service: Service, fields: dict[str, Any]
) -> None:
    dataset = register_dataset(service)
    document = {"datasets": [dataset], "model_id": "ours", **fields}
    for path in ("/v1/jobs/train", "/v1/jobs/train?validate_only=true"):
        problem = assert_problem(service.client.post(path, json=document), 422, "unknown-model")
        assert problem["detail"] == "There is no model nobodys."


def test_a_job_can_be_asked_for_again_after_its_model_is_gone(service: Service) -> None:
    register(service)
    document = {"images": [service.upload()], "model": "mine"}
    key = {"Idempotency-Key": "once"}
    first = service.client.post("/v1/jobs/classify", json=document, headers=key).json()
    service.client.post(f"/v1/jobs/{first['id']}/cancel")
    service.client.delete(f"{PATH}/mine")

    again = service.client.post("/v1/jobs/classify", json=document, headers=key)
    assert (again.status_code, again.json()["id"]) == (201, first["id"])
    assert_problem(service.client.post("/v1/jobs/classify", json=document), 422, "unknown-model")


def test_missing_weights_are_asked_for_by_place_and_hash(service: Service) -> None:
    folder = service.resources.settings.registry_dir / "ours"
    folder.mkdir(parents=True)
    kept = json.loads((BUNDLED / "mask-cnn-32" / CARD_FILE).read_text())
    (folder / CARD_FILE).write_text(json.dumps(kept | {"id": "ours"}))
    wanted = f"SHA-256 {kept['sha256']} at {folder / 'model.safetensors'}"

    problem = assert_problem(service.client.get(f"{PATH}/ours/weights"), 409, "model-unavailable")
    assert wanted in problem["detail"]
    (folder / "model.safetensors").write_bytes(b"cut short")
    problem = assert_problem(service.client.get(f"{PATH}/ours/weights"), 409, "model-unavailable")
    assert wanted in problem["detail"]


def test_the_operators_models_can_be_named(service: Service) -> None:
    folder = service.resources.settings.registry_dir / "ours"
    folder.mkdir(parents=True)
    card = json.loads((BUNDLED / "mask-cnn-32" / CARD_FILE).read_text()) | {"id": "ours"}
    (folder / CARD_FILE).write_text(json.dumps(card))
    document = {"images": [service.upload()], "model": "ours"}
    assert service.client.post("/v1/jobs/classify", json=document).status_code == 202
