"""Images and artifacts: what was stored comes back, whole or in parts, and cannot do harm."""

import io

import pytest
from PIL import Image

from tests.unit.api.service import Service, assert_problem, picture

DATA = bytes(range(256)) * 2000  # larger than one piece of a stream


@pytest.fixture
def artifact(service: Service) -> str:
    """The path of an artifact that holds ``DATA``."""
    job_id = service.create()
    service.finish(job_id, artifacts=[("out.bin", "application/octet-stream", DATA)])
    return f"/v1/jobs/{job_id}/artifacts/out.bin"


def test_an_artifact_comes_back_whole(service: Service, artifact: str) -> None:
    answer = service.client.get(artifact)
    assert answer.status_code == 200
    assert answer.content == DATA
    assert answer.headers["content-length"] == str(len(DATA))
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["content-disposition"] == 'inline; filename="out.bin"'


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-299999", 100, 300_000),
        ("bytes=511990-", 511_990, 512_000),
        ("bytes=-10", 511_990, 512_000),
        ("bytes=-9999999", 0, 512_000),
        ("bytes=511999-9999999", 511_999, 512_000),
    ],
)
def test_one_range(service: Service, artifact: str, asked: str, start: int, end: int) -> None:
    answer = service.client.get(artifact, headers={"Range": asked})
    assert answer.status_code == 206
    assert answer.content == DATA[start:end]
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{len(DATA)}"


@pytest.mark.parametrize(
    "asked", ["bytes=0-1,5-6", "lines=1-2", "bytes=a-b", "bytes=-", "bytes=0-" + "9" * 5000]
)
def test_what_is_not_one_range_is_answered_whole(
    service: Service, artifact: str, asked: str
) -> None:
    answer = service.client.get(artifact, headers={"Range": asked})
    assert (answer.status_code, answer.content) == (200, DATA)


@pytest.mark.parametrize("asked", ["bytes=512000-", "bytes=999999-1000000", "bytes=-0"])
def test_a_range_out_of_bounds(service: Service, artifact: str, asked: str) -> None:
    answer = service.client.get(artifact, headers={"Range": asked})
    assert_problem(answer, 416, "range-not-satisfiable")
    assert answer.headers["content-range"] == f"bytes */{len(DATA)}"


def test_conditions(service: Service, artifact: str) -> None:
    etag = service.client.get(artifact).headers["etag"]
    for tags in (etag, f'"other", W/{etag}', "*"):
        unchanged = service.client.get(artifact, headers={"If-None-Match": tags})
        assert (unchanged.status_code, unchanged.content) == (304, b"")
        assert unchanged.headers["etag"] == etag
    part = {"Range": "bytes=0-9"}
    same = service.client.get(artifact, headers={**part, "If-Range": etag})
    assert same.status_code == 206
    other = service.client.get(artifact, headers={**part, "If-Range": '"other"'})
    assert (other.status_code, other.content) == (200, DATA)


def test_head_answers_like_get_without_the_body(service: Service, artifact: str) -> None:
    image_id = service.upload()
    job = artifact.rsplit("/", 2)[0]
    for path in (
        artifact,
        job,
        f"{job}/events",
        "/v1/jobs",
        f"/v1/images/{image_id}",
        f"/v1/images/{image_id}/content",
        "/v1/operations",
        "/readyz",
        "/v1/nothing",
    ):
        head, get = service.client.head(path), service.client.get(path)
        assert (head.status_code, head.content) == (get.status_code, b"")
        for name in ("content-type", "etag", "accept-ranges"):
            assert head.headers.get(name) == get.headers.get(name)


def test_a_photo_keeps_its_pixels_and_loses_its_secrets(service: Service) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "taken at home"
    photo = picture(40, 20, file_format="JPEG", exif=exif, comment=b"my secret")
    answer = service.client.post("/v1/images", files={"image": ("me.jpg", photo)})
    assert answer.status_code == 201
    view = answer.json()
    assert (view["width"], view["height"], view["media_type"]) == (20, 40, "image/jpeg")
    assert answer.headers["location"] == f"/v1/images/{view['id']}"
    meta = service.client.get(answer.headers["location"])
    assert meta.json() == view
    assert meta.headers["etag"] == answer.headers["etag"]
    stored = service.client.get(view["content_url"])
    assert stored.headers["content-type"] == "image/jpeg"
    assert b"home" not in stored.content
    assert b"secret" not in stored.content
    with Image.open(io.BytesIO(stored.content)) as kept, Image.open(io.BytesIO(photo)) as given:
        assert kept.tobytes() == given.tobytes()
    fresh = {"If-None-Match": meta.headers["etag"]}
    assert service.client.get(answer.headers["location"], headers=fresh).status_code == 304


def test_an_image_that_a_live_job_reads_stays(service: Service) -> None:
    image_id = service.upload()
    job_id = service.client.post("/v1/jobs/classify", json={"images": [image_id]}).json()["id"]
    problem = assert_problem(service.client.delete(f"/v1/images/{image_id}"), 409, "image-in-use")
    assert problem["job"] == job_id
    service.finish(job_id)
    assert service.client.delete(f"/v1/images/{image_id}").status_code == 204


def test_an_artifact_that_is_not_there(service: Service, artifact: str) -> None:
    assert_problem(service.client.get(artifact + ".no"), 404, "not-found")


def test_stored_photos_outlive_the_hour_that_uploads_have(service: Service) -> None:
    service.upload()
    service.create()
    assert service.resources.repository.keeping.due_sweeps() == []
    with service.resources.repository.engine.connect() as connection:
        left = connection.exec_driver_sql("SELECT count(*) FROM sweeps").scalar_one()
    assert left == 0


def test_photos_are_announced_before_they_are_stored(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object, **__: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(service.resources.repository.jobs, "create", die)
    answer = service.client.post("/v1/jobs/classify", files={"image": picture()})
    assert_problem(answer, 500, "internal-error")
    [stored] = service.stored_files()
    with service.resources.repository.engine.connect() as connection:
        prefixes = connection.exec_driver_sql("SELECT prefix FROM sweeps").scalars().all()
    root = service.resources.objects.root
    assert root is not None
    assert [str(stored.relative_to(root).parent) + "/"] == prefixes
