"""How long a training run will take, from a few steps on noise."""

import copy
import time
from dataclasses import replace

import torch

from services.worker.datasets.labeled import LabeledImages
from services.worker.models.base import Classifier
from services.worker.models.predict import predict
from services.worker.training.config import TrainConfig
from services.worker.training.distill import Teacher
from services.worker.training.history import LiveEpoch
from services.worker.training.loop import ROBUST_VALIDATION, train
from services.worker.training.robust import Perturb

STEPS = 3  # the first one warms up
MOST_PIXELS = 2**19
MOST_IMAGES = 64


def estimate_seconds(
    classifier: Classifier,
    config: TrainConfig,
    *,
    images: int,
    validation: int,
    device: torch.device | str = "cpu",
    perturb: Perturb | None = None,
    teacher: Teacher | None = None,
    head_only: bool = False,
) -> float:
    """Return about how many seconds all epochs will take. The classifier is not changed.

    Steps on a small batch of noise are timed and taken as proportional to its size. With
    ``head_only`` the features are what takes time, and the head's steps are next to nothing.
    """
    side = classifier.input_size[0]
    batch = max(2, min(config.batch_size, images, MOST_IMAGES, MOST_PIXELS // side**2))
    noise = _noise(classifier, STEPS * batch)
    moments: list[float] = []

    def note(live: LiveEpoch) -> None:
        del live
        moments.append(time.perf_counter())

    copied = copy.deepcopy(classifier).to(device)
    predict(copied, noise.images[:2], device=device)
    start = time.perf_counter()
    predict(copied, noise.images[:batch], device=device)
    asked = (time.perf_counter() - start) / batch
    if head_only:
        return asked * (2 * images + validation)
    trial = replace(config, epochs=1, batch_size=batch, frozen_epochs=0, balanced=False)
    few = noise.select(range(2))
    hooks = {"device": device, "perturb": perturb, "teacher": teacher, "watch": note}
    train(copied, noise, few, trial, **hooks)  # type: ignore[arg-type]
    each = (moments[-1] - moments[0]) / (len(moments) - 1) / batch if len(moments) > 1 else 0.0
    judged = asked * validation
    if perturb is not None:
        judged += each * min(validation, ROBUST_VALIDATION)
    return config.epochs * (each * images + judged)


def _noise(classifier: Classifier, count: int) -> LabeledImages:
    height, width = classifier.input_size
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 3, height, width), generator=generator)
    labels = torch.arange(count) % len(classifier.classes)
    groups = tuple(map(str, range(count)))
    return LabeledImages(pixels.byte(), labels, classifier.classes, groups)
