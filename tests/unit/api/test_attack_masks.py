"""Mask images of an ``attack`` are a job's images like its photos: owned, kept, deleted."""

from collections.abc import Callable
from typing import Any

import httpx

from tests.unit.api.service import NOBODY, Service, assert_problem, picture


def post(service: Service, photo: str, mask: str, **options: Any) -> httpx.Response:
    document = {"images": [photo], "region": {"images": [mask]}, "attack": {"name": "fgsm"}}
    return service.client.post("/v1/jobs/attack", json=document, **options)


def test_a_mask_image_stays_while_a_live_job_reads_it(service: Service) -> None:
    photo, mask = service.upload(), service.upload()
    answer = post(service, photo, mask)
    assert answer.status_code == 202, answer.text
    job_id = answer.json()["id"]
    images = service.resources.repository.images.of_job("default", job_id)
    assert [image.id for image in images] == [photo, mask], "in the order of the spec"
    problem = assert_problem(service.client.delete(f"/v1/images/{mask}"), 409, "image-in-use")
    assert problem["job"] == job_id
    service.finish(job_id)
    assert service.client.delete(f"/v1/images/{mask}").status_code == 204
    assert_problem(post(service, photo, mask), 422, "unknown-image")


def test_a_mask_image_beside_a_photo_of_the_same_call(service: Service) -> None:
    mask = service.upload()
    fields = {"region": f'{{"images": ["{mask}"]}}'}
    answer = service.client.post("/v1/jobs/attack", data=fields, files={"image": picture()})
    assert answer.status_code == 202, answer.text
    job_id = answer.json()["id"]
    inline, named = service.resources.repository.images.of_job("default", job_id)
    assert named.id == mask
    assert service.client.delete(f"/v1/jobs/{job_id}").status_code == 204
    # The photo was the job's own; the mask image is its owner's.
    assert service.client.get(f"/v1/images/{inline.id}").status_code == 404
    assert service.client.get(f"/v1/images/{mask}").status_code == 200


def test_mask_images_of_others_and_of_nobody_do_not_exist(
    serve: Callable[..., Service],
) -> None:
    service = serve(require_keys=True)
    keys = service.resources.repository.keys
    ours, theirs = (
        {"Authorization": f"Bearer {keys.create(tenant)[1]}"} for tenant in ("ours", "theirs")
    )

    def upload(headers: dict[str, str]) -> str:
        given = {**headers, "Content-Type": "image/png"}
        answer = service.client.post("/v1/images", content=picture(), headers=given)
        return str(answer.json()["id"])

    photo = upload(ours)
    for mask in (upload(theirs), NOBODY):
        problem = assert_problem(post(service, photo, mask, headers=ours), 422, "unknown-image")
        assert mask in problem["errors"][0]["detail"]
    assert post(service, photo, upload(ours), headers=ours).status_code == 202
