"""A photo attacked at its own size fools the very path that photos take."""

import pytest
import torch

from services.worker.attacks.base import Attack
from services.worker.attacks.criteria import Untargeted
from services.worker.attacks.pgd import PGD
from services.worker.attacks.pipeline import PhotoClassifier
from services.worker.attacks.runner import run
from services.worker.attacks.square import Square
from services.worker.faces.crops import crop_face, resize, square_around
from services.worker.models.base import Classifier
from tests.unit.attacks.toys import labels_of, pictures, small_cnn

HEIGHT, WIDTH = 50, 40
MARGIN = 0.1


def photo(seed: int = 0) -> torch.Tensor:
    coarse = pictures(1, side=10, seed=seed).float()
    smooth = torch.nn.functional.interpolate(coarse, (HEIGHT, WIDTH), mode="bilinear")
    return smooth.round().to(torch.uint8)


@pytest.mark.parametrize("box", [(8.2, 9.9, 29.7, 35.1), (-3.0, 2.0, 20.0, 30.0), None])
def test_cuts_and_resizes_as_the_service_does(box: tuple[float, ...] | None) -> None:
    picture = photo()
    array = picture[0].permute(1, 2, 0).contiguous().numpy()
    if box is None:
        square, expected = None, resize(array, 8)
    else:
        x0, y0, x1, y1 = box
        square = square_around((x0, y0, x1, y1), MARGIN)
        expected = crop_face(array, (x0, y0, x1, y1), size=8, margin=MARGIN)
    model = PhotoClassifier(small_cnn(), height=HEIGHT, width=WIDTH, square=square)
    assert torch.equal(model.crop(picture.float() / 255)[0], expected)
    assert not model.training


@pytest.mark.parametrize("attack", [PGD(eps=24), Square(eps=32, queries=300)])
def test_the_delivered_photo_fools_the_service_s_own_crop(
    attack: Attack,
) -> None:
    box = (8.0, 9.0, 30.0, 35.0)
    classifier = small_cnn(classes=3, seed=4)
    square = square_around(box, MARGIN)
    model = PhotoClassifier(classifier, height=HEIGHT, width=WIDTH, square=square)
    fooled = 0
    for seed in range(6):
        picture = photo(seed)
        label = labels_of(model, picture)
        criterion = Untargeted(label)
        result = run(attack, model, picture, criterion, region=model.region()).results[0]
        seen = crop_face(result.adversarial, box, size=8, margin=MARGIN)[None]
        assert result.success == (int(classifier(seen).argmax()) != int(label))
        x, y, side = square
        outside = torch.from_numpy(result.adversarial).permute(2, 0, 1) != picture[0]
        outside[:, y : y + side, x : x + side] = False
        assert not outside.any()
        fooled += result.success
    assert fooled > 0


def test_of_several_squares_the_one_that_holds_out_longest_counts() -> None:
    classifier, picture = small_cnn(classes=3, seed=4), photo(1)
    first, second = (6, 8, 26), (9, 12, 26)
    wanted = Untargeted(torch.tensor([0]))
    size = {"height": HEIGHT, "width": WIDTH}
    alone = [PhotoClassifier(classifier, square=square, **size) for square in (first, second)]
    both = PhotoClassifier(classifier, square=first, also=[second], criterion=wanted, **size)
    images = torch.cat([photo(seed) for seed in range(6)]).float() / 255
    each = torch.stack([model(images) for model in alone])
    of_all = wanted.take(torch.zeros(6, dtype=torch.long))
    margins = torch.stack([of_all.margin(logits) for logits in each])
    assert len(set(margins.argmax(0).tolist())) == 2, "not always the same square"
    assert torch.allclose(of_all.margin(both(images)), margins.amax(0))

    criterion = Untargeted(labels_of(alone[0], picture))
    result = run(PGD(eps=40), both_of(classifier, criterion), picture, criterion).results[0]
    delivered = torch.from_numpy(result.adversarial).permute(2, 0, 1)[None]
    assert result.success
    assert all(int(labels_of(model, delivered)) != result.label for model in alone)
    with pytest.raises(ValueError, match="criterion"):
        PhotoClassifier(classifier, square=first, also=[second], **size)


def both_of(classifier: Classifier, criterion: Untargeted) -> PhotoClassifier:
    squares = (6, 8, 26), (9, 12, 26)
    return PhotoClassifier(
        classifier,
        height=HEIGHT,
        width=WIDTH,
        square=squares[0],
        also=squares[1:],
        criterion=criterion,
    )
