"""An ``attack`` job that a worker leaves behind is finished by another, with the same result."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from services.worker.jobs.attack import job as attack
from shared.results.attack import AttackResult
from shared.settings import load_settings
from shared.specs.attack import AttackSpec
from tests.fixtures.packs import pack_folder
from tests.unit.jobs.conftest import FakeContext

DATASET = f"ds_{0:024x}"


class Killed(Exception):
    """Stands for the end of a worker's process."""


class DyingContext(FakeContext):
    """Dies with the first report beyond so many photos."""

    photos_alive = 0

    def progress(self, done: int, total: int, message: str = "", **data: Any) -> None:
        super().progress(done, total, message, **data)
        if self.photos_alive and done > 100 * self.photos_alive:
            raise Killed


@pytest.fixture
def begin(tmp_path: Any, bare: Image.Image, masked: Image.Image) -> Callable[..., DyingContext]:
    root = tmp_path / "data" / "test"
    for label, photo in (("with_mask", masked), ("without_mask", bare)):
        (root / label).mkdir(parents=True)
        for number in range(10):
            crop = photo.crop((150 - number, 55, 290 + number, 200 + number))
            crop.resize((64, 64)).save(root / label / f"{number}.png")
    pack = pack_folder(tmp_path / "data", dataset_id=DATASET, layout="classes")

    def make(*, photos_alive: int = 0) -> DyingContext:
        context = DyingContext([np.array(masked)] * 6, load_settings(data_dir=tmp_path))
        context.packs = {DATASET: pack}
        context.photos_alive = photos_alive
        return context

    return make


def comparable(result: AttackResult) -> dict[str, Any]:
    return result.model_dump(exclude={"timing"})


CASES = {
    "model": {
        "data": {"dataset": DATASET},
        "attack": {"name": "pgd", "eps": 6, "steps": 4},
    },
    "photo": {
        "images": [f"img_{number:024x}" for number in range(6)],
        "faces": [[{"x": 175 + n, "y": 65, "width": 95, "height": 120}] for n in range(6)],
        "attack": {"name": "de", "pixels": 3, "population": 10, "generations": 2},
        "at": "photo",
    },
}


@pytest.mark.parametrize("at", ["model", "photo"])
def test_a_successor_goes_on_after_the_last_finished_photos(
    begin: Callable[..., DyingContext], at: str
) -> None:
    spec = AttackSpec.model_validate({**CASES[at], "model": "mask-cnn-32", "seed": 5})
    at_once = attack.PHOTOS_AT_ONCE[spec.at]
    unbroken = begin()
    whole = attack.run(unbroken, spec)

    first = begin(photos_alive=at_once)
    with pytest.raises(Killed):
        attack.run(first, spec)
    assert first.checkpoint is not None
    heir = begin()
    heir.checkpoint, heir.attempt = first.checkpoint, 2
    heir.artifacts.update(first.artifacts)
    result = attack.run(heir, spec)

    assert min(done for done, _, _ in heir.reports) >= 100 * at_once, "not from the beginning"
    assert comparable(result) == comparable(whole)
    assert heir.artifacts == unbroken.artifacts
    assert heir.made_of == unbroken.made_of


def test_what_is_not_there_or_of_other_weights_is_done_again(
    begin: Callable[..., DyingContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = AttackSpec.model_validate({**CASES["model"], "model": "mask-cnn-32"})
    first = begin(photos_alive=16)
    with pytest.raises(Killed):
        attack.run(first, spec)

    without_pictures = begin()
    without_pictures.checkpoint = first.checkpoint
    whole = attack.run(without_pictures, spec)
    assert min(done for done, _, _ in without_pictures.reports) < 1600
    assert len(whole.images) == 20

    other = begin()
    other.checkpoint = first.checkpoint
    other.artifacts.update(first.artifacts)
    three = spec.model_copy(update={"model": "mask3-mobilenetv3s-112"})
    attack.run(other, three)
    assert min(done for done, _, _ in other.reports) < 1600
