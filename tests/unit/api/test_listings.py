"""Lists stay small whatever they list, and no text breaks them."""

import json
from typing import Any

import pytest
from sqlalchemy import text

from shared.problems import Problem
from tests.unit.api.service import Service, assert_problem, picture
from tests.unit.api.test_datasets import archive
from tests.unit.api.test_datasets import register as register_dataset
from tests.unit.api.test_models import register as register_model

HALF = "\ud800"  # of a surrogate pair
SPELLED = '"\\ud800"'


def test_a_job_in_a_list_has_neither_spec_nor_result_nor_files(service: Service) -> None:
    job_id = service.create()
    service.finish(job_id, artifacts=[(f"{n}.png", "image/png", picture()) for n in range(3)])

    (listed,) = service.client.get("/v1/jobs").json()["jobs"]

    whole = service.client.get(listed["url"]).json()
    assert not {"spec", "result", "artifacts"} & listed.keys()
    assert (listed["artifact_count"], len(whole["artifacts"])) == (3, 3)
    shared = listed.keys() & whole.keys()
    assert {name: listed[name] for name in shared} == {name: whole[name] for name in shared}
    assert shared == listed.keys() - {"artifact_count"}
    service.client.delete(f"/v1/jobs/{service.create()}")


def test_a_list_of_jobs_that_failed_loudly_stays_small(service: Service) -> None:
    loud = Problem("invalid-model", "x" * 2_000_000, names=["y" * 2_000_000] * 200)
    for _ in range(8):
        service.finish(service.create(), problem=loud)

    answer = service.client.get("/v1/jobs")

    assert len(answer.content) < 8 * 150_000
    problems = [job["problem"] for job in answer.json()["jobs"]]
    assert all("2000000 characters" in problem["detail"] for problem in problems)
    event = service.client.get(f"{answer.json()['jobs'][0]['url']}/events").text
    assert len(event) < 150_000


def test_lists_of_models_and_data_sets_leave_out_what_may_be_large(service: Service) -> None:
    register_model(service)
    dataset_id = register_dataset(service)

    models = service.client.get("/v1/models").json()["models"]
    (dataset,) = service.client.get("/v1/datasets").json()["datasets"]

    mine = next(model for model in models if model["id"] == "mine")
    assert not {"training_data", "training", "metrics", "threat_model"} & mine.keys()
    assert (mine["classes"], mine["class_count"]) == (["with_mask", "without_mask"], 2)
    assert (dataset["id"], dataset["class_count"]) == (dataset_id, 2)
    assert not {"counts", "classes"} & dataset.keys()
    assert service.client.get(dataset["url"]).json()["classes"] == ["a", "b"]


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [({"classes": json.dumps(["x" * 100 + str(n) for n in range(2500)])}, ""),
     ({"training_data": json.dumps({"a": "x" * 70_000})}, "")],
)  # fmt: skip
def test_a_card_that_no_list_should_read_is_refused(
    service: Service, fields: dict[str, str], pointer: str
) -> None:
    form = {"id": "mine", "architecture": "cnn", "input_size": "32", "classes": "a, b", **fields}
    answer = service.client.post("/v1/models", files={"file": b"weights"}, data=form)

    document = assert_problem(answer, 422, "invalid-request")
    assert document["errors"][0]["pointer"].startswith(pointer)


def requests_with_half_a_pair() -> dict[str, dict[str, Any]]:
    body = '{"images": [%s], "%s": "a\\u0000b"}'
    form = {"files": {"image": picture()}}
    card = json.dumps({"id": "m", "architecture": HALF, "classes": ["a", "b"], "input_size": 32})
    return {
        "JSON": {"url": "/v1/jobs/classify", "content": body % (SPELLED, "model")},
        "JSON, a member's name": {"url": "/v1/jobs/classify", "content": '{"\\udfff": 1}'},
        "JSON, NUL": {"url": "/v1/jobs/classify", "content": '{"model": "a\\u0000"}'},
        "the spec of a form": {
            "url": "/v1/jobs/classify",
            **form,
            "data": {"spec": f'{{"model": {SPELLED}}}'},
        },
        "a field of a form": {"url": "/v1/jobs/encrypt", **form, "data": {"parameters": SPELLED}},
        "a data set's name, NUL": {
            "url": "/v1/datasets",
            "files": {"file": archive()},
            "data": {"name": "a\x00"},
        },
        "a query": {"url": "/v1/datasets?name=a%00b", "content": archive()},
        "a model's card": {"url": "/v1/models", "files": {"file": b"w"}, "data": {"card": card}},
        "a model's classes": {
            "url": "/v1/models",
            "files": {"file": b"w"},
            "data": {"id": "m", "architecture": "cnn", "classes": f'["a", {SPELLED}]'},
        },
    }


@pytest.mark.parametrize("way", requests_with_half_a_pair())
def test_what_is_no_text_is_refused_at_the_door(service: Service, way: str) -> None:
    request = requests_with_half_a_pair()[way]
    headers = {}
    if "content" in request:
        kind = "application/zip" if "datasets" in request["url"] else "application/json"
        headers = {"Content-Type": kind}

    answer = service.client.post(**request, headers=headers)

    document = assert_problem(answer, 422, "invalid-request")
    assert all(error["pointer"].startswith("/") for error in document["errors"])
    assert document["errors"]
    assert service.client.get("/v1/jobs").json()["jobs"] == []
    assert service.stored_files() == []


def test_rows_of_an_earlier_release_with_such_text_break_nothing(service: Service) -> None:
    job_id = service.create()
    service.finish(job_id, problem=Problem("job-failed", "no"))
    with service.resources.repository.engine.begin() as connection:
        bad = '{"type": "/problems/job-failed", "title": "t", "status": 500, "detail": "\\ud800"}'
        connection.execute(
            text("UPDATE jobs SET problem = :bad, spec = :spec, progress = :progress"),
            {
                "bad": bad,
                "spec": '{"model": "\\udfff"}',
                "progress": '{"done": 1, "total": 2, "message": "\\ud800"}',
            },
        )

    for path in ("/v1/jobs", f"/v1/jobs/{job_id}", f"/v1/jobs/{job_id}/events"):
        answer = service.client.get(path)
        assert answer.status_code == 200, path
    assert service.client.get("/v1/jobs").json()["jobs"][0]["problem"]["detail"] == "\ufffd"
