"""``attack`` at the photo's own size: the delivered photo goes through the whole service again."""

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from services.worker.attacks.base import Attack
from services.worker.attacks.pgd import PGD as PGDAttack
from services.worker.attacks.square import Square as SquareAttack
from services.worker.faces.crops import square_around
from services.worker.faces.face import Face
from services.worker.jobs import classify
from services.worker.jobs.attack import job as attack
from services.worker.jobs.attack.delivery import deliver_photo
from services.worker.jobs.attack.inputs import Photo
from services.worker.jobs.attack.photo_search import (
    PhotoAttack,
    PhotoSearch,
    assemble,
    judge,
    search_photo,
)
from services.worker.jobs.kit.faces import Corners, Located
from services.worker.jobs.kit.models import mask_model
from services.worker.runtime import memory
from shared.problems import Problem
from shared.results.attack import AttackedImage
from shared.specs.attack import AttackSpec
from shared.specs.classify import ClassifySpec

Make = Callable[..., Any]


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def changes(context: Any, image: AttackedImage, index: int = 0) -> np.ndarray[Any, Any]:
    """Return how much each pixel was changed, ``(H, W)``."""
    assert image.adversarial is not None
    after = np.asarray(opened(context.artifacts[image.adversarial])).astype(int)
    largest: np.ndarray[Any, Any] = np.abs(after - context.photos[index]).max(2)
    return largest


def attacked(context: Any, **fields: Any) -> Any:
    given = {
        "images": context.ids,
        "at": "photo",
        "model": "mask-cnn-32",
        "attack": {"name": "pgd", "eps": 6, "steps": 5},
    }
    context.checkpoint = None  # a job of its own
    return attack.run(context, AttackSpec.model_validate({**given, **fields}))


def test_the_delivered_photo_fools_the_service_itself(
    context_of: Make, masked: Image.Image, bare: Image.Image
) -> None:
    context = context_of(masked, bare)
    pgd, model = {"name": "pgd", "eps": 8, "steps": 6}, "mask-face-112"
    result = attacked(context, attack=pgd, model=model)
    delivered = [opened(context.artifacts[image.adversarial]) for image in result.images]
    assert [photo.size for photo in delivered] == [masked.size, bare.size]
    other = context_of(*delivered)
    spec = ClassifySpec(images=other.ids, model=model)
    seen = classify.run(other, spec)
    for image, again in zip(result.images, seen.images, strict=True):
        found = {(face.box.x, face.box.y): face for face in again.faces}
        for face in image.faces:
            assert face.found_again is True
            same = found[face.box_after.x, face.box_after.y]
            assert same.label == face.label_after
            assert same.probabilities[face.label] == pytest.approx(face.confidence_after, abs=1e-4)
            assert face.success is (same.label != face.label)
        assert image.fooled is all(face.success for face in image.faces)
    assert any(image.fooled for image in result.images)


def test_pixels_stay_within_eps_and_within_what_the_classifier_sees(
    context_of: Make, four_people: Image.Image
) -> None:
    context = context_of(four_people)
    boxes = [
        {"x": 90, "y": 120, "width": 145, "height": 150},
        {"x": 375, "y": 205, "width": 100, "height": 110},
    ]
    (image,) = attacked(context, faces=boxes).images
    changed = changes(context, image)
    assert changed.max() == max(face.linf for face in image.faces) <= 6
    margin = mask_model(context, model_id="mask-cnn-32").card.crop_margin
    for face in image.faces:
        box = face.box
        corners = (box.x, box.y, box.x + box.width, box.y + box.height)
        x, y, side = square_around(corners, margin)
        window = changed[max(y, 0) : y + side, max(x, 0) : x + side]
        assert np.count_nonzero(window) == face.changed_pixels > 1000
        window[:] = 0
    assert not changed.any()


def test_regions_are_those_of_the_photo(context_of: Make, masked: Image.Image) -> None:
    context = context_of(masked)
    faces = [{"x": 175, "y": 65, "width": 95, "height": 120}]
    (image,) = attacked(context, region="mask", faces=faces).images
    face = image.faces[0]
    rows, columns = np.nonzero(changes(context, image))
    assert len(rows) > 500
    assert rows.min() >= round(face.box.y + 0.5 * face.box.height)
    assert rows.max() <= round(face.box.y + face.box.height)
    assert columns.min() >= round(face.box.x)
    box = {"x": face.box.x, "y": face.box.y, "width": 20, "height": 10}
    (image,) = attacked(context, region=box, faces=faces).images
    rows, columns = np.nonzero(changes(context, image))
    assert 10 < len(rows) <= 21 * 11
    assert rows.max() - rows.min() <= 10
    with pytest.raises(Problem, match="no pixel to change"):
        attacked(context, region={**box, "x": 0, "y": 0}, faces=faces)


def test_photos_that_are_crops_and_boxes_given_are_judged_where_they_are(
    context_of: Make, masked: Image.Image
) -> None:
    crop = masked.crop((150, 60, 300, 240))
    context = context_of(crop)
    for faces in ("whole", [{"x": 5, "y": 5, "width": 140, "height": 170}]):
        (image,) = attacked(context, faces=faces, attack={"name": "pgd", "eps": 16}).images
        (face,) = image.faces
        assert face.found_again is None
        assert face.box_after is None
        other = context_of(opened(context.artifacts[image.adversarial]))
        spec = ClassifySpec.model_validate(
            {"images": other.ids, "faces": faces, "model": "mask-cnn-32"}
        )
        label = classify.run(other, spec).images[0].faces[0].label
        assert (label, image.fooled) == (face.label_after, label != face.label)


def test_faces_that_overlap_do_not_change_each_other_s_pixels(
    context_of: Make, masked: Image.Image
) -> None:
    context = context_of(masked)
    boxes = [
        {"x": 150, "y": 60, "width": 100, "height": 120},
        {"x": 190, "y": 70, "width": 100, "height": 120},
    ]
    (image,) = attacked(context, faces=boxes, attack={"name": "pgd", "eps": 5}).images
    changed = changes(context, image)
    assert 0 < changed.max() <= 5
    assert sum(face.changed_pixels for face in image.faces) == np.count_nonzero(changed)
    with pytest.raises(Problem, match="no pixel to change"):
        attacked(context, faces=[boxes[0], boxes[0]])


def test_a_photo_without_a_face_has_nothing_to_deliver(context_of: Make) -> None:
    context = context_of(Image.new("RGB", (200, 150), "teal"))
    (image,) = attacked(context).images
    assert (image.adversarial, image.fooled, image.faces) == (None, None, ())


def moving(clean: np.ndarray[Any, Any], box: Corners, *, by: float) -> Any:
    """Return a face finder that sees the face elsewhere once a pixel has changed."""

    def detect(pixels: np.ndarray[Any, Any]) -> list[Face]:
        if np.isnan(by) and (pixels != clean).any():
            return []
        shift = 0.0 if (pixels == clean).all() else by
        x0, y0, x1, y1 = box
        points = np.zeros((5, 2), dtype=np.float32)
        return [Face((x0 + shift, y0 + shift, x1 + shift, y1 + shift), 0.9, points)]

    return detect


def setting_of(context: Any, detect: Any, choice: Attack | None = None) -> PhotoAttack:
    loaded = mask_model(context, model_id="mask-cnn-32")
    spec = AttackSpec(images=context.ids, at="photo")
    choice = choice or PGDAttack(eps=40, steps=6)
    return PhotoAttack(spec, choice, loaded, None, detect, lambda: None)


def searched(setting: PhotoAttack, photo: Photo) -> tuple[PhotoSearch, np.ndarray[Any, Any]]:
    """Return what was found for the face of a photo, and the photo as delivered."""
    found = search_photo(setting, photo, first=0, progress=lambda *_: None)
    return found, assemble(photo, [(found.places[0], found.outcomes[0].adversarial)])


def test_a_face_found_elsewhere_is_attacked_there_too(
    context_of: Make, four_people: Image.Image
) -> None:
    context = context_of(four_people)
    box, pixels = (375.0, 205.0, 480.0, 320.0), context.photos[0]
    photo = Photo("four", pixels, Located([box], [0.9]), whole=False, labels=None)
    # It stops at its first success, so that little is left of it where the face is cut otherwise.
    square = SquareAttack(eps=40, queries=1500)
    mended = 0
    for shift in (8, -16, -24, 32):
        still, away = (setting_of(context, moving(pixels, box, by=by), square) for by in (0, shift))
        (once, at_home), (twice, delivered) = searched(still, photo), searched(away, photo)
        assert judge(still, photo, at_home)[0].met
        if judge(away, photo, at_home)[0].met:
            assert twice.outcomes[0].queries == once.outcomes[0].queries
            continue
        assert twice.outcomes[0].queries > once.outcomes[0].queries
        assert twice.outcomes[0].confidence_before == once.outcomes[0].confidence_before
        assert twice.outcomes[0].linf <= 40
        # The gates compare what was done in the clean photo's places alone.
        assert twice.first.batch.results[0].queries == once.outcomes[0].queries
        mended += judge(away, photo, delivered)[0].met
    assert mended > 0


def test_a_face_that_is_lost_is_no_success(context_of: Make, four_people: Image.Image) -> None:
    context = context_of(four_people)
    box, pixels = (375.0, 205.0, 480.0, 320.0), context.photos[0]
    photo = Photo("four", pixels, Located([box], [0.9]), whole=False, labels=None)
    setting = setting_of(context, moving(pixels, box, by=float("nan")))
    found, delivered = searched(setting, photo)
    (verdict,) = judge(setting, photo, delivered)
    assert (verdict.box, verdict.met) == (None, False)
    assert judge(replace(setting, detect=None), photo, delivered)[0].met
    (face,) = deliver_photo(setting, photo, found, index=0, max_pixels=10**8).image.faces
    assert (face.found_again, face.success, face.query_at_success) == (False, False, None)


def test_a_square_that_there_is_no_memory_for_is_refused_with_the_figure(
    context_of: Make, bare: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = context_of(bare.resize((1024, 1024)))
    box = {"x": 100, "y": 100, "width": 800, "height": 800}
    monkeypatch.setattr(memory, "_job_bytes", 10 * 2**20)

    with pytest.raises(Problem, match=r"in a square of (\d+) x \1 pixels would need") as caught:
        attacked(context, faces=[box])

    assert caught.value.slug == "too-much-memory"
    assert caught.value.extensions["needed_bytes"] > caught.value.extensions["limit"] == 10 * 2**20
