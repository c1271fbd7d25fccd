"""Parts of the scripts that make and cross-validate the shipped models."""

import torch

from services.worker.models.architectures import build
from services.worker.training.bundled import expect_frequencies, with_classes
from services.worker.training.cross_validate import folds, shifted
from services.worker.training.data import LabeledImages


def faces(groups: list[str], labels: list[int]) -> LabeledImages:
    images = torch.zeros(len(groups), 3, 32, 32, dtype=torch.uint8)
    return LabeledImages(images, torch.tensor(labels), ("a", "b", "c"), tuple(groups))


def test_expected_frequencies_move_the_logits_by_their_logarithms() -> None:
    torch.manual_seed(0)
    labels = torch.tensor([0] * 90 + [1] * 9 + [2])
    classifier = build("mobilenet_v3_small", classes=("a", "b", "c"), input_size=64).eval()
    images = torch.rand(4, 3, 64, 64)
    with torch.no_grad():
        before = classifier(images)
        expect_frequencies(classifier, labels, 0.5)
        after = classifier(images)

    moved = 0.5 * torch.tensor([0.9, 0.09, 0.01]).log()
    torch.testing.assert_close(after - before, moved.expand(4, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(after, shifted(before, labels, 0.5), atol=1e-5, rtol=0)


def test_faces_of_a_photo_share_a_fold() -> None:
    groups = [f"photo {n // 3}" for n in range(30)]
    found = folds(faces(groups, [n % 3 for n in range(30)]), 4, seed=0)

    assert sorted(face for fold in found for face in fold) == list(range(30))
    photos = [{groups[face] for face in fold} for fold in found]
    assert all(not photos[i] & photos[j] for i in range(4) for j in range(i))
    assert {len(fold) for fold in photos} == {2, 3}


def test_binary_pictures_join_a_task_of_three_classes() -> None:
    three = with_classes(faces(["x"], [1]), ("a", "b", "c"))
    assert (three.classes, three.labels.tolist()) == (("a", "b", "c"), [1])
