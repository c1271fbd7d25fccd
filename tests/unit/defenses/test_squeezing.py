"""The detector: its score, its calibration, and an attack that it notices."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from services.worker.defenses.filters import BitDepth, MedianFilter
from services.worker.defenses.squeezing import SqueezingDetector
from services.worker.models.base import Classifier

Maker = Callable[..., Tensor]
Builder = Callable[[int], Classifier]


def test_the_score_is_the_largest_l1_distance(pictures: Maker, linear: Builder) -> None:
    images, classifier = pictures(5), linear(24)
    squeezers = (BitDepth(bits=3), MedianFilter(size=3))
    plain = classifier(images).softmax(1)
    distances = [
        (classifier(squeezer.apply(images)).softmax(1) - plain).abs().sum(1)
        for squeezer in squeezers
    ]
    detector = SqueezingDetector(classifier, squeezers=squeezers, batch=2)
    torch.testing.assert_close(detector.score(images), torch.maximum(*distances))


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.3])
def test_the_threshold_keeps_the_rate_of_false_alarms(
    rate: float, pictures: Maker, linear: Builder
) -> None:
    clean = pictures(40)
    detector = SqueezingDetector(linear(24), squeezers=[MedianFilter()])
    calibration = detector.calibrate(clean, false_positive_rate=rate)
    detection = detector.detect(clean, threshold=calibration.threshold)
    alarms = int(detection.suspicious.sum()) / len(clean)
    assert alarms == pytest.approx(calibration.false_positive_rate)
    assert alarms <= rate
    # The lowest such threshold: one score lower would give one alarm too many.
    lower = detection.scores[detection.scores < calibration.threshold].max().item()
    assert (detection.scores > lower).sum() > rate * len(clean)


def test_scattered_pixels_that_sway_the_classifier_are_noticed(
    pictures: Maker, linear: Builder
) -> None:
    classifier = linear(24)
    weight = classifier.get_parameter("network.weight")
    slope = (weight[0] - weight[1]).view(3, -1)
    clean = pictures(30)
    detector = SqueezingDetector(classifier, squeezers=[MedianFilter(size=3)])
    threshold = detector.calibrate(clean, false_positive_rate=0.1).threshold
    attacked = pictures(10, seed=5)
    strongest = slope.abs().sum(0).topk(40).indices
    for image, answer in zip(attacked, classifier(attacked).argmax(1), strict=True):
        toward = slope[:, strongest] if answer == 1 else -slope[:, strongest]
        image.flatten(1)[:, strongest] = (toward > 0).float()
    detection = detector.detect(attacked, threshold=threshold)
    assert int(detection.suspicious.sum()) >= 8


def test_bad_input_is_refused(pictures: Maker, linear: Builder) -> None:
    with pytest.raises(ValueError, match="at least one squeezer"):
        SqueezingDetector(linear(24), squeezers=[])
    with pytest.raises(ValueError, match="batch"):
        SqueezingDetector(linear(24), batch=0)
    with pytest.raises(ValueError, match="false-positive rate"):
        SqueezingDetector(linear(24)).calibrate(pictures(), false_positive_rate=1.0)
    with pytest.raises(ValueError, match="no images"):
        SqueezingDetector(linear(24)).calibrate(pictures()[:0])
