"""The detector of ``evaluate``: its scores of clean and attacked pictures, and what they say."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from services.worker.datasets.labeled import LabeledImages
from services.worker.defenses.squeezing import SqueezingDetector
from services.worker.defenses.thresholds import known_threshold
from services.worker.evaluation.detection import Detected, Scores, judge_detector
from services.worker.evaluation.robustness import Row
from services.worker.evaluation.table import draw_detection
from services.worker.jobs.kit.rates import as_figure, as_rate
from services.worker.models.predict import as_input
from services.worker.models.registry import LoadedModel
from services.worker.stopping import CancelCheck
from shared.results.evaluate import DetectorRow
from shared.specs.evaluate import EvaluateSpec


@dataclass(frozen=True)
class Scored:
    """The scores ``(N,)`` of the pictures of an undefended row, clean and attacked."""

    row: Row
    clean: Scores
    attacked: Scores
    groups: tuple[str, ...]


def scores(loaded: LoadedModel, images: Tensor, *, check: CancelCheck) -> Tensor:
    """Return the scores ``(N,)``, float64, of uint8 images at the model's input."""
    detector = SqueezingDetector(loaded.classifier)
    return detector.score(as_input(images.to(loaded.device)), check_cancel=check).double().cpu()


def seconds(loaded: LoadedModel, data: LabeledImages, *, probed: int, check: CancelCheck) -> float:
    """Return about how long the clean and attacked pictures of a row take to score."""
    part = data.images[:probed]
    scores(loaded, part, check=check)
    began = time.perf_counter()
    scores(loaded, part, check=check)
    return 2 * len(data) / len(part) * (time.perf_counter() - began)


def judge(found: Sequence[Scored], spec: EvaluateSpec, *, check: CancelCheck) -> list[DetectorRow]:
    """Return a row of the detector for each model and attack."""
    return [_judge(scored, spec, check) for scored in found]


def draw(found: Sequence[Scored]) -> bytes:
    """Draw the ROC curves of all rows; a PNG."""
    curves = {
        f"{scored.row.model}, {scored.row.attack}": (
            scored.clean,
            scored.attacked[_fooled(scored.row)],
            _threshold(scored.row),
        )
        for scored in found
    }
    return draw_detection(curves)


def _judge(scored: Scored, spec: EvaluateSpec, check: CancelCheck) -> DetectorRow:
    row, known = scored.row, known_threshold(scored.row.sha256)
    judged: Detected = judge_detector(
        scored.clean,
        scored.attacked,
        right=row.clean,
        fooled=_fooled(row),
        threshold=None if known is None else known.threshold,
        clean_groups=scored.groups,
        attacked_groups=scored.groups,
        seed=spec.seed,
        draws=spec.bootstrap,
        check_cancel=check,
    )
    rates = judged.false_positives, judged.detected, judged.fooled_undetected
    alarms, detected, undetected = (None if rate is None else as_rate(rate) for rate in rates)
    return DetectorRow(
        model=row.model,
        model_sha256=row.sha256,
        attack=row.attack,
        images=len(row.indices),
        threshold=None if known is None else known.threshold,
        target_rate=None if known is None else known.target,
        calibrated_on=None if known is None else known.data,
        false_positives=alarms,
        detected=detected,
        fooled_undetected=undetected,
        roc_area=as_figure(judged.roc_area),
    )


def _fooled(row: Row) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.asarray(row.clean & ~row.withstood, dtype=bool)


def _threshold(row: Row) -> float | None:
    known = known_threshold(row.sha256)
    return None if known is None else known.threshold
