"""``attack`` on the shipped models."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from services.demo.photos import group, masked_portrait, portrait
from services.worker.attacks.catalog import ATTACKS
from services.worker.datasets.packs import PackedDataset
from services.worker.faces.crops import square_around
from services.worker.jobs.attack import job as attack
from services.worker.jobs.evaluate.plan import plan_rows
from services.worker.jobs.kit.attacks import build_attack
from services.worker.jobs.kit.models import mask_model
from shared.problems import Problem
from shared.results.attack import AttackResult
from shared.specs import SPECS
from shared.specs.attack import (
    CW,
    FGSM,
    PGD,
    AnyAttack,
    AttackSpec,
    DifferentialEvolution,
    SparseRS,
)
from shared.specs.data import DataSample
from shared.specs.defend import Median
from shared.specs.evaluate import EvaluateSpec
from tests.fixtures.packs import pack_folder

Make = Callable[..., Any]
CROPS, BOXES = (f"ds_{number:024x}" for number in range(2))


def run_job(context: Any, spec: AttackSpec) -> AttackResult:
    """Run a job of its own: not what went before in the same context."""
    context.checkpoint = None
    return attack.run(context, spec)


def picture(data: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(data))).astype(int)


def test_every_attack_of_the_library_can_be_named_with_its_defaults() -> None:
    choices = AnyAttack.__origin__.__args__  # type: ignore[attr-defined]
    assert {choice.model_fields["name"].default for choice in choices} == set(ATTACKS)
    for choice in choices:
        parameters = choice().model_dump(exclude={"name"})
        built = ATTACKS[choice().name](**parameters)
        for name, value in parameters.items():
            assert getattr(built, name) == value


def test_bfloat16_is_for_networks_that_are_asked_alone_and_become_faster(
    context_of: Make, four_people: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Depthwise networks do not; a defense could lose what it computes."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    context = context_of(four_people)
    cnn, mobilenet = (
        mask_model(context, model_id=name) for name in ("mask-cnn-32", "mask3-mobilenetv3s-112")
    )
    few, smallest = DifferentialEvolution(), CW()

    assert build_attack(few, asks=cnn).search_bf16
    assert build_attack(SparseRS(), asks=cnn).search_bf16
    assert build_attack(PGD(), asks=cnn).search_bf16
    assert not build_attack(smallest, asks=cnn).search_bf16
    assert not build_attack(few, asks=mobilenet).search_bf16
    assert not build_attack(few).search_bf16

    spec = EvaluateSpec(attacks=(few,), data=DataSample(dataset=CROPS))
    assert [plan.attack.search_bf16 for plan in plan_rows(spec, [cnn])] == [True]
    behind = spec.model_copy(update={"defenses": ((Median(),),)})
    assert not any(plan.attack.search_bf16 for plan in plan_rows(behind, [cnn]))


def test_delivered_pictures_are_what_the_result_says(
    context_of: Make, four_people: Image.Image
) -> None:
    context = context_of(four_people)
    spec = AttackSpec(images=context.ids, attack=PGD(eps=4.5, steps=5), seed=3)
    result = run_job(context, spec)
    faces = result.images[0].faces
    assert len(faces) == 4
    assert result.success.counted == 4
    assert result.success.successes == sum(face.success for face in faces)
    assert result.success.low <= (result.success.rate or 0) <= result.success.high
    for face in faces:
        assert face.linf <= 4  # 4.5 is floored on the 8-bit grid
        assert face.success is (face.label_after != face.label)
        assert picture(context.artifacts[face.adversarial]).shape == (112, 112, 3)
    assert picture(context.artifacts["report.png"]).ndim == 3
    assert picture(context.artifacts["success-curve.png"]).ndim == 3


def test_same_seed_same_bytes(context_of: Make, masked: Image.Image) -> None:
    few = DifferentialEvolution(pixels=2, population=20, generations=3)
    delivered = []
    for seed in (1, 1, 2):
        context = context_of(masked)
        spec = AttackSpec(images=context.ids, attack=few, model="mask-cnn-32", seed=seed)
        result = run_job(context, spec)
        assert result.images[0].faces[0].changed_pixels <= 2
        delivered.append(context.artifacts["adversarial-0-0.png"])
    assert delivered[0] == delivered[1] != delivered[2]


@pytest.mark.parametrize(
    "choice", [PGD(eps=8, steps=3), DifferentialEvolution(pixels=5, population=20, generations=2)]
)
@pytest.mark.parametrize("region", ["mask", "face"])
def test_no_pixel_changes_outside_of_the_region(
    context_of: Make, masked: Image.Image, choice: Any, region: str
) -> None:
    pictures = {}
    for where in ("image", region):
        context = context_of(masked)
        spec = AttackSpec.model_validate(
            {"images": context.ids, "attack": choice, "model": "mask-cnn-32", "region": where}
        )
        face = run_job(context, spec).images[0].faces[0]
        pictures[where] = picture(context.artifacts["adversarial-0-0.png"])
        if where == "image" and choice.name == "pgd":
            assert face.changed_pixels > 900
    before = picture(clean_crop(context_of, masked))
    rows, columns = np.nonzero((pictures[region] != before).any(2))
    assert len(rows)
    # The crop has 15 % of the face's side around it: the face takes its middle 77 %.
    edge = 32 * 0.15 / 1.3
    assert rows.max() <= 32 - edge + 1
    assert rows.min() >= (edge + 0.45 * (32 - 2 * edge) - 4 if region == "mask" else edge - 5)
    assert columns.min() >= edge - 1
    assert columns.max() <= 32 - edge + 1


def clean_crop(context_of: Make, photo: Image.Image) -> bytes:
    """Return the crop as it is delivered when the attack has nothing to do."""
    context = context_of(photo)
    spec = AttackSpec(images=context.ids, attack=FGSM(eps=1), model="mask-cnn-32")
    spec = spec.model_copy(update={"target": "with_mask"})
    run_job(context, spec)
    data: bytes = context.artifacts["adversarial-0-0.png"]
    return data


def test_a_box_of_ones_own_is_given_in_pixels_of_the_photo(
    context_of: Make, masked: Image.Image
) -> None:
    context = context_of(masked)
    whole = {"images": context.ids, "faces": "whole", "model": "mask-cnn-32", "label": "with_mask"}
    width, height = masked.size
    box = {"x": 0, "y": 0, "width": width / 2, "height": height / 2}
    fgsm = {"name": "fgsm", "eps": 8}
    spec = AttackSpec.model_validate({**whole, "attack": fgsm, "region": box})
    run_job(context, spec)
    changed = picture(context.artifacts["adversarial-0-0.png"])
    context = context_of(masked)
    run_job(context, AttackSpec.model_validate({**whole, "attack": fgsm}))
    everywhere = picture(context.artifacts["adversarial-0-0.png"])
    assert (changed[:16, :16] == everywhere[:16, :16]).all()
    assert (changed[16:] != everywhere[16:]).any()

    outside = {"x": 5 * width, "y": 0, "width": 10, "height": 10}
    with pytest.raises(Problem, match="covers no pixel"):
        run_job(context, AttackSpec.model_validate({**whole, "region": outside}))


def drawn_mask(size: tuple[int, int], box: tuple[int, int, int, int]) -> Image.Image:
    """Return a black picture with a white box."""
    mask = Image.new("RGB", size)
    mask.paste("white", box)
    return mask


@pytest.mark.parametrize("at", ["model", "photo"])
def test_a_mask_image_says_which_pixels_may_change(
    context_of: Make, masked: Image.Image, at: str
) -> None:
    mask = drawn_mask(masked.size, (200, 80, 240, 120))
    context = context_of(masked, mask)
    photo, drawn = context.ids
    given = {"images": [photo], "model": "mask-cnn-32", "at": at, "attack": {"name": "fgsm"}}
    faces = [{"x": 175, "y": 65, "width": 95, "height": 120}]
    spec = AttackSpec.model_validate({**given, "faces": faces, "region": {"images": [drawn]}})
    assert spec.image_ids == (photo, drawn)
    result = run_job(context, spec)
    assert result.parameters["region"] == {"images": [drawn]}
    if at == "photo":
        after = picture(context.artifacts["adversarial-0.png"])
        changed = (after != context.photos[0]).any(2)
        assert 0.9 * 40 * 40 < changed.sum() <= 40 * 40
        assert not changed[context.photos[1][:, :, 0] == 0].any()
        return
    after = picture(context.artifacts["adversarial-0-0.png"])
    run_job(context, spec.model_copy(update={"region": "image"}))
    everywhere = picture(context.artifacts["adversarial-0-0.png"])
    x, y, side = square_around((175, 65, 270, 185), 0.15)
    rows, columns = np.nonzero((after == everywhere).all(2))
    inside = np.zeros((32, 32), dtype=bool)
    left, top = (200 - x) / side * 32, (80 - y) / side * 32
    inside[round(top) : round(top + 40 / side * 32), round(left) : round(left + 40 / side * 32)] = 1
    same = np.zeros((32, 32), dtype=bool)
    same[rows, columns] = True
    # Inside the attack does what it does without a region; outside nothing.
    assert same[inside].all()
    assert same[~inside].mean() < 0.2


def test_mask_images_that_do_not_fit_are_refused(context_of: Make, masked: Image.Image) -> None:
    small = masked.resize((100, 100))
    black = Image.new("RGB", masked.size)
    corner = drawn_mask(masked.size, (0, 0, 5, 5))
    context = context_of(masked, small, black, corner)
    photo, *masks = context.ids
    given = {"images": [photo], "model": "mask-cnn-32", "attack": {"name": "fgsm"}}
    for mask, said in zip(
        masks, ("100 x 100 pixels.*512 x 512", "all black", "its mask image"), strict=True
    ):
        context.photos[1] = context.photos[context.ids.index(mask)]
        for at in ("model", "photo"):
            spec = AttackSpec.model_validate({**given, "region": {"images": [mask]}, "at": at})
            with pytest.raises(Problem, match=said) as refused:
                run_job(context, spec)
            assert refused.value.slug == "invalid-input"
    with pytest.raises(ValueError, match="2 mask images for 1 images"):
        AttackSpec.model_validate({**given, "region": {"images": masks[:2]}})
    with pytest.raises(ValueError, match="cannot be used with `data`"):
        of_data(region={"images": masks[:1]})


def test_one_mask_image_may_serve_all_photos_and_a_photo_be_a_mask() -> None:
    first, second, mask = (f"img_{number:024x}" for number in range(3))
    given = {"images": [first, second]}
    one = AttackSpec.model_validate({**given, "region": {"images": [mask]}})
    assert [one.mask_image(index) for index in range(2)] == [mask, mask]
    each = AttackSpec.model_validate({**given, "region": {"images": [second, mask]}})
    assert [each.mask_image(index) for index in range(2)] == [second, mask]
    assert each.image_ids == (first, second, mask)
    assert AttackSpec.model_validate(given).mask_image(0) is None


def test_a_region_may_withstand_any_eps(context_of: Make, masked: Image.Image) -> None:
    context = context_of(masked)
    corner = {"x": 150, "y": 58, "width": 10, "height": 10}
    given = {"images": context.ids, "model": "mask-cnn-32", "region": corner}
    spec = AttackSpec.model_validate({**given, "attack": {"name": "fgsm", "eps": 128}})
    result = run_job(context, spec)
    assert result.success.successes == 0
    assert result.warnings == ()


def test_doubtful_figures_are_warned_of(context_of: Make, masked: Image.Image) -> None:
    context = context_of(masked)
    short = PGD(eps=8, steps=2, step_size=1)
    result = run_job(context, AttackSpec(images=context.ids, attack=short))
    assert any("reach 2/255 together: less than eps" in warning for warning in result.warnings)
    sound = run_job(context, AttackSpec(images=context.ids, attack=PGD(eps=4, steps=10)))
    assert sound.warnings == ()


def test_a_target_that_is_the_label_is_refused() -> None:
    fields = {"images": ["img_0123456789abcdef01234567"], "label": "a", "target": "a"}
    with pytest.raises(ValueError, match="name another label"):
        AttackSpec.model_validate(fields)


def test_label_and_target_are_checked_and_used(context_of: Make, bare: Image.Image) -> None:
    context = context_of(bare)
    spec = AttackSpec(images=context.ids, attack=FGSM(eps=1), label="with_mask")
    assert not run_job(context, spec).images[0].faces[0].counted  # it was wrong before
    with pytest.raises(Problem) as refused:
        run_job(context, AttackSpec(images=context.ids, target="sunglasses"))
    assert refused.value.slug == "invalid-input"
    same = AttackSpec(images=context.ids, attack=FGSM(eps=1), target="without_mask")
    face = run_job(context, same).images[0].faces[0]
    assert (face.counted, face.changed_pixels) == (False, 0)


def test_no_face_is_a_result_with_a_warning(context_of: Make) -> None:
    context = context_of(Image.new("RGB", (200, 150), "teal"))
    result = run_job(context, AttackSpec(images=context.ids))
    assert result.success.rate is None
    assert (result.success.low, result.success.high) == (0, 1)
    assert "no face" in result.warnings[0]


def test_cancel_stops_it(context_of: Make, masked: Image.Image) -> None:
    class Stop(Exception):
        pass

    context = context_of(masked)
    context.stop = Stop()
    with pytest.raises(Stop):
        run_job(context, AttackSpec(images=context.ids))


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """One data set of face crops, with a class that no model knows, and one of boxes."""
    root = tmp_path_factory.mktemp("data")
    faces = {"with_mask": masked_portrait(), "without_mask": portrait(), "sunglasses": portrait()}
    for label, photo in faces.items():
        folder = root / "crops" / "test" / label
        folder.mkdir(parents=True)
        for number in range(5):
            corner = np.array((140, 50)) + 4 * number
            crop = photo.crop((*corner.tolist(), *(corner + 150 + number).tolist()))
            crop.save(folder / f"{number}.png")
    place = root / "boxes" / "test"
    (place / "images").mkdir(parents=True)
    (place / "annotations").mkdir()
    group().save(place / "images" / "four.png")
    objects = [
        f"<object><name>{label}</name><bndbox><xmin>{x}</xmin><ymin>{y}</ymin>"
        f"<xmax>{x + side}</xmax><ymax>{y + side}</ymax></bndbox></object>"
        for label, x, y, side in (
            ("without_mask", 90, 120, 145),
            ("with_mask", 375, 205, 105),
            ("with_mask", 20, 20, 8),
        )
    ]
    annotation = f"<annotation>{''.join(objects)}</annotation>"
    (place / "annotations" / "four.xml").write_text(annotation)
    return {
        CROPS: pack_folder(root / "crops", dataset_id=CROPS, layout="classes"),
        BOXES: pack_folder(root / "boxes", dataset_id=BOXES, layout="boxes"),
    }


def of_data(**fields: Any) -> AttackSpec:
    given = {"data": {"dataset": CROPS}, "model": "mask-cnn-32", "attack": {"name": "fgsm"}}
    return AttackSpec.model_validate({**given, **fields})


def test_a_data_set_is_attacked_with_its_own_labels_and_totals(
    context_of: Make, packs: dict[str, bytes]
) -> None:
    context = context_of()
    context.packs = packs
    result = run_job(context, of_data(attack={"name": "pgd", "eps": 8}))
    assert "mask-cnn-32 has no class sunglasses: images skipped" in result.warnings
    loaded = mask_model(context, model_id="mask-cnn-32")
    images = PackedDataset(packs[CROPS]).labeled("test", size=32, classes=loaded.card.classes)
    with torch.no_grad():
        says = loaded.classifier(images.images.float() / 255).argmax(1)
    faces = [image.faces[0] for image in result.images]
    assert len(faces) == 10
    assert [face.label for face in faces] == [images.classes[n] for n in images.labels.tolist()]
    assert [face.label_before for face in faces] == [images.classes[n] for n in says.tolist()]
    right = int((says == images.labels).sum())
    assert result.clean_accuracy is not None
    assert (result.clean_accuracy.successes, result.clean_accuracy.total) == (right, 10)
    assert result.success.counted == right
    fooled = [face for face in faces if face.counted and face.success]
    assert result.success.successes == len(fooled) > 0
    assert result.norms is not None
    assert result.norms.linf.largest == max(face.linf for face in fooled) <= 8
    assert result.norms.l2.median == pytest.approx(np.median([face.l2 for face in fooled]))
    drops = [face.confidence_before - face.confidence_after for face in faces if face.counted]
    assert result.mean_confidence_drop == pytest.approx(np.mean(drops), abs=1e-5)
    for number, clean in enumerate(images.images):
        after = picture(context.artifacts[f"adversarial-{number}-0.png"])
        assert np.abs(after - clean.permute(1, 2, 0).numpy()).max() == faces[number].linf


def test_a_sample_is_seeded_and_of_its_size(context_of: Make, packs: dict[str, bytes]) -> None:
    chosen = []
    for seed in (0, 0, 1, 2):
        context = context_of()
        context.packs = packs
        data = {"dataset": CROPS, "sample": 6, "seed": seed}
        found = run_job(context, of_data(data=data))
        sample = PackedDataset(packs[CROPS]).items("test", sample=6, seed=seed)
        known = [item.name for item in sample if item.label != "sunglasses"]
        chosen.append([image.image for image in found.images])
        assert chosen[-1] == known
    assert chosen[0] == chosen[1]
    assert len({tuple(names) for names in chosen}) > 1


def test_boxes_of_a_data_set_are_the_faces(context_of: Make, packs: dict[str, bytes]) -> None:
    context = context_of()
    context.packs = packs
    result = run_job(context, of_data(data={"dataset": BOXES}, region="mask"))
    (image,) = result.images
    assert (image.width, image.height) == (1000, 560)
    # The third is too small to be judged by.
    assert [(face.label, face.box.x) for face in image.faces] == [
        ("without_mask", 90),
        ("with_mask", 375),
    ]
    assert result.clean_accuracy is not None
    assert result.clean_accuracy.successes == 2
    assert set(context.made_of.values()) == {None}, "a data set's photos are no images of the job"


def test_what_does_not_go_with_a_data_set_is_refused(
    context_of: Make, packs: dict[str, bytes]
) -> None:
    images = {"images": ["img_0123456789abcdef01234567"]}
    for fields, said in (
        (images, "either `images` or `data`"),
        ({"data": None}, "either `images` or `data`"),
        ({"label": "with_mask"}, "own boxes and labels"),
        ({"faces": "whole"}, "own boxes and labels"),
    ):
        with pytest.raises(ValueError, match=said):
            of_data(**fields)
    context = context_of()
    context.packs = packs
    with pytest.raises(Problem, match="no images of"):
        run_job(context, of_data(data={"dataset": CROPS, "split": "train"}))
    spec = of_data()
    assert (spec.queue, spec.dataset_ids, spec.image_ids) == ("batch", (CROPS,), ())


def test_parameters_that_do_not_go_are_bad_input(context_of: Make, masked: Image.Image) -> None:
    for fields in ({"eps": 0.5}, {"eps": 256}):
        with pytest.raises(ValueError, match="8-bit grid"):
            PGD.model_validate(fields)
    assert PGD(eps=700, norm="l2").eps == 700
    context = context_of(masked)
    given = {"images": context.ids, "model": "mask-cnn-32"}
    few = {"x": 175, "y": 65, "width": 10, "height": 10}
    for fields, said in (
        ({"attack": PGD(restarts=2, random_start=False)}, "start at random"),
        ({"attack": SparseRS(pixels=30), "region": few}, "moves 30 pixels"),
    ):
        with pytest.raises(Problem, match=said) as refused:
            run_job(context, AttackSpec.model_validate({**given, **fields}))
        assert refused.value.slug == "invalid-input"


def test_exhaustive_search_asks_about_every_pixel_there_is(
    context_of: Make, masked: Image.Image
) -> None:
    context = context_of(masked)
    spec = {"images": context.ids, "attack": {"name": "exhaustive", "lattice": [255]}}
    box = {"x": 160, "y": 60, "width": 60, "height": 40}
    (face,) = run_job(context, AttackSpec.model_validate({**spec, "region": box})).images[0].faces
    # The default model looks at 112 x 112 pixels: more than a 32 x 32 picture has.
    assert face.success or face.queries > 32 * 32


def test_accuracy_needs_labels(context_of: Make, masked: Image.Image) -> None:
    context = context_of(masked)
    spec = AttackSpec(images=context.ids, attack=FGSM(eps=1))
    assert run_job(context, spec).clean_accuracy is None
    wrong = spec.model_copy(update={"label": "without_mask"})
    accuracy = run_job(context, wrong).clean_accuracy
    assert accuracy is not None
    assert (accuracy.successes, accuracy.total) == (0, 1)


def test_spec_is_found_by_its_kind() -> None:
    assert SPECS["attack"] is AttackSpec
