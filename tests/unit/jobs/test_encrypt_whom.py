"""``encrypt`` that hides faces, and that changes only some people's."""

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from services.worker.jobs.encrypt import job
from services.worker.jobs.encrypt.whom import whom_of
from services.worker.jobs.kit.recognizers import LoadedRecognizer
from services.worker.models.recognizers import recognizer_of
from services.worker.models.registry import find_models
from shared.problems import Problem
from shared.specs.encrypt import EncryptSpec

RESIDUAL, MS1M = "face-residual-112", "mobilefacenet_ms1m"


def image_id(number: int) -> str:
    return f"img_{number:024x}"


def spec(count: int = 1, **fields: Any) -> EncryptSpec:
    used = {"recognizers": [MS1M], "judges": [], "parameters": {"steps": 2}} | fields
    return EncryptSpec.model_validate({"images": [image_id(n) for n in range(count)], **used})


def delivered(context: Any, result: Any) -> np.ndarray[Any, Any]:
    return np.array(
        Image.open(io.BytesIO(context.artifacts[result.images[0].photo])).convert("RGB")
    )


@pytest.mark.parametrize("mode", ["blur", "pixelate", "box"])
def test_a_hidden_face_is_matched_by_no_recognizer(context_of: Any, bare: Any, mode: str) -> None:
    context = context_of(bare)

    result = job.run(context, spec(mode=mode, judges=[RESIDUAL]))

    assert result.verdict == "protected"
    (face,) = result.images[0].faces
    assert face.lowered_by == ()
    assert face.match_probability is None
    for one in face.similarities:
        (used,) = [each for each in result.recognizers if each.id == one.recognizer]
        assert max(one.after, one.after_jpeg, one.after_half) < used.thresholds["0.01"]
    clean, photo = np.array(bare.convert("RGB")).astype(int), delivered(context, result)
    moved = np.abs(photo - clean).max(2) > 0
    box = face.box
    x, y, w, h = (round(v) for v in (box.x, box.y, box.width, box.height))
    assert moved[y + h // 4 : y + 3 * h // 4, x + w // 4 : x + 3 * w // 4].mean() > 0.9
    assert any(mode in note or "covered" in note for note in result.images[0].notes)


def test_only_the_people_named_are_changed(context_of: Any, bare: Any, four_people: Any) -> None:
    """Four faces of one person, who is named by a crop of one of them."""
    everyone = job.run(context_of(four_people), spec(mode="box"))
    named = everyone.images[0].faces[0].box
    x, y = round(named.x + named.width / 2), round(named.y + named.height / 2)
    reach = round(max(named.width, named.height))
    crop = four_people.convert("RGB").crop((x - reach, y - reach, x + reach, y + reach))

    only = job.run(context_of(four_people, crop), spec(mode="box", only=[image_id(1)]))
    but = job.run(context_of(four_people, crop), spec(mode="box", **{"except": [image_id(1)]}))

    total = len(everyone.images[0].faces)
    assert any(abs(face.box.x - named.x) < 3 for face in only.images[0].faces)
    assert any(abs(face.box.x - named.x) < 3 for face in but.images[0].left)
    for result in (only, but):
        (image,) = result.images
        assert len(image.faces) + len(image.left) == total
        assert all(-1 <= face.similarity <= 1 for face in image.left)
        assert any("compared by mobilefacenet_ms1m" in note for note in image.notes)
    assert not any(face.undecided for face in only.images[0].faces)
    assert len(only.images[0].faces) > len(but.images[0].faces)
    assert but.parameters["except"] == [image_id(1)]


def test_a_photo_of_which_every_face_stays_is_delivered_as_it_was(
    context_of: Any, bare: Any
) -> None:
    context = context_of(bare, bare)

    result = job.run(context, spec(mode="box", **{"except": [image_id(1)]}))

    assert result.verdict == "no-face"
    assert len(result.images[0].left) == 1
    assert any("no face was to be changed" in note for note in result.images[0].notes)
    assert np.array_equal(delivered(context, result), np.array(bare.convert("RGB")))


def test_between_the_thresholds_a_face_is_changed_and_marked(context_of: Any, bare: Any) -> None:
    context = context_of(bare, bare)
    card, folder = find_models()[MS1M]
    metrics = {**card.metrics, "thresholds": {"0.01": 0.2, "0.001": 1.1}}
    unsure = LoadedRecognizer(
        recognizer_of(card, folder), card.model_copy(update={"metrics": metrics})
    )
    setting = job.prepare(context, spec(**{"except": [image_id(1)]}))
    assert setting.whom is not None
    photo = np.array(bare.convert("RGB"))
    chosen = job._choose(context, setting.spec, 0, photo)

    whom = whom_of("except", setting.whom.frames, (unsure,))
    changed, left = whom.split(photo, chosen)

    assert left == ()
    assert [face.undecided for face in changed] == [True]
    somebody = replace(whom, same=1.2, other=1.1)
    assert somebody.split(photo, chosen) == (chosen, ()), "`except` somebody else"
    assert replace(somebody, keep="only").split(photo, chosen)[0] == []
    blank = LoadedRecognizer(unsure.recognizer, card.model_copy(update={"metrics": {}}))
    with pytest.raises(Problem, match="has thresholds"):
        whom_of("only", setting.whom.frames, (blank,))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"only": [image_id(1)], "except": [image_id(2)]}, "exclude each other"),
        ({"mode": "blur", "target": {"towards": "synthetic"}}, "needs a cloak"),
        ({"mode": "erase"}, "Input should be"),
    ],
)
def test_what_contradicts_itself_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        spec(**fields)


def test_except_is_the_fields_name_in_json_both_ways() -> None:
    wanted = spec(2, **{"except": [image_id(7)]})
    assert wanted.model_dump(mode="json")["except"] == [image_id(7)]
    assert EncryptSpec.model_validate(wanted.model_dump(mode="json")) == wanted
    assert image_id(7) in wanted.image_ids
    assert "except" in EncryptSpec.model_json_schema()["properties"]
