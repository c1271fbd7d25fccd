"""Every row of the bad-input table is answered with its problem, and nothing is left behind."""

import io
import json
import sqlite3
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import event

from tests.unit.api.service import NOBODY, Service, assert_problem, picture

PNG = {"Content-Type": "image/png"}
JSON = {"Content-Type": "application/json"}


def bomb(side: int) -> bytes:
    """Return a small PNG file whose header promises ``side`` × ``side`` pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    body = zlib.compress(bytes(1000))
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


BAD_IMAGES = {
    "not an image": (b"hello, I am text" * 10, 415, "unsupported-image-type"),
    "an SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', 415, "unsupported-image-type"),
    "truncated JPEG": (picture(200, 200, file_format="JPEG")[:-400], 422, "corrupt-image"),
    "truncated PNG": (picture(200, 200)[:-30], 422, "corrupt-image"),
    "bomb": (bomb(20_000), 422, "image-too-many-pixels"),
    "no bytes": (b"", 422, "empty-image"),
    "over the byte cap": (picture() + bytes(20_000), 413, "image-too-large"),
}


@pytest.mark.parametrize("case", BAD_IMAGES)
@pytest.mark.parametrize("way", ["raw", "chunked", "form", "inline"])
def test_bad_images_are_refused(serve: Callable[..., Service], case: str, way: str) -> None:
    data, status, slug = BAD_IMAGES[case]
    service = serve(max_image_bytes=10_000)

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(data), 1000):
            yield data[start : start + 1000]

    if way == "raw":
        answer = service.client.post("/v1/images", content=data, headers=PNG)
    elif way == "chunked":
        answer = service.client.post("/v1/images", content=pieces(), headers=PNG)
    elif way == "form":
        answer = service.client.post("/v1/images", files={"image": data})
    else:
        answer = service.client.post("/v1/jobs/classify", files={"image": data})
    document = assert_problem(answer, status, slug)
    if way == "inline":
        assert document["errors"][0]["pointer"] == "/images/0"
        assert service.client.get("/v1/jobs").json()["jobs"] == []
    assert service.stored_files() == []


def test_a_body_over_the_request_cap_is_refused_while_it_arrives(
    serve: Callable[..., Service],
) -> None:
    service = serve(max_request_bytes=50_000)
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        for _ in range(100):
            taken += 10_000
            yield bytes(10_000)

    answer = service.client.post(
        "/v1/jobs/classify",
        content=endless(),
        headers={"Content-Type": "multipart/form-data; boundary=x"},
    )
    assert_problem(answer, 413, "content-too-large")
    declared = service.client.post("/v1/images", content=bytes(60_000), headers=PNG)
    assert_problem(declared, 413, "content-too-large")


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "slug"),
    [
        ("/v1/images", b"{}", JSON, 415, "unsupported-media-type"),
        ("/v1/images", b"x", {}, 415, "unsupported-media-type"),
        ("/v1/jobs/classify", b"x", PNG, 415, "unsupported-media-type"),
        ("/v1/jobs/dance", b"{}", JSON, 404, "unknown-kind"),
        ("/v1/jobs/classify", b"{", JSON, 400, "malformed-json"),
        ("/v1/jobs/classify", b"\xff\xfe", JSON, 400, "malformed-json"),
        ("/v1/jobs/classify", b'{"faces": NaN}', JSON, 400, "malformed-json"),
        ("/v1/jobs/classify", b'{"model": "a", "model": "b"}', JSON, 400, "malformed-json"),
        ("/v1/jobs/classify", b'{"\\ud800": 1}', JSON, 422, "invalid-request"),
        ("/v1/jobs/classify", b"[" * 100_000, JSON, 400, "malformed-json"),
        ("/v1/jobs/classify", b'{"model": ' + b"9" * 5000 + b"}", JSON, 400, "malformed-json"),
        ("/v1/jobs/classify", b"[]", JSON, 422, "invalid-request"),
        ("/v1/jobs/classify", b"", JSON, 400, "malformed-json"),
        (
            "/v1/jobs/classify",
            b"x",
            {"Content-Type": "multipart/form-data"},
            400,
            "malformed-multipart",
        ),
        (
            "/v1/jobs/classify",
            b"not what was announced",
            {"Content-Type": "multipart/form-data; boundary=x"},
            400,
            "malformed-multipart",
        ),
    ],
)
def test_malformed_requests_are_refused(
    service: Service, path: str, body: bytes, headers: dict[str, str], status: int, slug: str
) -> None:
    assert_problem(service.client.post(path, content=body, headers=headers), status, slug)


def test_a_spec_that_is_too_long_is_refused(service: Service) -> None:
    body = json.dumps({"images": [NOBODY], "model": "m" * 5_000_000})
    answer = service.client.post("/v1/jobs/classify", content=body, headers=JSON)
    assert_problem(answer, 413, "content-too-large")


@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        ({"images": [NOBODY], "colour": "red"}, "/colour"),
        ({"images": [NOBODY], "a/b~c": 1}, "/a~1b~0c"),
        ({"images": []}, "/images"),
        ({}, "/images"),
        ({"images": ["../../etc/passwd"]}, "/images/0"),
        ({"images": "all"}, "/images"),
        ({"images": [NOBODY], "faces": "some"}, "/faces"),
        ({"images": [NOBODY], "model": "../x"}, "/model"),
        ({"images": [NOBODY], "model": 7}, "/model"),
        ({"images": [NOBODY], "kind": "encrypt"}, "/kind"),
        ({"images": [NOBODY], "kind": ["classify"]}, "/kind"),
        (
            {"images": [NOBODY], "faces": [{"x": 0, "y": 0, "width": -1, "height": 5}]},
            "/faces/0/width",
        ),
        (
            {"images": [NOBODY], "faces": [{"x": 0, "y": 0, "width": 1, "height": 5, "z": 1}]},
            "/faces/0/z",
        ),
        ({"images": [NOBODY] * 300}, "/images"),
    ],
)
def test_fields_that_are_wrong_are_named_by_pointer(
    service: Service, document: dict[str, object], pointer: str
) -> None:
    answer = service.client.post("/v1/jobs/classify", json=document)
    problem = assert_problem(answer, 422, "invalid-request")
    assert pointer in [error["pointer"] for error in problem["errors"]]
    assert all(error["detail"] for error in problem["errors"])


def test_a_flood_of_mistakes_is_not_answered_with_a_flood(
    serve: Callable[..., Service],
) -> None:
    service = serve(max_images_per_job=10_000)
    answer = service.client.post("/v1/jobs/classify", json={"images": ["x"] * 10_000})
    assert len(assert_problem(answer, 422, "invalid-request")["errors"]) == 100


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"colour": "red"}, "/colour"),
        ({"faces": "some"}, "/faces"),
        ({"image": "me.jpg"}, "/image"),
        ({"spec": '{"faces": "whole"}', "faces": "auto"}, "/faces"),
        ({"spec": '{"kind": "encrypt"}'}, "/kind"),
    ],
)
def test_form_fields_that_are_wrong_are_named(
    service: Service, fields: dict[str, str], pointer: str
) -> None:
    answer = service.client.post(
        "/v1/jobs/classify", data=fields, files={"images": ("a.png", picture())}
    )
    problem = assert_problem(answer, 422, "invalid-request")
    assert pointer in [error["pointer"] for error in problem["errors"]]
    assert service.stored_files() == []


def test_a_file_in_a_field_of_another_name_is_refused(service: Service) -> None:
    answer = service.client.post("/v1/jobs/classify", files={"photo": picture()})
    problem = assert_problem(answer, 422, "invalid-request")
    assert problem["errors"][0]["pointer"] == "/photo"


def test_images_that_are_missing_or_deleted_are_named(service: Service) -> None:
    kept, deleted = service.upload(), service.upload()
    assert service.client.delete(f"/v1/images/{deleted}").status_code == 204
    answer = service.client.post("/v1/jobs/classify", json={"images": [kept, deleted, NOBODY]})
    problem = assert_problem(answer, 422, "unknown-image")
    assert [error["pointer"] for error in problem["errors"]] == ["/images/1", "/images/2"]
    for image_id in (deleted, NOBODY, "nonsense", "img_%00"):
        for path in (f"/v1/images/{image_id}", f"/v1/images/{image_id}/content"):
            assert_problem(service.client.get(path), 404, "not-found")


@pytest.mark.parametrize(
    ("query", "status", "slug"),
    [
        ("page_size=201", 422, "invalid-request"),
        ("page_size=0", 422, "invalid-request"),
        ("page_size=many", 422, "invalid-request"),
        ("state=asleep", 422, "invalid-request"),
        ("kind=%00", 422, "invalid-request"),
        ("page_token=x", 400, "invalid-page-token"),
        ("page_token=bnVsbA==", 400, "invalid-page-token"),
        ("page_token=WzEsIDJd", 400, "invalid-page-token"),
        ("page_token=" + "W" * 401, 400, "invalid-page-token"),
        ("page_token=" + "W" * 501, 422, "invalid-request"),
    ],
)
def test_bad_listings_are_refused(service: Service, query: str, status: int, slug: str) -> None:
    assert_problem(service.client.get(f"/v1/jobs?{query}"), status, slug)


@pytest.mark.parametrize(
    ("headers", "slug"),
    [
        ({"Prefer": "wait=soon"}, "invalid-header"),
        ({"Prefer": "wait=-1"}, "invalid-header"),
        ({"Prefer": "wait=nan"}, "invalid-header"),
        ({"Prefer": "wait=inf"}, "invalid-header"),
        ({"Idempotency-Key": "with space"}, "invalid-header"),
        ({"Idempotency-Key": "k" * 256}, "invalid-header"),
        ({"Idempotency-Key": ""}, "invalid-header"),
    ],
)
def test_bad_headers_are_refused_before_anything_is_stored(
    service: Service, headers: dict[str, str], slug: str
) -> None:
    answer = service.client.post("/v1/jobs/classify", files={"image": picture()}, headers=headers)
    assert_problem(answer, 400, slug)
    assert service.stored_files() == []
    assert service.client.get("/v1/jobs").json()["jobs"] == []


def test_a_full_queue_is_answered_with_429(serve: Callable[..., Service]) -> None:
    service = serve(max_queued_jobs=1)
    service.create()
    before = service.stored_files()
    answer = service.client.post("/v1/jobs/classify", files={"image": picture()})
    assert_problem(answer, 429, "queue-full")
    assert int(answer.headers["retry-after"]) > 0
    assert service.stored_files() == before


def test_a_lack_of_memory_is_answered_with_503(
    serve: Callable[..., Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    def starved(image: object) -> None:
        raise MemoryError

    service = serve()
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", starved)
    answer = service.client.post("/v1/images", content=picture(), headers=PNG)

    assert_problem(answer, 503, "no-memory")
    assert int(answer.headers["retry-after"]) > 0
    assert service.stored_files() == []


def test_a_full_disk_is_answered_with_507(serve: Callable[..., Service]) -> None:
    service = serve(min_free_disk_bytes=2**60)
    for answer in (
        service.client.post("/v1/images", content=picture(), headers=PNG),
        service.client.post("/v1/jobs/classify", files={"image": picture()}),
    ):
        assert_problem(answer, 507, "storage-full")
    assert service.stored_files() == []


def test_cancelling_a_finished_job_is_refused(service: Service) -> None:
    job_id = service.create()
    service.finish(job_id)
    problem = assert_problem(service.client.post(f"/v1/jobs/{job_id}/cancel"), 409, "job-finished")
    assert problem["state"] == "succeeded"


def test_the_object_store_down_is_answered_with_503(service: Service, tmp_path: Path) -> None:
    image_id, job_id = service.upload(), service.create()
    service.finish(job_id, artifacts=[("out.png", "image/png", picture())])
    root = service.resources.objects.root
    assert root is not None
    root.rename(tmp_path / "away")
    root.write_text("a file where the folder was")
    for answer in (
        service.client.get(f"/v1/images/{image_id}/content"),
        service.client.get(f"/v1/jobs/{job_id}/artifacts/out.png"),
        service.client.post("/v1/images", content=picture(), headers=PNG),
        service.client.post("/v1/jobs/classify", files={"image": picture()}),
    ):
        assert_problem(answer, 503, "object-store-unavailable")
        assert int(answer.headers["retry-after"]) > 0
    assert_problem(service.client.get("/readyz"), 503, "not-ready")
    assert service.client.get(f"/v1/jobs/{job_id}").status_code == 200


def test_paths_and_methods_that_do_not_exist(service: Service) -> None:
    assert_problem(service.client.get("/v1/nothing"), 404, "not-found")
    answer = service.client.put("/v1/jobs")
    assert_problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"]
    assert_problem(service.client.get("/v1/operations/dance"), 404, "unknown-kind")
    assert_problem(service.client.get("/v1/jobs/job_x%00/artifacts/a%2f..%2fb"), 404, "not-found")


def test_every_problem_type_is_described(service: Service) -> None:
    answer = service.client.get("/problems/queue-full")
    assert answer.json()["status"] == 429
    assert_problem(service.client.get("/problems/no-such"), 404, "not-found")


def test_an_unexpected_error_says_nothing_of_the_inside(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("secret path /etc/shadow")

    monkeypatch.setattr(service.resources.repository.jobs, "page", fail)
    answer = service.client.get("/v1/jobs")
    assert_problem(answer, 500, "internal-error")
    assert "shadow" not in answer.text


def test_a_form_with_a_broken_file_among_good_ones_names_it(service: Service) -> None:
    files = [("image", picture()), ("images", b"broken"), ("image", picture(5, 5))]
    answer = service.client.post(
        "/v1/jobs/classify", files=[(name, io.BytesIO(data)) for name, data in files]
    )
    problem = assert_problem(answer, 415, "unsupported-image-type")
    assert problem["errors"][0]["pointer"] == "/images/1"
    assert service.stored_files() == []


def test_the_broker_down_delays_a_job_and_refuses_none(serve: Callable[..., Service]) -> None:
    service = serve(broker_url="redis://127.0.0.1:1/0")
    for _ in range(3):
        answer = service.client.post("/v1/jobs/classify", files={"image": picture()})
        assert answer.status_code == 202
    problem = assert_problem(service.client.get("/readyz"), 503, "not-ready")
    assert "Jobs are taken and kept" in problem["detail"]
    assert len(service.client.get("/v1/jobs?state=queued").json()["jobs"]) == 3


def test_a_dead_s3_server_is_answered_with_503(serve: Callable[..., Service]) -> None:
    service = serve(
        objects_url="s3://photos",
        s3_endpoint="http://127.0.0.1:1",
        s3_access_key_id="test",
        s3_secret_access_key="test-only",
    )
    for answer in (
        service.client.post("/v1/images", content=picture(), headers=PNG),
        service.client.post("/v1/jobs/classify", files={"image": picture()}),
    ):
        assert_problem(answer, 503, "object-store-unavailable")
    assert service.client.get("/v1/jobs").json()["jobs"] == []


def test_a_locked_database_is_answered_with_503(
    service: Service,
) -> None:
    service.resources.repository.engine.dispose()
    event.listen(service.resources.repository.engine, "connect", _no_patience)
    path = service.resources.settings.database.database
    with sqlite3.connect(str(path), isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        answer = service.client.post("/v1/jobs/classify", json={"images": [NOBODY]})
        other.execute("ROLLBACK")
    other.close()
    assert_problem(answer, 503, "database-unavailable")
    assert service.client.get("/v1/jobs").json()["jobs"] == []


def test_a_database_without_space_is_answered_with_507(service: Service) -> None:
    engine = service.resources.repository.engine
    engine.dispose()
    event.listen(engine, "connect", _no_space)
    answers = [
        service.client.post("/v1/jobs/classify", files={"image": picture()}) for _ in range(20)
    ]
    assert_problem(answers[-1], 507, "storage-full")


def _no_patience(connection: sqlite3.Connection, _: object) -> None:
    connection.execute("PRAGMA busy_timeout = 50")


def _no_space(connection: sqlite3.Connection, _: object) -> None:
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
