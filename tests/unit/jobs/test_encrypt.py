"""The job ``encrypt``, on real photos and the recognizers that ship."""

import io
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageCms

from services.worker.faces.cloaking.calibration import (
    FEATURES,
    MOST_PROBABLE,
    Calibration,
    Evidence,
)
from services.worker.faces.cloaking.config import PRESETS
from services.worker.faces.cloaking.optimize import Cloak
from services.worker.faces.cloaking.photo_file import PhotoFile
from services.worker.faces.cloaking.verify import Similarities
from services.worker.jobs.encrypt import job
from services.worker.jobs.encrypt import verdict as verdicts
from services.worker.jobs.encrypt.plan import configured
from services.worker.jobs.encrypt.verdict import (
    ORDER,
    judged_face,
    least,
    strong_lineages,
    verdict_of,
    with_missable,
)
from services.worker.jobs.encrypt.verify import identify
from services.worker.jobs.kit.recognizers import can_judge, held_out
from services.worker.models.registry import find_models
from shared.images import ImageLimits, sanitize
from shared.problems import Problem
from shared.results.encrypt import EncryptedFace, EncryptResult
from shared.specs.encrypt import EncryptSpec

STUDENT, RESIDUAL = "face-student-112", "face-residual-112"
DLIB, MS1M = "dlib-resnet-v1", "mobilefacenet_ms1m"


def image_id(number: int) -> str:
    return f"img_{number:024x}"


def spec(count: int = 1, **fields: Any) -> EncryptSpec:
    parameters = {"steps": 12, **fields.pop("parameters", {})}
    return EncryptSpec.model_validate(
        {"images": [image_id(n) for n in range(count)], "parameters": parameters, **fields}
    )


def file_of(image: Image.Image, kind: str = "JPEG", **settings: Any) -> tuple[bytes, int]:
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    stored = sanitize(buffer.getvalue(), ImageLimits())
    return stored.data, stored.orientation


def delivered(context: Any, result: EncryptResult, number: int = 0) -> np.ndarray[Any, Any]:
    return np.array(Image.open(io.BytesIO(context.artifacts[result.images[number].photo])))


def test_a_face_is_less_like_itself_and_nothing_else_changed(context_of: Any, bare: Any) -> None:
    context = context_of(bare)

    result = job.run(context, spec(recognizers=[RESIDUAL], judges=[]))

    (image,) = result.images
    (face,) = image.faces
    (similar,) = face.similarities
    assert similar.role == "surrogate"
    assert similar.before > 0.8
    assert similar.after < 0.5
    assert face.found_again
    clean, photo = np.array(bare.convert("RGB")).astype(int), delivered(context, result)
    moved = np.abs(photo - clean)
    assert 0 < moved.max() == face.max_change <= result.eps == PRESETS["medium"].eps
    x, y, w, h = (
        int(v) for v in (face.region.x, face.region.y, face.region.width, face.region.height)
    )
    moved[y : y + h, x : x + w] = 0
    assert not moved.any()
    assert face.max_change_delivered == face.max_change, "a PNG is lossless"
    assert 0.8 < face.ssim < 1
    assert image.verdict == result.verdict == "unverified"
    assert image.photo == result.main_artifact == "unverified-0.png"
    assert {image.report, image.difference} <= set(context.artifacts)
    assert any("nothing is verified" in warning for warning in result.warnings)


def test_the_default_judge_is_held_out_and_its_verdict_is_told(context_of: Any, bare: Any) -> None:
    context = context_of(bare)

    result = job.run(context, spec())

    judges = [one for one in result.recognizers if one.role == "judge"]
    surrogates = [one.id for one in result.recognizers if one.role == "surrogate"]
    assert sorted(surrogates) == [DLIB, MS1M], "both strong ones, and no student beside its teacher"
    assert [judge.id for judge in judges] == [RESIDUAL]
    assert judges[0].held_out
    (face,) = result.images[0].faces
    judged = next(one for one in face.similarities if one.role == "judge")
    words = verdict_of(
        Similarities(
            judged.before, judged.after, judged.after_jpeg, judged.after_half, judged.after_blur
        ),
        judges[0].thresholds,
    )
    assert ORDER.index(face.verdict) <= ORDER.index(words)
    assert face.match_probability is not None
    assert face.match_interval is not None
    low, high = face.match_interval
    assert 0 <= low <= face.match_probability <= high <= 1
    if face.verdict == "protected":
        assert face.match_probability <= MOST_PROBABLE
        assert face.lowered_by == ()
    else:
        assert face.lowered_by
    assert face.color_difference is not None
    assert face.color_difference_high is not None
    assert 0 < face.color_difference < face.color_difference_high
    assert context.figures[0]["similarity"] <= 1


def test_verification_reads_the_delivered_bytes(
    context_of: Any, bare: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that holds the clean photo, whatever the search believes, is not protected."""
    context = context_of(bare)
    strong = spec(preset="high", parameters={"steps": 40, "perceptual": 0, "likeness": 0.8})
    honest = job.run(context, strong)
    assert honest.verdict in ("protected", "weak")
    clean = np.array(bare.convert("RGB"))

    def corrupted(photo: Any, changed: Any) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(clean).save(buffer, "PNG")
        return buffer.getvalue()

    monkeypatch.setattr(PhotoFile, "write", corrupted)
    context.checkpoint = None  # a job of its own
    result = job.run(context, strong)

    assert result.verdict == "unprotected"
    (face,) = result.images[0].faces
    assert face.psnr is None
    assert all(one.after > 0.99 for one in face.similarities)


def test_what_is_required_and_not_reached_fails_with_nothing_delivered(
    context_of: Any, bare: Any
) -> None:
    with pytest.raises(Problem) as refused:
        job.run(context_of(bare), spec(require="protected", parameters={"eps": 1, "steps": 1}))

    assert refused.value.slug == "not-protected"
    assert refused.value.status == 422
    assert refused.value.extensions["verdict"] == "unprotected"


def test_a_photo_without_a_face_loses_its_metadata_and_says_so(context_of: Any) -> None:
    context = context_of()
    gray = Image.new("RGB", (300, 200), (90, 120, 90))
    context.files = [file_of(gray, quality=90)]

    result = job.run(context, spec())

    assert result.verdict == "no-face"
    assert result.images[0].photo == "no-face-0.jpg"
    assert result.images[0].faces == ()
    assert any("only the metadata" in note for note in result.images[0].notes)
    assert any("no face was found in 1 of 1" in warning for warning in result.warnings)
    with pytest.raises(Problem, match="no-face"):
        job.run(context, spec(require="weak"))


def test_several_photos_take_the_least_verdict(context_of: Any, bare: Any, masked: Any) -> None:
    context = context_of(bare, masked)

    result = job.run(context, spec(2, judges=[], recognizers=[RESIDUAL], parameters={"steps": 2}))

    assert [image.photo for image in result.images] == ["unverified-0.png", "unverified-1.png"]
    assert result.verdicts == {"unverified": 2}
    done = [done for done, _, _ in context.reports]
    assert done == sorted(done)


def test_many_faces_of_one_photo_and_chosen_ones(context_of: Any, four_people: Any) -> None:
    context = context_of(four_people)
    settings: dict[str, Any] = {"judges": [], "recognizers": [RESIDUAL], "parameters": {"steps": 2}}
    everyone = job.run(context, spec(**settings))
    boxes = [face.box.model_dump() for face in everyone.images[0].faces]
    assert len(boxes) >= 3

    context.checkpoint = None  # a job of its own
    chosen = job.run(context, spec(faces=[boxes[1]], **settings))

    (face,) = chosen.images[0].faces
    assert face.box == everyone.images[0].faces[1].box
    moved = (delivered(context, chosen) != np.array(four_people.convert("RGB"))).any(2)
    assert moved.any()
    assert not outside(moved, face).any()


def outside(moved: np.ndarray[Any, Any], face: EncryptedFace) -> np.ndarray[Any, Any]:
    """Return where a photo changed outside of a face's region."""
    region = face.region
    x, y, w, h = (int(v) for v in (region.x, region.y, region.width, region.height))
    moved = moved.copy()
    moved[y : y + h, x : x + w] = False
    return moved


def _turned(photo: Image.Image) -> Image.Image:
    return photo.rotate(25, Image.Resampling.BICUBIC, expand=True, fillcolor=(90, 90, 90))


def _small(photo: Image.Image) -> Image.Image:
    canvas = Image.new("RGB", (300, 260), (90, 90, 90))
    canvas.paste(photo.resize((photo.width * 200 // photo.height, 200)), (30, 40))
    return canvas


def _cut(photo: Image.Image) -> Image.Image:
    """The face of the astronaut reaches the upper and the left edge, and beyond."""
    return photo.crop((185, 75, 512, 512))


@pytest.mark.parametrize("change", [_turned, _small, _cut])
def test_turned_small_and_cut_faces_are_cloaked_where_they_are(
    context_of: Any, bare: Any, change: Callable[[Image.Image], Image.Image]
) -> None:
    photo = change(bare.convert("RGB"))
    context = context_of(photo)

    result = job.run(context, spec(recognizers=[RESIDUAL], judges=[]))

    (face,) = result.images[0].faces
    (similar,) = face.similarities
    assert similar.after < similar.before - 0.3
    assert face.found_again
    moved = (delivered(context, result) != np.array(photo)).any(2)
    assert moved.any()
    assert not outside(moved, face).any()


def test_a_box_where_no_face_was_found_is_cloaked_all_the_same(context_of: Any, bare: Any) -> None:
    context = context_of(bare)
    box = {"x": 330, "y": 330, "width": 120, "height": 120}

    result = job.run(
        context,
        spec(faces=[box], judges=[], recognizers=[RESIDUAL], parameters={"steps": 2}),
    )

    (face,) = result.images[0].faces
    assert face.detection_score is None
    assert face.max_change > 0
    with pytest.raises(Problem, match="outside"):
        job.run(context, spec(faces=[{"x": 900, "y": 5, "width": 9, "height": 9}]))


def test_a_synthetic_target_is_moved_towards_and_logged(
    context_of: Any, bare: Any, caplog: pytest.LogCaptureFixture
) -> None:
    context = context_of(bare)

    with caplog.at_level(logging.WARNING):
        result = job.run(
            context,
            spec(
                target={"towards": "synthetic"},
                recognizers=[RESIDUAL],
                judges=[],
                parameters={"steps": 25},
            ),
        )

    (similar,) = result.images[0].faces[0].similarities
    assert similar.target_before is not None
    assert similar.target_after is not None
    assert similar.target_after > similar.target_before + 0.2
    assert "job_0 of tenant default moves faces towards a target: synthetic" in caplog.text


@pytest.mark.parametrize(
    ("setting", "target"),
    [
        ("off", {"towards": "synthetic"}),
        ("synthetic", {"towards": "photos", "images": [image_id(1)], "consent": True}),
    ],
)
def test_targets_that_the_operator_does_not_allow_are_refused(
    context_of: Any, bare: Any, masked: Any, setting: str, target: dict[str, Any]
) -> None:
    context = context_of(bare, masked)
    context.settings = context.settings.model_copy(update={"targeted": setting})

    with pytest.raises(Problem) as refused:
        job.run(context, spec(target=target))

    assert refused.value.slug == "target-not-allowed"
    assert refused.value.status == 403


def test_photos_of_a_consenting_person_are_a_target(
    context_of: Any, bare: Any, four_people: Any
) -> None:
    """The other photo shows the same woman: who moves towards her does not move away."""
    target = {"towards": "photos", "images": [image_id(1)], "consent": True}
    found = []
    for fields in ({}, {"target": target}):
        context = context_of(bare, four_people)
        context.settings = context.settings.model_copy(update={"targeted": "consented"})
        settings = {"recognizers": [RESIDUAL], "judges": [], "parameters": {"steps": 10}}
        result = job.run(context, spec(**settings, **fields))
        found += result.images[0].faces[0].similarities

    away, towards = found
    assert away.target_after is None
    assert towards.target_after is not None
    assert towards.after > away.after + 0.2
    assert towards.target_after > away.after + 0.2


def test_other_photos_of_the_person_are_verified_against(context_of: Any, bare: Any) -> None:
    mirrored = bare.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    context = context_of(bare, mirrored)

    result = job.run(context, spec(other_photos=[image_id(1)], recognizers=[RESIDUAL], judges=[]))

    (similar,) = result.images[0].faces[0].similarities
    assert similar.others_before is not None
    assert similar.others_after is not None
    assert similar.others_before > 0.8
    assert similar.others_after < similar.others_before - 0.2


def test_people_by_name_are_known_before_and_not_after(context_of: Any, bare: Any) -> None:
    mirrored = bare.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    context = context_of(bare, mirrored)
    people = [{"name": "Eileen", "images": [image_id(1)]}]

    result = job.run(context, spec(people=people, parameters={"steps": 60, "likeness": 0.93}))

    (face,) = result.images[0].faces
    for one in face.similarities:
        assert one.named_before is not None
        assert one.named_after is not None
        assert one.named_before.name == "Eileen"
        assert one.named_before.probability > 0.9
        if one.role == "surrogate":
            assert one.named_after.name is None


def test_a_face_unlike_everybody_is_nobody() -> None:
    assert identify({"a": 0.9, "b": 0.1}, 0.5).name == "a"
    assert identify({"a": 0.3, "b": 0.1}, 0.5).name is None
    assert identify({"a": 0.3, "b": 0.1}, None).name == "a"
    even = identify({"a": 0.4, "b": 0.4}, 0.4)
    assert even.probability == pytest.approx(1 / 3, abs=1e-3)


def test_same_seed_same_bytes(context_of: Any, bare: Any) -> None:
    settings: dict[str, Any] = {"judges": [], "recognizers": [RESIDUAL], "parameters": {"steps": 4}}
    first, again, other = context_of(bare), context_of(bare), context_of(bare)

    job.run(first, spec(**settings))
    job.run(again, spec(**settings))
    job.run(other, spec(seed=9, **settings))

    assert first.artifacts == again.artifacts
    assert first.artifacts["unverified-0.png"] != other.artifacts["unverified-0.png"]


def test_a_turned_gray_jpeg_comes_back_as_one(context_of: Any, bare: Any) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "a camera"
    turned = bare.convert("L").transpose(Image.Transpose.ROTATE_90)
    context = context_of()
    context.files = [file_of(turned, quality=88, exif=exif.tobytes())]

    result = job.run(
        context, spec(judges=[], recognizers=[RESIDUAL], parameters={"steps": 20, "likeness": 0.9})
    )

    data = context.artifacts["unverified-0.jpg"]
    picture = Image.open(io.BytesIO(data))
    assert picture.mode == "L"
    assert picture.getexif()[0x0112] == 6
    assert b"a camera" not in data
    (face,) = result.images[0].faces
    assert face.similarities[0].after < 0.8
    assert not result.images[0].lossless
    assert face.max_change_delivered >= face.max_change - 2


def test_a_cancel_ends_the_search(context_of: Any, bare: Any) -> None:
    context = context_of(bare)
    report = type(context).progress

    class StopError(Exception):
        pass

    def progress(done: int, total: int, message: str = "", **data: Any) -> None:
        context.stop = StopError()
        report(context, done, total, message, **data)

    context.progress = progress
    with pytest.raises(StopError):
        job.run(context, spec())
    assert not context.artifacts


def test_unknown_recognizers_and_an_eps_of_nothing_are_refused(context_of: Any, bare: Any) -> None:
    with pytest.raises(Problem, match=r"no recognizer 'nobody'; there are: .*face-student-112"):
        job.run(context_of(bare), spec(recognizers=["nobody"]))
    with pytest.raises(Problem, match="8-bit grid"):
        job.run(context_of(bare), spec(parameters={"eps": 0.5}))


def test_who_taught_or_trained_a_surrogate_does_not_judge_it() -> None:
    student, residual = (find_models()[name][0] for name in (STUDENT, RESIDUAL))
    family = residual.model_copy(update={"lineage": (STUDENT,)})
    same_people = residual.model_copy(
        update={"training_data": {"people_groups": student.training_data["people_groups"][:1]}}
    )
    silent = residual.model_copy(update={"training_data": {}})

    assert held_out(residual, [student])
    assert not any(held_out(card, [student]) for card in (family, same_people, silent, student))
    assert not can_judge(residual.model_copy(update={"metrics": {"rank_1": 0.59}}))


@pytest.mark.parametrize(
    ("similar", "verdict"),
    [
        (Similarities(1, 0.1, 0.2, 0.2, 0.3), "protected"),
        (Similarities(1, 0.1, 0.2, 0.45, 0.3), "weak"),
        (Similarities(1, 0.45, 0.2, 0.2, 0.3), "weak"),
        (Similarities(1, 0.6, 0.2, 0.2, 0.3), "unprotected"),
    ],
)
def test_verdicts(similar: Similarities, verdict: str) -> None:
    assert verdict_of(similar, {"0.01": 0.4, "0.001": 0.5}) == verdict
    assert verdict_of(similar, {}) == "unverified"


EVIDENCE = Evidence(
    lineages=2, surrogate_margin=0.9, judge_margin=0.5, ssim=0.95, side=150.0, sharpness=2.5
)


@pytest.mark.parametrize(
    ("words", "changes", "steps", "verdict", "reason"),
    [
        (["unprotected"], {}, 60, "unprotected", "still matches it"),
        (["protected", "weak"], {}, 60, "weak", "still matches it"),
        (["protected"], {"lineages": 0}, 60, None, "no strong recognizer was searched with"),
        (["protected"], {"side": 25.0}, 60, None, "25 pixels"),
        (["protected"], {}, 3, None, "3 steps"),
    ],
)
def test_what_lowers_a_verdict_is_said(
    words: list[Any], changes: dict[str, Any], steps: int, verdict: str | None, reason: str
) -> None:
    said, match, reasons = judged_face(
        words, replace(EVIDENCE, **changes), found_again=True, steps=steps
    )

    assert match is not None
    assert said != "protected"
    assert verdict is None or said == verdict
    assert any(reason in one for one in reasons)


def test_a_large_face_that_hardly_anybody_matches_is_protected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a match's probability decides, whatever the coefficients that ship."""
    spread = np.eye(1 + len(FEATURES)) * 1e-4
    for logit, expected in ((-4.0, "protected"), (-1.0, "weak"), (1.0, "unprotected")):
        coefficients = np.array([logit, *np.zeros(len(FEATURES))])
        fixed = Calibration(np.zeros(len(FEATURES)), np.ones(len(FEATURES)), coefficients, spread)
        monkeypatch.setattr(verdicts, "shipped", partial(_given, fixed))
        said, match, reasons = judged_face(["protected"], EVIDENCE, found_again=True, steps=60)
        assert match is not None
        assert said == expected
        assert (reasons == ()) == (match.probability <= MOST_PROBABLE)
        lost, _, why = judged_face(["protected"], EVIDENCE, found_again=False, steps=60)
        assert lost != "protected"
        assert any("no longer finds it" in one for one in why)


def _given(calibration: Calibration) -> Calibration:
    return calibration


def test_without_a_judge_nothing_is_verified() -> None:
    assert judged_face([], None, found_again=True, steps=60)[:2] == ("unverified", None)


def test_teacher_and_student_are_one_lineage() -> None:
    cards = {name: card for name, (card, _) in find_models().items()}
    assert strong_lineages([cards[DLIB], cards[MS1M]]) == 2
    assert strong_lineages([cards[MS1M], cards[STUDENT]]) == 1
    assert strong_lineages([cards[RESIDUAL]]) == 0


def test_the_least_verdict_counts() -> None:
    assert least(["protected", "weak"]) == "weak"
    assert least(["protected", "unverified", "weak"]) == "unverified"
    assert least(["no-face", "protected"]) == "no-face"
    assert least([]) == "no-face"
    assert ORDER[0] == "unprotected"


def test_many_faces_are_searched_a_few_at_a_time(
    context_of: Any, bare: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def counted(subjects: Any, *_: Any, **__: Any) -> list[Cloak]:
        sizes.append(len(subjects))
        return [Cloak(0 * subject.frame, 1, 1.0) for subject in subjects]

    monkeypatch.setattr(job, "cloak_faces", counted)
    boxes = [{"x": 5 * n, "y": 5, "width": 60, "height": 60} for n in range(30)]

    result = job.run(context_of(bare), spec(faces=boxes))

    assert len(result.images[0].faces) == 30
    assert sizes == [16, 14]
    assert result.verdict == "unprotected"


def test_presets_are_changed_by_what_is_given() -> None:
    config = configured(spec(preset="high", parameters={"eps": 5}))

    assert config == replace(PRESETS["high"], eps=5, steps=12)


def test_a_photo_that_was_searched_reduced_is_not_called_protected() -> None:
    assert with_missable("protected", None) == "protected"
    assert with_missable("protected", 20.0) == "protected"
    assert with_missable("protected", 50.0) == "weak"
    for verdict in ("weak", "unprotected", "unverified", "no-face"):
        assert with_missable(verdict, 50.0) == verdict


def test_the_smallest_face_searched_is_said(context_of: Any) -> None:
    context = context_of(Image.new("RGB", (2600, 60)), Image.new("RGB", (320, 60)))

    result = job.run(context, spec(2))

    large, small = result.images
    assert large.smallest_face_searched == pytest.approx(20), "whatever the photo's size"
    assert small.smallest_face_searched == pytest.approx(5)
    assert not any("faces under" in note for image in result.images for note in image.notes)
    assert not any("may show faces" in text for text in result.warnings)


def test_faces_that_were_too_small_to_be_searched_weigh(
    context_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "smallest_face", lambda height, width: 32.5 if width > 500 else 5.0)
    context = context_of(Image.new("RGB", (600, 60)), Image.new("RGB", (320, 60)))

    result = job.run(context, spec(2))

    large, small = result.images
    assert any("faces under about 32 px" in note for note in large.notes)
    assert not any("faces under" in note for note in small.notes)
    assert any(text.startswith("1 of 2 photos may show faces") for text in result.warnings)


def test_where_faces_are_named_nothing_is_said_of_others(context_of: Any, bare: Any) -> None:
    context = context_of(bare)
    box = {"x": 100, "y": 60, "width": 120, "height": 140}
    result = job.run(context, spec(faces=[box], recognizers=[RESIDUAL], judges=[]))
    assert result.images[0].smallest_face_searched is None


def test_what_changed_when_a_photo_was_taken_in_is_in_its_notes(context_of: Any) -> None:
    context = context_of(Image.new("RGB", (64, 64)))
    context.said = ("the HEIC was converted to a JPEG of quality 95",)
    assert job.run(context, spec()).images[0].notes[0] == context.said[0]


@pytest.mark.parametrize("kind", ["HEIF", "AVIF"])
def test_a_phones_photo_is_delivered_as_a_jpeg_of_its_size_and_profile(
    context_of: Any, bare: Any, kind: str
) -> None:
    pillow_heif.register_heif_opener()
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    context = context_of(bare)
    context.files = [file_of(bare.convert("RGB"), kind, icc_profile=profile)]

    result = job.run(context, spec(recognizers=[RESIDUAL], judges=[]))

    (image,) = result.images
    assert (image.media_type, len(image.faces)) == ("image/jpeg", 1)
    photo = Image.open(io.BytesIO(context.artifacts[image.photo]))
    assert (photo.format, photo.size, photo.info["icc_profile"]) == ("JPEG", bare.size, profile)
