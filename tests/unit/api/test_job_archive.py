"""All files of a job as one ZIP."""

import hashlib
import io
import zipfile
from collections.abc import Callable

import pytest

from services.api.job_archive import named_once
from shared.db.tables import Artifact
from shared.objects import ObjectStore, ObjectStoreUnavailableError
from tests.unit.api.service import Service, assert_problem, picture


def opened(data: bytes) -> zipfile.ZipFile:
    archive = zipfile.ZipFile(io.BytesIO(data))
    assert archive.testzip() is None
    return archive


def test_the_archive_holds_every_file_byte_for_byte(service: Service) -> None:
    job_id = service.create()
    files = {
        "out.png": ("image/png", picture(300, 200)),
        "table.json": ("application/json", b'{"rows": []}' * 100_000),
        "design.pdf": ("application/pdf", b"%PDF" + bytes(600_000)),
        "empty.csv": ("text/csv", b""),
    }
    service.finish(job_id, artifacts=[(name, *what) for name, what in files.items()])
    answer = service.client.get(f"/v1/jobs/{job_id}/artifacts.zip")
    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["content-disposition"] == f'attachment; filename="classify-{job_id}.zip"'
    archive = opened(answer.content)
    assert archive.namelist() == list(files)
    for name, (_, data) in files.items():
        assert hashlib.sha256(archive.read(name)).digest() == hashlib.sha256(data).digest()
    kinds = {entry.filename: entry.compress_type for entry in archive.infolist()}
    assert kinds["out.png"] == zipfile.ZIP_STORED
    assert kinds["table.json"] == zipfile.ZIP_DEFLATED
    assert len(answer.content) < 60_000


def test_it_is_sent_while_it_is_read(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = service.create()
    big = [(f"{n}.png", "image/png", picture() + bytes(1_000_000)) for n in range(4)]
    service.finish(job_id, artifacts=big)
    with service.client.stream("GET", f"/v1/jobs/{job_id}/artifacts.zip") as answer:
        assert "content-length" not in answer.headers
        sizes = [len(piece) for piece in answer.iter_raw()]
    assert len(sizes) >= 12


def test_what_has_no_archive_says_why(serve: Callable[..., Service]) -> None:
    service = serve(require_keys=True)
    keys = service.resources.repository.keys
    ours, theirs = ({"Authorization": f"Bearer {keys.create(name)[1]}"} for name in ("a", "b"))
    made = service.client.post("/v1/jobs/classify", files={"image": picture()}, headers=ours)
    url = made.headers["location"] + "/artifacts.zip"
    live = assert_problem(service.client.get(url, headers=ours), 409, "job-not-finished")
    assert live["state"] == "queued"
    service.finish(made.json()["id"], artifacts=[("out.png", "image/png", picture())])
    assert opened(service.client.get(url, headers=ours).content).namelist() == ["out.png"]
    assert_problem(service.client.get(url, headers=theirs), 404, "not-found")
    assert_problem(service.client.get(url), 401, "unauthorized")
    service.client.delete(made.headers["location"], headers=ours)
    assert_problem(service.client.get(url, headers=ours), 404, "not-found")
    assert_problem(service.client.get("/v1/jobs/x/artifacts.zip", headers=ours), 404, "not-found")


def test_a_job_without_files_has_no_archive(service: Service) -> None:
    job_id = service.create()
    service.finish(job_id)
    assert_problem(service.client.get(f"/v1/jobs/{job_id}/artifacts.zip"), 404, "not-found")


def test_a_store_that_is_down_is_a_problem_and_no_half_archive(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = service.create()
    service.finish(job_id, artifacts=[("out.png", "image/png", picture())])

    async def fail(*_: object) -> None:
        raise ObjectStoreUnavailableError("down")
        yield  # a generator

    monkeypatch.setattr(ObjectStore, "stream", fail)
    answer = service.client.get(f"/v1/jobs/{job_id}/artifacts.zip")
    assert_problem(answer, 503, "object-store-unavailable")


def test_names_are_safe_to_unpack_and_differ_on_every_system() -> None:
    given = ["a.png", "A.png", "../../etc/passwd", "a\\b\n.txt", "..", "noending", "NoEnding"]
    rows = [Artifact(name=name) for name in given]
    names = [name for name, _ in named_once(rows)]
    assert len({name.lower() for name in names}) == len(given)
    assert names[:2] == ["a.png", "A-2.png"]
    assert not any("/" in name or "\\" in name or name.startswith(".") for name in names)
