"""Data sets by HTTP: streamed in, listed, shown, deleted."""

import io
import socket
import time
import zipfile
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.db.datasets import NewDataset
from shared.db.queries import UPLOAD_FILE, dataset_prefix, new_id, upload_prefix
from shared.db.tables import Sweep
from tests.claiming import claim
from tests.unit.api.service import Service, assert_problem, picture

PATH = "/v1/datasets"


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        zipped.writestr(zipfile.ZipInfo("a/1.png"), picture())  # of a fixed time: equal bytes
    return buffer.getvalue()


def register(
    service: Service,
    name: str = "mine",
    tenant: str = "default",
    report: dict[str, Any] | None = None,
) -> str:
    """Register a data set, as an import job does; returns its id."""
    repository = service.resources.repository
    job_id = service.client.post(PATH, files={"file": archive()}, data={"name": name}).json()["id"]
    job = claim(repository, job_id)
    assert job is not None
    dataset_id = new_id("ds")
    prefix = dataset_prefix(tenant, dataset_id)
    sweep_id = repository.datasets.announce_prefix(tenant, prefix, within_seconds=60)
    service.resources.objects.put(prefix + "pack.zip", b"pack")
    service.resources.objects.put(prefix + "contact-sheet.jpg", b"a picture")
    new = NewDataset(
        id=dataset_id,
        name=name,
        layout="classes",
        classes=("a", "b"),
        summary={
            "counts": {"train": {"a": 2, "b": 1}},
            "balance": 0.5,
            "duplicates": 0,
            "near_duplicates": 1,
            "leaks": 0,
            "left_out_total": 0,
            **({} if report is None else {"report": report}),
        },
        images=3,
        size=4,
        sha256="0" * 64,
        object_key=prefix + "pack.zip",
        sweep_id=sweep_id,
    )
    assert repository.datasets.create(tenant, new, job_id=job_id, fence=job.fence)
    repository.claims.finish(
        job_id, job.fence, state="succeeded", retention_seconds=60, result={"dataset": dataset_id}
    )
    return dataset_id


def uploaded(service: Service, job_id: str) -> bytes:
    return service.resources.objects.get(upload_prefix("default", job_id) + UPLOAD_FILE)


def test_an_archive_is_sent_as_a_form(service: Service) -> None:
    form = {"name": "mine", "layout": "classes", "seed": "3"}
    answer = service.client.post(PATH, files={"file": archive()}, data=form)

    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["location"] == job["url"]
    assert job["kind"] == "import-dataset"
    assert (job["spec"]["name"], job["spec"]["seed"]) == ("mine", 3)
    assert uploaded(service, job["id"]) == archive()


def test_an_archive_is_sent_as_the_body(service: Service) -> None:
    headers = {"Content-Type": "application/zip"}
    answer = service.client.post(f"{PATH}?name=mine", content=archive(), headers=headers)

    assert answer.status_code == 202
    assert uploaded(service, answer.json()["id"]) == archive()


def test_a_video_is_sent_with_what_its_frames_show(service: Service) -> None:
    """The bytes are the worker's to judge: here they are streamed and kept as they are."""
    answer = service.client.post(
        f"{PATH}?name=mine&label=Ada&frames_per_second=2&frames=40",
        content=b"\0\0\0\x18ftypmp42" + bytes(2000),
        headers={"Content-Type": "video/mp4"},
    )

    assert answer.status_code == 202
    job = answer.json()
    assert (job["kind"], job["spec"]["label"]) == ("import-dataset", "Ada")
    assert (job["spec"]["frames_per_second"], job["spec"]["frames"]) == (2, 40)
    assert len(uploaded(service, job["id"])) == 2012


def test_bad_requests_leave_nothing_behind(service: Service) -> None:
    post, zipped = service.client.post, {"Content-Type": "application/zip"}
    missing = post(PATH, content=archive(), headers=zipped)
    assert assert_problem(missing, 422, "invalid-request")["errors"][0]["pointer"] == "/name"
    unknown = post(f"{PATH}?name=a&nonsense=1", content=archive(), headers=zipped)
    assert_problem(unknown, 422, "invalid-request")
    assert_problem(post(f"{PATH}?name=a", content=b"", headers=zipped), 422, "invalid-request")
    text = {"Content-Type": "text/plain"}
    typed = post(f"{PATH}?name=a", content=archive(), headers=text)
    assert_problem(typed, 415, "unsupported-media-type")
    no_file = post(PATH, data={"name": "a"}, files={"other": archive()})
    assert_problem(no_file, 422, "invalid-request")
    assert_problem(post("/v1/jobs/import-dataset", json={"name": "a"}), 404, "unknown-kind")

    assert service.stored_files() == []
    assert service.client.get("/v1/jobs").json()["jobs"] == []


@pytest.mark.parametrize("chunked", [False, True])
def test_a_file_over_the_cap_is_refused_and_gone(
    serve: Callable[..., Service], chunked: bool
) -> None:
    small_service = serve(max_archive_bytes=65_536)

    def pieces() -> object:
        yield from (b"x" * 1000 for _ in range(2200))

    content = pieces() if chunked else b"x" * 2_200_000
    answer = small_service.client.post(
        f"{PATH}?name=a",
        content=content,  # type: ignore[arg-type]
        headers={"Content-Type": "application/zip"},
    )
    assert_problem(answer, 413, "content-too-large")
    assert small_service.stored_files() == []
    between = small_service.client.post(
        f"{PATH}?name=a", content=b"x" * 70_000, headers={"Content-Type": "application/zip"}
    )
    assert_problem(between, 413, "content-too-large")
    assert small_service.stored_files() == []


def test_a_repeated_request_creates_one_job(service: Service) -> None:
    data = archive()

    def send(name: str, key: str = "k") -> httpx.Response:
        headers = {"Idempotency-Key": key}
        form = {"name": name}
        return service.client.post(PATH, files={"file": data}, data=form, headers=headers)

    first, again = send("mine"), send("mine")
    assert first.json()["id"] == again.json()["id"]
    assert again.headers["idempotent-replayed"] == "true"
    assert len(service.stored_files()) == 1
    assert_problem(send("other"), 422, "idempotency-key-reused")
    assert len(service.stored_files()) == 1


def test_the_upload_is_deleted_when_its_job_has_ended(service: Service) -> None:
    answer = service.client.post(PATH, files={"file": archive()}, data={"name": "mine"})
    job_id = answer.json()["id"]
    with Session(service.resources.repository.engine) as session:
        assert session.scalars(select(Sweep.prefix)).all() == []

    service.client.post(f"/v1/jobs/{job_id}/cancel")

    with Session(service.resources.repository.engine) as session:
        assert session.scalars(select(Sweep.prefix)).all() == [upload_prefix("default", job_id)]


def test_data_sets_are_listed_shown_and_deleted(service: Service) -> None:
    first, second = register(service, "one"), register(service, "two")

    page = service.client.get(PATH, params={"page_size": 1})
    assert [found["id"] for found in page.json()["datasets"]] == [second]
    assert 'rel="next"' in page.headers["link"]
    token = page.json()["next_page_token"]
    rest = service.client.get(PATH, params={"page_token": token}).json()
    assert [found["id"] for found in rest["datasets"]] == [first]
    assert rest["next_page_token"] is None

    found = service.client.get(f"{PATH}/{first}").json()
    assert found["counts"] == {"train": {"a": 2, "b": 1}}
    assert (found["balance"], found["duplicates"], found["near_duplicates"]) == (0.5, 0, 1)
    sheet = service.client.get(found["contact_sheet_url"])
    assert (sheet.content, sheet.headers["content-type"]) == (b"a picture", "image/jpeg")
    assert service.client.head(found["contact_sheet_url"]).headers["content-length"] == "9"

    assert service.client.delete(f"{PATH}/{first}").status_code == 204
    assert_problem(service.client.get(f"{PATH}/{first}"), 404, "not-found")
    assert_problem(service.client.delete(f"{PATH}/{first}"), 404, "not-found")
    assert_problem(service.client.get(f"{PATH}/nonsense"), 404, "not-found")
    bad = service.client.get(PATH, params={"page_token": "nonsense"})
    assert_problem(bad, 400, "invalid-page-token")


def test_another_tenants_data_set_does_not_exist(service: Service) -> None:
    repository = service.resources.repository
    mine = register(service)
    _, secret = repository.keys.create("other")
    headers = {"Authorization": f"Bearer {secret}"}

    assert service.client.get(PATH, headers=headers).json()["datasets"] == []
    for path in (f"{PATH}/{mine}", f"{PATH}/{mine}/contact-sheet"):
        assert_problem(service.client.get(path, headers=headers), 404, "not-found")
    assert_problem(service.client.delete(f"{PATH}/{mine}", headers=headers), 404, "not-found")
    assert service.client.get(f"{PATH}/{mine}").status_code == 200


def test_a_data_set_that_a_live_job_reads_stays(service: Service) -> None:
    mine = register(service)
    document = {"datasets": [mine], "model_id": "ours"}
    job = service.client.post("/v1/jobs/train", json=document).json()

    problem = assert_problem(service.client.delete(f"{PATH}/{mine}"), 409, "dataset-in-use")
    assert problem["job"] == job["id"]
    service.client.post(f"/v1/jobs/{job['id']}/cancel")
    assert service.client.delete(f"{PATH}/{mine}").status_code == 204


def test_a_client_that_leaves_in_mid_upload_leaves_nothing_behind(service: Service) -> None:
    address = service.client.base_url
    head = (
        f"POST {PATH}?name=a HTTP/1.1\r\nHost: {address.host}\r\n"
        "Content-Type: application/zip\r\nContent-Length: 20000000\r\n\r\n"
    )

    def announced() -> list[str]:
        with Session(service.resources.repository.engine) as session:
            return list(session.scalars(select(Sweep.prefix)))

    def wait(until: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + 20
        while not until() and time.monotonic() < end:
            time.sleep(0.01)
        assert until(), what

    with socket.create_connection((address.host, address.port or 80)) as connection:
        connection.sendall(head.encode() + b"x" * 9_000_000)
        wait(lambda: service.stored_files() != [], "half a file is there")
        [prefix] = announced()

    wait(lambda: service.stored_files() == [], "nothing is kept of half a file")
    assert announced() == [prefix], "the keeper will look after it, too"
    assert service.client.get("/v1/jobs").json()["jobs"] == []


REPORT = {
    "format": "Pascal VOC",
    "boxes": 3,
    "boxes_turned": 1,
    "boxes_scaled": 0,
    "boxes_clipped": 0,
    "boxes_left_out": 2,
    "files_left_out": 1,
    "files_ignored": 4,
    "left_out": [
        {
            "reason": "box-outside",
            "sentence": "a box lies outside of the photo",
            "files": 0,
            "boxes": 2,
            "examples": ["<script>alert(1)</script>.xml: outside"],
        }
    ],
    "notes": ["some photos are <turned>"],
}


def test_the_report_is_shown_with_the_data_set_and_as_a_page(service: Service) -> None:
    dataset_id = register(service, name="<b>mine</b>", report=REPORT)

    view = service.client.get(f"{PATH}/{dataset_id}").json()
    assert view["report"] == REPORT
    assert "report" not in service.client.get(PATH).json()["datasets"][0]

    page = service.client.get(view["report_url"])
    assert page.headers["content-type"].startswith("text/html")
    assert "sandbox" in page.headers["content-security-policy"]
    assert "a box lies outside of the photo" in page.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;.xml" in page.text
    assert "&lt;b&gt;mine&lt;/b&gt;" in page.text
    for tag in ("<script", "<b>", "<turned"):
        assert tag not in page.text


def test_a_data_set_without_a_report_has_a_page_all_the_same(service: Service) -> None:
    dataset_id = register(service)
    view = service.client.get(f"{PATH}/{dataset_id}").json()
    assert view["report"] is None
    assert "no report" in service.client.get(view["report_url"]).text


def test_a_report_of_another_tenant_does_not_exist(service: Service) -> None:
    answer = service.client.get(f"{PATH}/{new_id('ds')}/report")
    assert_problem(answer, 404, "not-found")
