"""An ``encrypt`` job that a worker leaves behind is finished by another, with the same result."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from services.worker.jobs.encrypt import job
from shared.results.encrypt import EncryptResult
from shared.settings import load_settings
from shared.specs.encrypt import EncryptSpec
from tests.unit.jobs.conftest import FakeContext

PHOTOS = 3


class Killed(Exception):
    """Stands for the end of a worker's process."""


class DyingContext(FakeContext):
    """Dies with the first report beyond two photos."""

    dies = False

    def progress(self, done: int, total: int, message: str = "", **data: Any) -> None:
        super().progress(done, total, message, **data)
        if self.dies and done > 200:
            raise Killed


def spec(recognizer: str) -> EncryptSpec:
    return EncryptSpec.model_validate(
        {
            "images": [f"img_{number:024x}" for number in range(PHOTOS)],
            "parameters": {"steps": 2},
            "recognizers": [recognizer],
            "judges": [],
            "seed": 5,
        }
    )


STUDENT = spec("face-student-112")


def comparable(result: EncryptResult) -> dict[str, Any]:
    return result.model_dump(exclude={"timing", "seconds_a_face"})


@pytest.fixture
def begin(tmp_path: Any, bare: Image.Image) -> Callable[..., DyingContext]:
    # The first shows nobody: what is delivered untouched is kept, too.
    photos = [np.zeros((80, 80, 3), np.uint8)] + [np.array(bare.convert("RGB"))] * (PHOTOS - 1)

    def make(left: DyingContext | None = None) -> DyingContext:
        context = DyingContext(photos, load_settings(data_dir=tmp_path))
        if left is not None:
            context.checkpoint, context.attempt = left.checkpoint, left.attempt + 1
            context.artifacts.update(left.artifacts)
        return context

    return make


@pytest.fixture
def left_behind(begin: Callable[..., DyingContext]) -> DyingContext:
    context = begin()
    context.dies = True
    with pytest.raises(Killed):
        job.run(context, STUDENT)
    assert context.checkpoint is not None
    return context


def test_a_successor_goes_on_after_the_last_finished_photo(
    begin: Callable[..., DyingContext], left_behind: DyingContext
) -> None:
    unbroken, heir = begin(), begin(left_behind)
    whole = job.run(unbroken, STUDENT)

    result = job.run(heir, STUDENT)

    assert min(done for done, _, _ in heir.reports) >= 200, "not from the beginning"
    assert comparable(result) == comparable(whole)
    assert heir.artifacts == unbroken.artifacts
    assert heir.made_of == unbroken.made_of


def test_photos_that_are_gone_are_made_again(
    begin: Callable[..., DyingContext], left_behind: DyingContext
) -> None:
    unbroken, heir = begin(), begin(left_behind)
    whole = job.run(unbroken, STUDENT)
    del heir.artifacts[whole.images[1].photo]

    result = job.run(heir, STUDENT)

    assert 100 < min(done for done, _, _ in heir.reports) < 200, "the second photo again"
    assert comparable(result) == comparable(whole)
    assert heir.artifacts == unbroken.artifacts


def test_photos_of_other_recognizers_are_not_taken_over(
    begin: Callable[..., DyingContext], left_behind: DyingContext
) -> None:
    heir = begin(left_behind)
    result = job.run(heir, spec("face-residual-112"))

    assert min(done for done, _, _ in heir.reports) < 200
    for image in result.images[1:]:
        assert {one.recognizer for one in image.faces[0].similarities} == {"face-residual-112"}
