"""The job ``generate-mask``, on real faces and the recognizers that ship."""

import base64
import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from services.worker.datasets.packs import PackedDataset, write_pack
from services.worker.jobs.generate_mask import inputs as generate_mask_people
from services.worker.jobs.generate_mask import job
from services.worker.jobs.generate_mask import live as generate_mask_live
from services.worker.jobs.generate_mask import verify as generate_mask_judging
from services.worker.jobs.kit import checkpoint
from shared.problems import Problem
from shared.results.generate_mask import GenerateMaskResult
from shared.specs.generate_mask import GenerateMaskSpec
from tests.fixtures.packs import pack_folder

DATASET = "ds_0123456789abcdef01234567"
RESIDUAL = "face-residual-112"


def spec(**fields: Any) -> GenerateMaskSpec:
    settings = {"epochs": 4, "max_lr": 0.02, **fields.pop("hyperparameters", {})}
    base = {"recognizers": [RESIDUAL], "judges": [], "designs": 2}
    return GenerateMaskSpec.model_validate({**base, "hyperparameters": settings, **fields})


def mine(count: int) -> dict[str, Any]:
    return {"images": [f"img_{number:024x}" for number in range(count)]}


@pytest.fixture
def me(context_of: Any, bare: Image.Image) -> Any:
    """A context with six photos of one person."""
    lit = [ImageEnhance.Brightness(bare).enhance(0.85 + 0.06 * step) for step in range(3)]
    turned = [photo.rotate(4) for photo in lit]
    return context_of(*lit, *turned)


def test_a_personal_design_is_delivered_printable_and_judged(me: Any) -> None:
    result = job.run(me, spec(**mine(6), hyperparameters={"epochs": 25}))

    assert result.photos == {"trained on": 4, "held out": 2}
    assert len(result.epochs) == 25
    assert result.epochs[-1].similarity < result.epochs[0].similarity
    found = {row.wearing: row.similarity for row in result.figures}
    assert set(found) == {
        "nothing",
        "plain blue",
        "plain white",
        "random pattern",
        "untrained",
        "ours",
    }
    assert found["nothing"] > 0.8
    assert found["ours"] < found["plain blue"]
    assert found["ours"] < found["untrained"]
    assert all(row.rank_1 is None for row in result.figures)
    for design in result.designs:
        picture = Image.open(io.BytesIO(me.artifacts[design.picture]))
        assert picture.width == round(design.width_mm / 25.4 * 300)
        assert me.artifacts[design.page].startswith(b"%PDF")
    assert {result.sheet, result.worn, result.curves} <= set(me.artifacts)
    assert result.tested == "digital, not physically tested"
    assert any("no recognizer was held out" in warning for warning in result.warnings)


@pytest.mark.parametrize("conditional", [False, True])
def test_designs_are_shown_while_they_are_learned(
    me: Any, monkeypatch: pytest.MonkeyPatch, conditional: bool
) -> None:
    monkeypatch.setattr(generate_mask_live, "SHOW_SECONDS", 0.0)
    monkeypatch.setattr(generate_mask_live, "SHOW_SHARE", 0.0)
    wanted = spec(**mine(6), conditional=conditional, seed=4)
    job.run(me, wanted)
    watched = me.artifacts["design-0.png"]

    shown = [data for kind, data in me.events if kind == "designs"]
    assert [data["epoch"] for data in shown] == [1, 2, 3, 4]
    pictures = []
    for data in shown:
        jpeg = base64.b64decode(data["picture"].removeprefix("data:image/jpeg;base64,"))
        assert len(jpeg) < 20_000
        pictures.append(np.array(Image.open(io.BytesIO(jpeg)), dtype=int))
        assert pictures[-1].shape == (192, 192, 3)
    assert np.abs(pictures[0] - pictures[-1]).max() > 8, "they change as it learns"
    monkeypatch.setattr(generate_mask_live, "SHOW_SECONDS", 1e9)
    job.run(me, wanted)
    assert me.artifacts["design-0.png"] == watched, "to be watched changes nothing"
    assert len(me.events) == 4


def test_same_seed_same_designs_and_another_seed_others(me: Any) -> None:
    delivered = []
    for seed in (0, 0, 3):
        me.artifacts.clear()
        job.run(me, spec(**mine(6), seed=seed))
        delivered.append(dict(me.artifacts))
    first, again, other = delivered

    assert first == again
    assert first["design-0.png"] != other["design-0.png"]


def test_a_kept_generator_is_drawn_from_later(me: Any) -> None:
    made = job.run(me, spec(**mine(6), model_id="mine", seed=4))
    card, _ = me.registered["mine"]
    trained = me.artifacts["design-1.png"]

    drawn = job.run(me, spec(from_model="mine", designs=5, seed=4))

    assert made.model == "mine"
    assert card.task == "mask-generator"
    assert card.lineage == (RESIDUAL,)
    assert len(drawn.designs) == 5
    assert drawn.epochs == ()
    assert drawn.figures == ()
    assert drawn.curves is None
    assert me.artifacts["design-1.png"] == trained


def test_what_is_no_generator_is_refused(me: Any) -> None:
    with pytest.raises(Problem) as refused:
        job.run(me, spec(from_model="nobody"))

    assert refused.value.slug == "unknown-model"


def test_no_face_in_any_photo_is_a_clear_refusal(context_of: Any) -> None:
    with pytest.raises(Problem, match="No face was found in any"):
        job.run(context_of(Image.new("RGB", (200, 200), "green")), spec(**mine(1)))


def test_two_photos_are_trained_on_and_leave_none_to_judge_by(
    context_of: Any, bare: Image.Image
) -> None:
    result = job.run(context_of(bare, bare.rotate(3)), spec(**mine(2)))

    assert result.photos == {"trained on": 2}
    assert result.figures == ()
    assert any("none could be held out" in warning for warning in result.warnings)


def test_a_conditional_generator_draws_for_its_wearer_and_later_for_another(
    me: Any, context_of: Any, bare: Image.Image
) -> None:
    fields = {"conditional": True, "model_id": "ours", "generator": "dense", "seed": 4}
    result = job.run(me, spec(**mine(6), **fields))
    trained = me.artifacts["design-0.png"]
    blurred = bare.filter(ImageFilter.GaussianBlur(6))
    others = context_of(ImageOps.mirror(blurred), blurred)
    others.registered = me.registered

    again = job.run(me, spec(from_model="ours", **mine(6), designs=2, seed=4))
    job.run(others, spec(from_model="ours", **mine(2), designs=2, seed=4))

    assert result.model == "ours"
    assert {row.wearing for row in result.figures} >= {"ours", "untrained"}
    assert again.figures == ()
    assert others.artifacts["design-0.png"] != trained
    with pytest.raises(Problem, match="send photos"):
        job.run(me, spec(from_model="ours"))


def test_a_universal_generator_takes_no_photos(me: Any) -> None:
    job.run(me, spec(**mine(6), model_id="mine", hyperparameters={"epochs": 1}))

    with pytest.raises(Problem, match="draws for anyone"):
        job.run(me, spec(from_model="mine", **mine(6)))


def test_a_design_replaces_the_mask_that_is_worn(
    context_of: Any, bare: Image.Image, masked: Image.Image
) -> None:
    lit = [ImageEnhance.Brightness(masked).enhance(0.85 + 0.1 * step) for step in range(4)]
    context = context_of(bare, *lit)

    result = job.run(context, spec(**mine(5), projector="cnn", hyperparameters={"epochs": 15}))

    assert result.photos == {"trained on": 4, "held out": 1}, "the bare photo tells who it is"
    assert result.epochs[-1].similarity < result.epochs[0].similarity
    found = {row.wearing: row.similarity for row in result.figures}
    assert found["ours"] < found["nothing"]
    assert [model.id for model in result.models] == [RESIDUAL, "mask-alpha-wide"]
    assert any("synthetic" in warning for warning in result.warnings)
    shown = np.array(Image.open(io.BytesIO(context.artifacts["worn.png"])), dtype=int)
    own, ours = shown[:160], shown[160:320]
    changed = np.abs(ours - own).max(2) > 40
    assert changed[95:150].mean() > 0.15
    assert changed[:70].mean() < 0.02


def test_photos_without_a_mask_are_not_for_the_cnn(context_of: Any, bare: Image.Image) -> None:
    with pytest.raises(Problem, match="sees a mask on no photo"):
        job.run(context_of(bare), spec(**mine(1), projector="cnn"))


@pytest.fixture(scope="module")
def people(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A data set of 24 people, three photos each."""
    root = tmp_path_factory.mktemp("people")
    folders = [p for p in sorted((shared_data / "faces" / "train").iterdir()) if p.is_dir()][:24]
    for folder in folders:
        (root / folder.name).mkdir()
        for path in sorted(folder.iterdir())[:3]:
            (root / folder.name / path.name).write_bytes(path.read_bytes())
    return pack_folder(root, dataset_id=DATASET, layout="identities")


@pytest.fixture
def many(context_of: Any, people: bytes) -> Any:
    made = context_of()
    made.packs[DATASET] = people
    return made


def _by_wearing(result: GenerateMaskResult, recognizer: str) -> dict[str, Any]:
    return {row.wearing: row for row in result.figures if row.recognizer == recognizer}


@pytest.mark.shared_data
def test_a_universal_design_is_judged_on_people_held_out(many: Any) -> None:
    result = job.run(
        many, spec(dataset=DATASET, judges=["face-student-112"], hyperparameters={"epochs": 12})
    )

    assert result.people == {"trained on": 18, "held out": 6}
    assert result.photos["trained on"] == 54
    ours, blue = (_by_wearing(result, RESIDUAL)[name] for name in ("ours", "plain blue"))
    assert ours.similarity < blue.similarity
    judged = _by_wearing(result, "face-student-112")["ours"]
    assert judged.role == "judge"
    assert judged.held_out
    assert np.array(Image.open(io.BytesIO(many.artifacts["worn.png"]))).shape == (480, 960, 3)


@pytest.mark.shared_data
def test_a_judge_that_knows_few_behind_a_plain_mask_cannot_judge(
    many: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generate_mask_people, "HELD_OUT", 0.6)
    wanted = spec(dataset=DATASET, judges=["face-student-112"], hyperparameters={"epochs": 1})
    able = job.run(many, wanted)
    rate = _by_wearing(able, "face-student-112")["plain blue"].rank_1.rate
    said = f"face-student-112 knows {rate:.0%} of the wearers of a plain mask"
    assert (rate < 0.6) == any(said in warning for warning in able.warnings)

    monkeypatch.setattr(generate_mask_judging, "LEAST_RANK_1", rate + 0.01)
    unable = job.run(many, wanted)

    assert any(said in warning and "cannot evaluate" in warning for warning in unable.warnings)
    assert not any("face-residual-112 knows" in warning for warning in unable.warnings)


@pytest.mark.shared_data
@pytest.mark.parametrize("experiment", ["0", "3"])
def test_a_run_that_was_stopped_goes_on(
    many: Any, monkeypatch: pytest.MonkeyPatch, experiment: str
) -> None:
    monkeypatch.setattr(checkpoint, "SHARE", 1e9)
    wanted = spec(dataset=DATASET, people=8, experiment=experiment)
    whole = job.run(many, wanted)
    design = many.artifacts["design-0.png"]

    class StopError(Exception):
        pass

    def stopped(done: int, total: int, message: str = "", **data: Any) -> None:
        if data.get("epoch") == 3:
            raise StopError

    many.checkpoint = None
    many.progress = stopped
    with pytest.raises(StopError):
        job.run(many, wanted)
    del many.progress
    assert many.checkpoint is not None
    again = job.run(many, wanted)

    assert again.epochs == whole.epochs
    assert many.artifacts["design-0.png"] == design
    assert again.epochs[0].discriminator_loss is not None


@pytest.mark.shared_data
def test_a_data_set_of_one_person_is_refused(many: Any, people: bytes) -> None:
    pack = PackedDataset(people)
    name = pack.card.classes[0]
    items = tuple(item for item in pack.card.items if item.label == name)
    card = pack.card.model_copy(update={"items": items, "classes": (name,)})
    stored = []
    for item in items:
        buffer = io.BytesIO()
        Image.fromarray(pack.read(item)).save(buffer, "PNG")
        stored.append((item.name, buffer.getvalue()))
    items = tuple(
        item.model_copy(update={"sha256": hashlib.sha256(data).hexdigest()})
        for item, (_, data) in zip(items, stored, strict=True)
    )
    many.packs[DATASET] = write_pack(card.model_copy(update={"items": items}), stored)

    with pytest.raises(Problem, match="one person only"):
        job.run(many, spec(dataset=DATASET))
