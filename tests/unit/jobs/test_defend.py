"""``defend`` on the shipped models."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from scipy.stats import norm

from services.worker.attacks.criteria import Untargeted
from services.worker.attacks.pgd import PGD
from services.worker.attacks.runner import run
from services.worker.defenses.carving import SeamCarving as SeamCarvingDefense
from services.worker.defenses.registry import DEFENSES
from services.worker.evaluation.setting import Setting, Shrink
from services.worker.faces.crops import resize
from services.worker.jobs.defend import job as defend
from services.worker.jobs.kit.models import mask_model
from services.worker.models.architectures import build
from services.worker.models.registry import find_models, load_model, pack_weights
from shared.problems import Problem
from shared.specs.defend import (
    AnyStep,
    BitDepth,
    DefendSpec,
    Median,
    Noise,
    PixelRepair,
    SeamCarving,
    Smoothing,
)

Make = Callable[..., Any]


def pixels(data: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(data)))


def test_every_defense_of_the_library_can_be_named() -> None:
    choices = AnyStep.__origin__.__args__  # type: ignore[attr-defined]
    assert {choice.model_fields["name"].default for choice in choices} == set(DEFENSES)


def test_every_step_is_reported_and_carving_leads_to_the_models_input(
    context_of: Make, four_people: Image.Image
) -> None:
    context = context_of(four_people)
    steps = (Median(size=3), BitDepth(bits=5), SeamCarving(energy="gradient", protect_face=True))
    result = defend.run(context, DefendSpec(images=context.ids, defenses=steps))
    faces = result.images[0].faces
    assert len(faces) == 4
    assert sum(result.verdicts.values()) == 4
    for face in faces:
        assert [step.defense for step in face.steps] == ["median", "bit_depth", "seam_carving"]
        assert [step.size for step in face.steps] == [(224, 224), (224, 224), (112, 112)]
        assert face.steps[2].changed_pixels is None
        assert pixels(context.artifacts[face.defended]).shape == (112, 112, 3)
        changed = any(step.label != face.before.label for step in face.steps)
        assert (face.verdict == "label_changed") is changed
    assert pixels(context.artifacts["report-0.png"]).ndim == 3


def test_seams_keep_out_of_a_given_mask(context_of: Make, four_people: Image.Image) -> None:
    """Every marked pixel of the marked face is still there, in its order, after carving."""
    plain = DefendSpec(images=context_of(four_people).ids, defenses=(SeamCarving(),))
    context = context_of(four_people)
    boxes = [face.box for face in defend.run(context, plain).images[0].faces]
    marked = boxes[1]
    x, y = int(marked.x + marked.width / 2), int(marked.y + marked.height / 2)
    mask = Image.new("RGB", four_people.size)
    mask.paste((255, 255, 255), (x - 8, y - 8, x + 8, y + 8))
    context = context_of(four_people, mask)
    spec = DefendSpec(
        images=context.ids[:1], defenses=(SeamCarving(),), protect={"images": context.ids[1:]}
    )
    assert spec.image_ids == tuple(context.ids)
    carved: list[tuple[Any, Any]] = []
    original = SeamCarvingDefense.carve

    def watched(self: SeamCarvingDefense, images: torch.Tensor) -> Any:
        carved.append((self.weights, original(self, images)))
        return carved[-1][1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SeamCarvingDefense, "carve", watched)
        result = defend.run(context, spec)

    assert [weights is not None for weights, _ in carved] == [False, True, False, False]
    weights, found = carved[1]
    assert (weights > 0).any()
    assert not (found.seams[0][weights > 0] != 0).any()
    free = defend.run(context_of(four_people), plain)
    pictures = [one.images[0].faces[1].steps[0].probabilities for one in (free, result)]
    assert pictures[0] != pictures[1], "the seams went elsewhere"


def test_masks_that_protect_nothing_are_refused(context_of: Make, four_people: Image.Image) -> None:
    beside = Image.new("RGB", four_people.size)
    beside.putpixel((0, 0), (255, 255, 255))
    for mask, said in (
        (Image.new("RGB", four_people.size), "all black"),
        (Image.new("RGB", (50, 40), (255, 255, 255)), "50 x 40 pixels"),
        (beside, "marks no pixel of a face"),
    ):
        context = context_of(four_people, mask)
        spec = DefendSpec(
            images=context.ids[:1], defenses=(SeamCarving(),), protect={"images": context.ids[1:]}
        )
        with pytest.raises(Problem, match=said):
            defend.run(context, spec)
    for defenses in ((Median(),), (SeamCarving(protect_face=True),)):
        with pytest.raises(ValidationError, match="one `seam_carving`"):
            DefendSpec(images=context.ids, defenses=defenses, protect={"images": context.ids[:1]})


def test_a_picture_is_labeled_as_evaluate_labels_it(context_of: Make) -> None:
    random = np.random.default_rng(0)
    pictures = [
        Image.fromarray(random.integers(0, 256, (4, 4, 3), dtype=np.uint8)).resize((90, 90), 3)
        for _ in range(6)
    ]
    context = context_of(*pictures)
    cut = DefendSpec(images=context.ids, faces="whole", model="mask-cnn-32", cut_size=64)
    defended = defend.run(context, cut.model_copy(update={"defenses": (Median(size=3),)}))
    loaded = mask_model(context, model_id="mask-cnn-32")
    uploaded = torch.stack(
        [torch.from_numpy(resize_of(np.array(picture), 64)) for picture in pictures]
    )
    setting = Setting(loaded.classifier, 64)

    answers = setting.answers(uploaded, seed=0)
    shrunk = Shrink(loaded.classifier.input_size).transform(uploaded.float() / 255)
    with torch.inference_mode():
        expected = loaded.classifier(shrunk).softmax(1)

    before = [image.faces[0].before for image in defended.images]
    classes = loaded.card.classes
    assert [one.label for one in before] == [classes[label] for label in answers.labels.tolist()]
    given = [[one.probabilities[name] for name in classes] for one in before]
    assert torch.tensor(given) == pytest.approx(expected, abs=2e-6)


def resize_of(picture: np.ndarray[Any, Any], side: int) -> np.ndarray[Any, Any]:
    """Return a picture as ``evaluate`` takes an upload: uint8 ``(3, side, side)``."""
    return (resize(picture, side) * 255).round().to(torch.uint8).numpy()


def test_bit_depth_eight_changes_nothing(context_of: Make, masked: Image.Image) -> None:
    context = context_of(masked)
    result = defend.run(context, DefendSpec(images=context.ids, defenses=(BitDepth(bits=8),)))
    face = result.images[0].faces[0]
    assert face.steps[0].changed_pixels == 0
    assert face.steps[0].probabilities == face.before.probabilities
    assert face.verdict == "steady"


def test_smoothing_certifies_a_radius_and_leaves_the_picture(
    context_of: Make, masked: Image.Image
) -> None:
    """Against the closed form: with all of n draws alike the bound is alpha^(1/n)."""
    context = context_of(masked)
    step = Smoothing(sigma=0.02, alpha=0.01, selection=20, samples=60)
    spec = DefendSpec(images=context.ids, defenses=(Median(), step), model="mask-cnn-32")
    result = defend.run(context, spec)
    median, smoothed = result.images[0].faces[0].steps
    assert median.certificate is None
    certificate = smoothed.certificate
    assert certificate
    assert smoothed.probabilities["with_mask"] == 1
    assert not certificate.abstains
    assert certificate.probability == pytest.approx(0.01 ** (1 / 60), abs=1e-5)
    assert certificate.radius == pytest.approx(0.02 * norm.ppf(0.01 ** (1 / 60)), abs=1e-5)
    assert smoothed.changed_pixels == 0
    again = defend.run(context, spec).images[0].faces[0].steps
    assert again == (median, smoothed)


def test_smoothing_abstains_where_the_votes_are_split(
    context_of: Make, masked: Image.Image
) -> None:
    """Between little noise, with a mask, and so much that all looks bare."""
    context = context_of(masked)
    step = Smoothing(sigma=0.35, selection=20, samples=60)
    spec = DefendSpec(images=context.ids, faces="whole", defenses=(step,), model="mask-cnn-32")
    result = defend.run(context, spec)
    (face,) = result.images[0].faces
    certificate = face.steps[0].certificate
    assert certificate
    assert certificate.abstains
    assert certificate.radius == 0
    assert certificate.probability <= 0.5
    assert 0.25 < face.steps[0].probabilities["with_mask"] < 0.75
    assert face.verdict == "abstained"
    assert result.verdicts == {"abstained": 1}


def test_random_defense_follows_the_seed(context_of: Make, masked: Image.Image) -> None:
    outputs = []
    for seed in (1, 1, 2):
        context = context_of(masked)
        spec = DefendSpec(images=context.ids, defenses=(Noise(sigma=0.1),), seed=seed)
        defend.run(context, spec)
        outputs.append(context.artifacts["defended-0-0.png"])
    assert outputs[0] == outputs[1] != outputs[2]


def test_repair_finds_a_planted_pixel_that_holds_the_label(
    context_of: Make, masked: Image.Image
) -> None:
    """Pixels are only called suspicious where painting them over moves the label's probability."""
    clean = context_of(masked)
    spec = DefendSpec(images=clean.ids, defenses=(PixelRepair(),), model="mask-cnn-32")
    assert defend.run(clean, spec).images[0].faces[0].suspicious_pixels == ()


def test_the_detector_calls_an_attacked_face_suspicious_and_the_clean_one_not(
    context_of: Make, masked: Image.Image
) -> None:
    """A PGD through nothing, on the very pixels that the classifier sees."""
    loaded = load_model(*find_models()["mask-cnn-32"])
    small = np.array(masked.convert("RGB").resize((32, 32), Image.Resampling.BOX))
    before = torch.from_numpy(small).permute(2, 0, 1)[None]
    label = loaded.classifier(before.float() / 255).argmax(1)
    batch = run(PGD(eps=6), loaded.classifier, before, Untargeted(label))
    assert batch.successes == 1
    verdicts = []
    for picture in (small, batch.results[0].adversarial):
        context = context_of(Image.fromarray(picture))
        spec = DefendSpec(
            images=context.ids,
            faces="whole",
            model="mask-cnn-32",
            defenses=(BitDepth(bits=8),),
        )
        result = defend.run(context, spec)
        (face,) = result.images[0].faces
        assert result.detector
        assert result.warnings == ()
        above = face.squeezing_score > result.detector.threshold
        assert face.squeezing_suspicious is above
        verdicts.append((face.squeezing_suspicious, face.verdict))
    assert verdicts == [(False, "steady"), (True, "suspicious")]
    assert result.detector.alarms / result.detector.images <= result.detector.false_positive_rate


def test_a_model_without_a_threshold_gets_no_verdict_of_the_detector(
    context_of: Make, masked: Image.Image
) -> None:
    torch.manual_seed(0)
    made = pack_weights(
        build("cnn", classes=("with_mask", "without_mask"), input_size=16),
        id="mine",
        task="mask",
        architecture="cnn",
        classes=("with_mask", "without_mask"),
        input_size=(16, 16),
        crop_margin=0.0,
        license="test",
        training_data={},
        training={},
    )
    context = context_of(masked)
    context.registered["mine"] = made
    spec = DefendSpec(images=context.ids, faces="whole", model="mine", defenses=(BitDepth(bits=8),))
    result = defend.run(context, spec)
    assert result.detector is None
    assert any("not calibrated for mine" in warning for warning in result.warnings)
    (face,) = result.images[0].faces
    assert face.squeezing_suspicious is None
    assert 0 <= face.squeezing_score <= 2
    assert face.verdict == "steady"


def test_the_detectors_score_does_not_depend_on_what_is_carved(
    context_of: Make, masked: Image.Image
) -> None:
    """The threshold was set at the classifier's input: the score is taken there, too."""
    scores = []
    for step in (SeamCarving(), Median()):
        context = context_of(masked)
        spec = DefendSpec(images=context.ids, faces="whole", defenses=(step,), model="mask-cnn-32")
        scores.append(defend.run(context, spec).images[0].faces[0].squeezing_score)
    assert scores[0] == scores[1]


def test_target_larger_than_the_cut_face_is_a_clear_error(
    context_of: Make, masked: Image.Image
) -> None:
    context = context_of(masked)
    spec = DefendSpec(images=context.ids, defenses=(SeamCarving(),), cut_size=16)
    with pytest.raises(ValueError, match="target height of 112 is too large"):
        defend.run(context, spec)


def test_a_photo_of_one_pixel_can_be_defended(context_of: Make) -> None:
    """It has no face to find; taken as a face itself, it is a flat picture."""
    pixel = Image.new("RGB", (1, 1), (200, 100, 50))
    context = context_of(pixel)
    steps = (SeamCarving(protect_face=True), Median())
    result = defend.run(
        context,
        DefendSpec(images=context.ids, defenses=steps, faces="whole", model="mask-cnn-32"),
    )
    (face,) = result.images[0].faces
    assert [step.size for step in face.steps] == [(32, 32), (32, 32)]
    assert (pixels(context.artifacts[face.defended]) == (200, 100, 50)).all()

    empty = defend.run(context, DefendSpec(images=context.ids, model="mask-cnn-32"))
    assert empty.images[0].faces == ()
    assert empty.warnings == ("no face was found in 1 of 1 photos",)


@pytest.mark.parametrize(
    "defenses",
    [
        [{"name": "smoothing"}, {"name": "median"}],
        [{"name": "smoothing", "alpha": 0.5}],
        [],
        [{"name": "magic"}],
        [{"name": "median", "size": 4}],
        [{"name": "jpeg", "bits": 4}],
        [{"name": "seam_carving", "energy": "depth"}],
    ],
)
def test_wrong_defenses_are_refused(defenses: list[dict[str, object]]) -> None:
    with pytest.raises(ValidationError):
        DefendSpec.model_validate({"images": ["img_" + "0" * 24], "defenses": defenses})


def test_a_face_that_cannot_be_kept_is_said_with_the_size_it_would_take(
    context_of: Make, four_people: Image.Image
) -> None:
    context = context_of(four_people)
    carving = (SeamCarving(energy="gradient", protect_face=True),)
    whole = DefendSpec(images=context.ids, defenses=carving, faces="whole", cut_size=224)
    result = defend.run(context, whole)
    region = result.images[0].faces[0].steps[0].protected
    assert region is not None
    assert (region.kept, region.least_size) == (False, (224, 224))
    assert region.lost == pytest.approx(0.75)  # a quarter of the pixels is left
    [said] = [text for text in result.warnings if "seams" in text]
    assert "112 x 112" in said
    assert "224 x 224" in said


def test_a_face_that_has_room_is_kept_and_nothing_is_said(
    context_of: Make, four_people: Image.Image
) -> None:
    context = context_of(four_people)
    carving = (SeamCarving(energy="gradient", protect_face=True),)
    result = defend.run(context, DefendSpec(images=context.ids, defenses=carving, cut_size=120))
    regions = [face.steps[0].protected for face in result.images[0].faces]
    assert all(region is not None and region.kept and region.lost == 0 for region in regions)
    assert not any("seams" in text for text in result.warnings)
    plain = defend.run(context, DefendSpec(images=context.ids, defenses=(SeamCarving(),)))
    assert all(face.steps[0].protected is None for face in plain.images[0].faces)
