"""The job ``generate-mask`` by the method ``hog``."""

import base64
import io
from typing import Any

import dlib
import numpy as np
import pytest
from PIL import Image

from services.worker.jobs.generate_mask import job
from services.worker.jobs.generate_mask.hog import job as generate_mask_hog
from services.worker.jobs.kit import checkpoint
from services.worker.masks.hog import annealing
from services.worker.masks.hog.sprites import Sprites
from services.worker.stopping import Stopped
from shared.problems import Problem
from shared.results.generate_mask import GenerateMaskResult
from shared.specs.generate_mask import GenerateMaskSpec

DLIB = dlib.get_frontal_face_detector()
SMALL = {"steps": 12, "side": 160, "sprites": 2, "processes": 1}


def spec(*, photos: int = 0, seed: int = 0, **hog: Any) -> GenerateMaskSpec:
    images = [f"img_{number:024x}" for number in range(photos)]
    fields = {"method": "hog", "images": images, "seed": seed}
    return GenerateMaskSpec.model_validate({**fields, "hog": {**SMALL, **hog}})


def hidden(photos: int, **hog: Any) -> GenerateMaskSpec:
    grid = {"sprites": 6, "pattern": "grid", "cell": 20}
    return spec(photos=photos, objective="hide", sizes=[100, 140], **{**grid, **hog})


def picture(context: Any, name: str) -> Any:
    return np.array(Image.open(io.BytesIO(context.artifacts[name])))


@pytest.fixture
def context(context_of: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(annealing, "REPORT_SECONDS", 0.0)
    return context_of()


def test_decoys_are_counted_by_dlib_and_compared_with_a_tiling(context: Any) -> None:
    result = job.run(context, spec(steps=30, seed=1, scales=[1.0, 1.5]))

    pattern = picture(context, result.sheet)
    assert result.hog is not None
    assert pattern.shape == (160, 160, 3)
    assert result.hog.found == len(DLIB(pattern, 0)) == len(result.hog.faces)
    assert [row.scale for row in result.hog.scales] == [1.0, 1.5]
    assert result.hog.scales[0].found == result.hog.found
    assert sum(row.found for row in result.hog.scales) == result.hog.history[-1].found >= 1
    assert result.hog.history[-1].best_fitness > result.hog.history[0].best_fitness
    assert len(result.hog.history) == 31
    tiling = result.hog.tiling
    assert tiling is not None
    assert tiling.found == len(DLIB(picture(context, tiling.picture), 0)) > 1
    assert (result.hog.published, tiling.published) == (4, 42)
    assert result.hog.evaluations == 1 + 16 + 30 * 4
    assert result.hog.detections_per_second > 0
    assert result.hog.wearings == ()
    assert {result.main_artifact, result.curves} == {result.hog.detections, "curves.png"}
    assert set(context.artifacts) == {
        "curves.png",
        "design-0.pdf",
        "design-0.png",
        "detections.jpg",
        "pattern.png",
        "tiling.png",
    }
    assert set(result.parameters) == {"kind", "method", "hog", "seed"}
    assert GenerateMaskResult.model_validate_json(result.model_dump_json()) == result


def test_what_is_printed_is_the_pattern_undistorted(context: Any) -> None:
    result = job.run(context, spec())

    (design,) = result.designs
    assert design.width_mm == design.height_mm == 180
    printed = Image.open(io.BytesIO(context.artifacts[design.picture]))
    assert printed.size == (round(180 / 25.4 * 300),) * 2
    small = np.array(printed.resize((160, 160), Image.Resampling.BOX), dtype=int)
    assert np.abs(small - picture(context, result.sheet)).mean() < 6
    assert context.artifacts[design.page].startswith(b"%PDF")
    assert 0 < design.non_printability < 1


def test_progress_tells_the_figures_and_shows_the_best(
    context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generate_mask_hog, "SHOW_SECONDS", 0.0)
    monkeypatch.setattr(generate_mask_hog, "SHOW_SHARE", 0.0)

    result = job.run(context, spec())

    told = [figures for figures in context.figures if figures]
    assert [figures["step"] for figures in told] == list(range(1, 13))
    assert result.hog is not None
    assert told[-1]["best_fitness"] == result.hog.history[-1].best_fitness
    done = [done for done, _, _ in context.reports]
    assert done == sorted(done)
    kind, shown = context.events[-1]
    assert kind == "pattern"
    data = base64.b64decode(shown["picture"].removeprefix("data:image/jpeg;base64,"))
    assert np.array(Image.open(io.BytesIO(data))).shape == (160, 160, 3)
    assert len(data) < 20_000
    assert len({shown["step"] for _, shown in context.events}) == len(context.events) <= 12


def test_the_seed_decides_and_the_processes_do_not(context: Any) -> None:
    made = []
    for fields in ({"seed": 1}, {"seed": 1, "processes": 2}, {"seed": 2}):
        result = job.run(context, spec(**{"steps": 4, **fields}))
        made.append(context.artifacts["pattern.png"])
    assert made[0] == made[1] != made[2]
    assert result.hog is not None
    assert result.hog.processes == 1


def test_no_more_processes_than_cores(context: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    context.settings = context.settings.model_copy(update={"threads": 1})

    result = job.run(context, spec(steps=1, processes=3))

    assert result.hog is not None
    assert result.hog.processes == 1
    assert any("1 cores" in warning for warning in result.warnings)


def test_a_wearer_is_hidden_and_plain_masks_are_the_controls(
    context_of: Any, bare: Image.Image
) -> None:
    context = context_of(Image.new("RGB", (200, 200), "green"), bare)
    result = job.run(context, hidden(2, begin="face"))

    assert result.hog is not None
    rows = {row.wearing: row for row in result.hog.wearings}
    plain = {"plain black", "plain white", "plain gray", "plain blue"}
    assert set(rows) == {"nothing", "ours"} | plain
    assert rows["nothing"].hidden == 0
    assert {row.views for row in rows.values()} == {2}
    assert rows["ours"].score < rows["nothing"].score
    assert rows["ours"].hidden == 2 - result.hog.history[-1].found
    equal = [name for name in plain if rows[name].hidden >= rows["ours"].hidden]
    told = [warning for warning in result.warnings if "as many views" in warning]
    assert bool(told) == bool(equal)
    assert all(name in told[0] for name in equal)
    assert result.photos == {"with a face": 1, "without": 1}
    assert result.hog.tiling is None
    assert result.hog.scales == ()
    assert result.worn == result.main_artifact == "worn.png"
    assert picture(context, "worn.png").ndim == 3
    (design,) = result.designs
    # As wide and as high as the mask was in the search.
    assert design.width_mm / design.height_mm == pytest.approx(0.96 / 0.6, rel=0.001)


def test_photos_without_a_face_are_refused(context_of: Any) -> None:
    with pytest.raises(Problem, match="finds no face in any"):
        job.run(context_of(Image.new("RGB", (200, 200), "green")), hidden(1))


def stop_at(context: Any, step: int, stop: Stopped) -> None:
    """Have the context stop the job in the report of a step."""
    progress = type(context).progress

    def watched(done: int, total: int, message: str = "", **data: Any) -> None:
        progress(context, done, total, message, **data)
        if data.get("step") == step:
            context.stop = stop

    context.progress = watched


@pytest.mark.parametrize("stop", [Stopped("canceled"), Stopped("deadline")])
def test_a_job_that_is_stopped_leaves_the_best_so_far(context: Any, stop: Stopped) -> None:
    stop_at(context, 7, stop)
    with pytest.raises(Stopped) as caught:
        job.run(context, spec())
    assert caught.value is stop

    assert set(context.artifacts) == {"pattern.png", "design-0.pdf", "design-0.png"}
    left = generate_mask_hog.Decoys().rate(picture(context, "pattern.png"))
    assert round(left.fitness, 4) == context.figures[-1]["best_fitness"]


def test_a_cancel_while_the_figures_are_made_leaves_the_pattern(context: Any) -> None:
    progress = type(context).progress

    def watched(done: int, total: int, message: str = "", **data: Any) -> None:
        progress(context, done, total, message, **data)
        if "asking dlib" in message:
            context.stop = Stopped("canceled")

    context.progress = watched
    with pytest.raises(Stopped, match="canceled"):
        job.run(context, spec(steps=2))
    assert set(context.artifacts) == {"pattern.png", "design-0.pdf", "design-0.png"}


def test_a_job_that_is_stopped_before_it_begins_leaves_nothing(context: Any) -> None:
    context.stop = Stopped("canceled")
    with pytest.raises(Stopped, match="canceled"):
        job.run(context, spec())
    assert context.artifacts == {}


def test_a_job_that_is_handed_back_goes_on_where_it_was(
    context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "OFFER_SECONDS", 0.0)
    monkeypatch.setattr(checkpoint, "SHARE", 1e9)
    whole = job.run(context, spec())
    pattern = context.artifacts["pattern.png"]
    context.artifacts.clear()
    context.checkpoint = None
    stop_at(context, 6, Stopped("hand back"))
    with pytest.raises(Stopped, match="hand back"):
        job.run(context, spec())
    assert context.artifacts == {}
    assert context.checkpoint is not None
    context.stop = None
    context.figures.clear()

    again = job.run(context, spec())

    assert next(figures["step"] for figures in context.figures if figures) in (6, 7)
    assert context.artifacts["pattern.png"] == pattern
    assert again.hog is not None
    assert whole.hog is not None
    assert again.hog.history == whole.hog.history
    assert again.hog.evaluations == whole.hog.evaluations


def test_a_checkpoint_that_does_not_fit_is_left_aside(context: Any) -> None:
    context.checkpoint = {generate_mask_hog.CHECKPOINT: b"damaged"}

    result = job.run(context, spec(steps=2))

    assert any("could not be continued" in warning for warning in result.warnings)
    assert result.hog is not None
    assert len(result.hog.history) == 3


def test_a_result_of_many_steps_stays_small(context: Any) -> None:
    result = job.run(context, spec(steps=260, side=96, sprites=1))

    assert result.hog is not None
    steps = [row.step for row in result.hog.history]
    assert len(steps) == 200
    assert (steps[0], steps[-1]) == (0, 260)
    assert len(result.model_dump_json()) < 64 * 1024


@pytest.mark.parametrize("side", [96, 130, 766, 2048])
def test_sprites_fit_every_canvas(side: int) -> None:
    pattern = generate_mask_hog.pattern_of(spec(side=side).hog)

    assert isinstance(pattern, Sprites)
    assert 80 <= pattern.smallest <= pattern.largest <= side
    assert pattern.start(np.random.default_rng(0)).shape == (2, 4)
