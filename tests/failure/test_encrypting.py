"""``encrypt`` through HTTP with a real worker, and that deletion deletes."""

import io

import httpx
import pytest
from PIL import Image
from skimage import data

from tests.failure.http import finished
from tests.failure.stack import Stack, end

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(300)]

WORKER = ("-m", "services.cli", "worker")
TENANT_OBJECTS = "default/"
VERDICTS = ("protected", "weak", "unprotected")


def photo(kind: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x010F] = "A camera"
    Image.fromarray(data.astronaut()).save(buffer, kind, quality=92, exif=exif)
    return buffer.getvalue()


def test_one_request_is_the_whole_client_and_deletion_leaves_nothing(
    stack: Stack, client: httpx.Client
) -> None:
    stack.keeper()
    stack.start(WORKER)
    before = set(stack.objects.keys(TENANT_OBJECTS))

    answer = client.post(
        "/v1/jobs/encrypt",
        files={"image": ("me.jpg", photo())},
        data={"preset": "live"},
        headers={"Prefer": "wait=60", "Accept": "image/jpeg"},
    )

    assert answer.status_code == 201
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["bauta-verdict"] in VERDICTS
    safe = Image.open(io.BytesIO(answer.content))
    assert safe.size == (512, 512)
    assert safe.quantization == Image.open(io.BytesIO(photo())).quantization  # type: ignore[attr-defined]
    assert not safe.getexif()
    (listed,) = client.get("/v1/jobs", params={"kind": "encrypt"}).json()["jobs"]
    job = client.get(listed["url"]).json()
    (image,) = job["result"]["images"]
    assert image["verdict"] == answer.headers["bauta-verdict"]
    assert image["photo"].startswith(image["verdict"])

    assert client.delete(f"/v1/jobs/{job['id']}").status_code == 204
    # A photo that came with its job goes with it.
    assert client.get(f"/v1/images/{image['image']}").status_code == 404
    for artifact in job["artifacts"]:
        assert client.get(artifact["url"]).status_code == 404
    stack.wait(
        lambda: set(stack.objects.keys(TENANT_OBJECTS)) <= before, what="every object to be gone"
    )


def test_a_verdict_that_is_required_and_not_reached_delivers_no_photo(
    stack: Stack, client: httpx.Client
) -> None:
    stack.keeper()
    stack.start(WORKER)

    answer = client.post(
        "/v1/jobs/encrypt",
        files={"image": ("me.png", photo("PNG"))},
        data={"parameters": '{"eps": 1, "steps": 1}', "require": "protected"},
        headers={"Prefer": "wait=60", "Accept": "image/png"},
    )

    assert answer.status_code == 422, answer.text
    assert answer.json()["type"] == "/problems/not-protected"
    assert answer.json()["verdict"] == "unprotected"
    (job,) = client.get("/v1/jobs", params={"kind": "encrypt"}).json()["jobs"]
    assert job["artifact_count"] == 0


def test_a_killed_worker_leaves_its_photos_and_the_same_as_none(
    stack: Stack, client: httpx.Client
) -> None:
    stack.keeper()
    first = stack.start(WORKER)

    def post() -> str:
        answer = client.post(
            "/v1/jobs/encrypt",
            files=[("image", ("me.png", photo("PNG"))), ("image", ("me.jpg", photo()))],
            data={"parameters": '{"steps": 60}', "seed": "3"},
        )
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def done(job_id: str) -> int:
        seen = client.get(f"/v1/jobs/{job_id}").json()
        assert seen["state"] != "succeeded", "over before it could be killed"
        return int((seen["progress"] or {}).get("done", 0))

    broken = post()
    stack.wait(lambda: done(broken) > 100, what="the first photo of two", seconds=120)
    end(first)
    assert stack.repository.claims.checkpoint_files(broken), "the first photo is kept"
    stack.start(WORKER)
    whole = post()
    jobs = [finished(client, one) for one in (broken, whole)]

    assert (stack.repository.jobs.get("default", broken) or pytest.fail("gone")).losses >= 1
    pictures = []
    for job in jobs:
        assert job["state"] == "succeeded", job
        names = [image["photo"] for image in job["result"]["images"]]
        by_name = {artifact["name"]: artifact["url"] for artifact in job["artifacts"]}
        pictures.append([client.get(by_name[name]).content for name in names])
    assert pictures[0] == pictures[1]
