"""Paper 003's table, on a few people."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from research.papers import identities
from services.worker.datasets.identities import Identities
from services.worker.datasets.labeled import LabeledImages
from services.worker.models.architectures import build


def _images(people: int, photos: int) -> LabeledImages:
    count = people * photos
    images = torch.randint(
        0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    labels = torch.arange(people).repeat_interleave(photos)
    # Every second photo of a person is a near-duplicate of the one before.
    groups = tuple(str(number // 2) for number in range(count))
    return LabeledImages(images, labels, tuple(f"p{i}" for i in range(people)), groups)


def test_everyone_is_on_every_side_and_near_duplicates_on_one() -> None:
    everyone = _images(4, 20)

    learned, validation, test = identities.sides(everyone, seed=1)

    assert len(learned) + len(validation) + len(test) == len(everyone)
    for side in (learned, validation, test):
        assert set(side.labels.tolist()) == {0, 1, 2, 3}
    seen = [set(side.groups) for side in (learned, validation, test)]
    assert sum(map(len, seen)) == len(set.union(*seen))


def test_features_are_what_the_last_layer_reads() -> None:
    network = build("resnet18", classes=("a", "b"), input_size=32).eval()
    images = _images(2, 2).images

    found = torch.from_numpy(identities.features(network, images))

    assert found.shape == (4, 512)
    assert torch.allclose(found.norm(dim=1), torch.ones(4), atol=1e-5)
    last = network.network.get_submodule("fc")
    scores = _linear(found, last)
    with torch.no_grad():
        logits = network(images.float() / 255)
    bias = last.bias.detach()
    # Same direction as the logits without their bias: only the length was taken away.
    assert torch.allclose(
        torch.nn.functional.normalize(scores, dim=1),
        torch.nn.functional.normalize(logits - bias, dim=1),
        atol=1e-4,
    )


def _linear(vectors: torch.Tensor, layer: torch.nn.Module) -> torch.Tensor:
    return vectors @ layer.weight.detach().T  # type: ignore[operator, no-any-return, union-attr]


def test_labels_are_names_of_folders() -> None:
    frames = np.zeros((3, 160, 160, 3), dtype=np.uint8)
    frames[0, :80] = frames[1, :, :80] = frames[2, 80:] = 255
    people = Identities(frames, np.array([1, 0, 1]), ("anna", "ben"))

    data = identities.labeled(people, 32)

    assert data.classes == ("anna", "ben")
    assert data.labels.tolist() == [1, 0, 1]
    assert data.images.shape == (3, 3, 32, 32)


@pytest.mark.shared_data
def test_the_page_has_every_attack_and_a_second_run_does_not_train(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces = shared_data / "faces"
    for side, count, most in (("train", 2, 16), ("test", 3, 2)):
        folders = [one for one in sorted((faces / side).iterdir()) if len([*one.iterdir()]) >= most]
        for folder in folders[:count]:
            for photo in sorted(folder.iterdir())[:most]:
                target = tmp_path / "data" / "faces" / side / folder.name / photo.name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(photo, target)
    out = tmp_path / "page.md"
    command = f"--data {tmp_path / 'data'} --cache {tmp_path / 'cache'} --out {out}"
    monkeypatch.setattr(
        sys, "argv", ["identities", *command.split(), "--side", "32", "--epochs", "2"]
    )

    monkeypatch.setattr(identities, "STEPS", 2)
    identities.main()
    text = out.read_text()
    monkeypatch.setattr(identities, "train", None)  # what is kept is not made again
    identities.main()

    assert out.read_text() == text
    assert text.count("PGD, eps") == 2 * len(identities.EPS)
    assert "2 people of `faces/train`" in text
    assert "`python -m research.papers.identities --side 32 --epochs 2 --out " in text
    assert "nan" not in text
