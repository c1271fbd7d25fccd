"""``classify`` on the shipped model and the demo's photos."""

import io
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from PIL import Image

from services.worker.faces import copies
from services.worker.faces.crops import Pixels
from services.worker.faces.detection import Detection, FaceDetector
from services.worker.jobs import classify
from services.worker.models.registry import find_models
from services.worker.runtime import memory
from services.worker.stopping import Stopped
from shared.model_card import CARD_FILE, WEIGHTS_FILE
from shared.problems import Problem
from shared.specs.base import Box
from shared.specs.classify import ClassifySpec
from shared.specs.encrypt import EncryptSpec
from shared.specs.faces import FINEST_FACE

Make = Callable[..., Any]


def test_finds_and_labels_everybody(context_of: Make, four_people: Image.Image) -> None:
    context = context_of(four_people)
    result = classify.run(context, ClassifySpec(images=context.ids))
    assert result.counts == {"with_mask": 2, "without_mask": 2}
    areas = [face.box.width * face.box.height for face in result.images[0].faces]
    assert areas == sorted(areas, reverse=True)
    for face in result.images[0].faces:
        assert sum(face.probabilities.values()) == pytest.approx(1, abs=1e-5)
        assert face.label == max(face.probabilities, key=face.probabilities.__getitem__)
    annotated = Image.open(io.BytesIO(context.artifacts["annotated-0.jpg"]))
    assert annotated.size == four_people.size
    assert result.main_artifact == "annotated-0.jpg"
    assert context.reports[-1][:2] == (1, 1)


def test_batch_gives_what_each_job_gives_alone(
    context_of: Make, bare: Image.Image, masked: Image.Image, four_people: Image.Image
) -> None:
    contexts = [context_of(bare), context_of(four_people, masked), context_of(masked)]
    items = [(context, ClassifySpec(images=context.ids)) for context in contexts]
    together = classify.run_batch(items)
    assert contexts[1].made_of == {"annotated-0.jpg": 0, "annotated-1.jpg": 1}
    for (context, spec), result in zip(items, together, strict=True):
        assert not isinstance(result, Exception)
        assert result.timing.batch_jobs == 3
        alone = classify.run(context, spec)
        for ours, theirs in zip(result.images, alone.images, strict=True):
            assert [face.box for face in ours.faces] == [face.box for face in theirs.faces]
            for a, b in zip(ours.faces, theirs.faces, strict=True):
                assert a.probabilities == pytest.approx(b.probabilities, abs=1e-4)


def test_many_photos_are_searched_together_and_a_cancelled_job_stops_between(
    context_of: Make, bare: Image.Image, masked: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched: list[int] = []
    find = FaceDetector.search_all

    def noted(self: FaceDetector, images: Sequence[Pixels], **how: Any) -> list[Detection]:
        searched.append(len(images))
        return find(self, images, **how)

    monkeypatch.setattr(FaceDetector, "search_all", noted)
    small = [image.resize((96, 96)) for image in (bare, masked)]
    context = context_of(*small * 5, bare.resize((2500, 2500)), small[0])
    spec = ClassifySpec(images=context.ids, annotate=False)
    result = classify.run(context, spec)
    assert [len(image.faces) for image in result.images] == [1] * 12
    assert searched == [8, 3, 1]  # a large photo waits for no other
    assert context.reports == [(12, 12, "12 of 12 photos")]

    class Stops(type(context)):  # type: ignore[misc]
        def image(self, index: int, *, max_side: int | None = None) -> Any:
            if index == 8:
                raise Stopped("canceled")
            return self.photos[index]

    searched.clear()
    context.__class__ = Stops
    with pytest.raises(Stopped, match="canceled"):
        classify.run(context, spec)
    assert searched == [8]


def test_bad_image_ends_its_own_job_only(
    context_of: Make, bare: Image.Image, masked: Image.Image
) -> None:
    good, bad = context_of(masked), context_of(bare)
    outside = {"x": 5000, "y": 5000, "width": 10, "height": 10}
    wrong = ClassifySpec.model_validate({"images": bad.ids, "faces": [outside]})
    results = classify.run_batch([(bad, wrong), (good, ClassifySpec(images=good.ids))])
    assert isinstance(results[0], Problem)
    assert results[0].slug == "invalid-input"
    assert not isinstance(results[1], Exception)
    assert results[1].counts["with_mask"] == 1


def test_given_boxes_and_whole_images_need_no_finder(
    context_of: Make, bare: Image.Image, masked: Image.Image
) -> None:
    context = context_of(masked)
    box = {"x": 178, "y": 66, "width": 90, "height": 108}
    spec = ClassifySpec.model_validate({"images": context.ids, "faces": [box]})
    face = classify.run(context, spec).images[0].faces[0]
    assert (face.label, face.detection_score) == ("with_mask", None)
    assert (face.box.x, face.box.width) == (178, 90)
    close = context_of(bare.crop((165, 50, 280, 185)))
    whole = ClassifySpec(images=close.ids, faces="whole", annotate=False)
    result = classify.run(close, whole)
    assert result.images[0].faces[0].label == "without_mask"
    assert result.main_artifact is None
    assert not close.artifacts


def test_the_spec_promises_what_the_finder_does() -> None:
    assert ClassifySpec(images=("img_0123456789abcdef01234567",)).min_face == copies.MIN_FACE
    assert FINEST_FACE == copies.FINEST


@pytest.mark.parametrize("turn", [1, 2, 3])
def test_a_turned_photo_is_searched_turned_and_its_face_labeled_upright(
    context_of: Make, masked: Image.Image, turn: int
) -> None:
    upright = context_of(masked)
    there = classify.run(upright, ClassifySpec(images=upright.ids)).images[0]
    assert there.searched is not None
    assert there.searched.turned == (0,)
    context = context_of(masked.rotate(-90 * turn, expand=True))
    image = classify.run(context, ClassifySpec(images=context.ids)).images[0]
    assert image.searched is not None
    assert image.searched.turned == (0, 90, 180, 270)
    assert [face.label for face in image.faces] == ["with_mask"]
    same = image.faces[0].probabilities["with_mask"]
    assert same == pytest.approx(there.faces[0].probabilities["with_mask"], abs=0.02)


def test_upright_and_turned_people_are_found_together_when_asked(
    context_of: Make, bare: Image.Image
) -> None:
    both = Image.new("RGB", (2 * bare.width, bare.height))
    both.paste(bare, (0, 0))
    both.paste(bare.rotate(90), (bare.width, 0))
    context = context_of(both)
    spec = ClassifySpec(images=context.ids, upright=False)
    left = [face.box.x < bare.width for face in classify.run(context, spec).images[0].faces]
    assert sorted(left) == [False, True]
    spec = ClassifySpec(images=context.ids)
    assert [face.box.x < bare.width for face in classify.run(context, spec).images[0].faces] == [
        True
    ]


def test_jobs_of_one_batch_may_ask_for_different_faces(context_of: Make, bare: Image.Image) -> None:
    large = Image.new("RGB", (3000, 2000), "gray")
    large.paste(bare.resize((118, 118)), (1700, 900))  # the face has 31 px
    contexts = [context_of(large), context_of(large)]
    results = classify.run_batch(
        [
            (context, ClassifySpec(images=context.ids, min_face=min_face))
            for context, min_face in zip(contexts, (12, 100), strict=True)
        ]
    )
    images = [result.images[0] for result in results]  # type: ignore[union-attr]
    assert [len(image.faces) for image in images] == [1, 0]
    assert [image.searched and image.searched.smallest for image in images] == [12, 46.9]


def test_no_face_is_a_result_with_a_warning(context_of: Make) -> None:
    context = context_of(Image.new("RGB", (200, 150), "teal"))
    result = classify.run(context, ClassifySpec(images=context.ids))
    assert result.images[0].faces == ()
    assert "no face" in result.warnings[0]
    assert "annotated-0.jpg" in context.artifacts


def test_unknown_model_is_a_problem(context_of: Make, bare: Image.Image) -> None:
    context = context_of(bare)
    with pytest.raises(Problem) as refused:
        classify.run(context, ClassifySpec(images=context.ids, model="no-such-model"))
    assert refused.value.slug == "unknown-model"


def test_missing_weights_are_asked_for_by_place_and_hash(
    context_of: Make, bare: Image.Image
) -> None:
    context = context_of(bare)
    card, _ = find_models()["mask-cnn-32"]
    folder = context.settings.registry_dir / "ours"
    folder.mkdir(parents=True)
    ours = card.model_copy(update={"id": "ours"})
    (folder / CARD_FILE).write_text(ours.model_dump_json())
    with pytest.raises(Problem) as caught:
        classify.run(context, ClassifySpec(images=context.ids, model="ours"))
    assert (caught.value.slug, caught.value.status) == ("model-unavailable", 409)
    assert f"SHA-256 {card.sha256} at {folder / WEIGHTS_FILE}" in caught.value.detail


def test_large_photo_is_annotated_on_a_reduced_copy(context_of: Make, masked: Image.Image) -> None:
    context = context_of(masked.resize((3000, 3000)))
    result = classify.run(context, ClassifySpec(images=context.ids))
    assert result.counts["with_mask"] == 1
    box = result.images[0].faces[0].box
    assert box.x == pytest.approx(178 * 3000 / 512, rel=0.1)
    assert max(Image.open(io.BytesIO(context.artifacts["annotated-0.jpg"])).size) == 2048


def test_jobs_that_mean_different_models_do_not_share_one(
    context_of: Make, bare: Image.Image
) -> None:
    shipped, own, lost = context_of(bare), context_of(bare), context_of(bare)
    card, folder = find_models()["mask-cnn-32"]
    weights = (folder / WEIGHTS_FILE).read_bytes()
    own.registered["mine"] = card.model_copy(update={"id": "mine"}), weights
    own.defaults["mask"] = "mine"
    lost.defaults["mask"] = "gone"

    outcomes = classify.run_batch(
        [(item, ClassifySpec(images=item.ids)) for item in (shipped, lost, own)]
    )

    assert [model.id for model in outcomes[0].models] == ["mask-face-112"]
    assert isinstance(outcomes[1], Problem)
    assert outcomes[1].slug == "unknown-model"
    assert [model.id for model in outcomes[2].models] == ["mine"]


def test_models_of_one_name_and_the_same_weights_keep_their_own_labels(
    context_of: Make, bare: Image.Image
) -> None:
    """One tenant says what another one's model calls the other way round."""
    one, other = context_of(bare), context_of(bare)
    card, folder = find_models()["mask-cnn-32"]
    weights = (folder / WEIGHTS_FILE).read_bytes()
    mine = card.model_copy(update={"id": "mine"})
    theirs = mine.model_copy(update={"classes": mine.classes[::-1]})
    one.registered["mine"], other.registered["mine"] = (mine, weights), (theirs, weights)
    other.models = one.models

    outcomes = classify.run_batch(
        [(item, ClassifySpec(images=item.ids, model="mine")) for item in (one, other)]
    )

    labels = [outcome.images[0].faces[0].label for outcome in outcomes]  # type: ignore[union-attr]
    assert labels == ["without_mask", "with_mask"]


def test_more_faces_than_memory_is_given_for_are_refused_with_the_figure(
    context_of: Make, bare: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_job_bytes", 10 * 2**20)
    context = context_of(bare)
    box = Box(x=0, y=0, width=50, height=50)
    spec = ClassifySpec(images=context.ids, faces=(box,) * 200, annotate=False)

    with pytest.raises(Problem, match=r"200 faces of 112 x 112 pixels would need 29 MiB") as caught:
        classify.run(context, spec)
    assert caught.value.slug == "too-much-memory"

    few = classify.run(context, spec.model_copy(update={"faces": (box,) * 20}))
    assert len(few.images[0].faces) == 20


def test_no_job_names_boxes_without_end() -> None:
    box = {"x": 0, "y": 0, "width": 5, "height": 5}
    for kind in (ClassifySpec, EncryptSpec):
        with pytest.raises(ValueError, match="names 2001 boxes; a job takes at most 2000"):
            kind.model_validate({"images": ["img_" + "0" * 24], "faces": [box] * 2001})
