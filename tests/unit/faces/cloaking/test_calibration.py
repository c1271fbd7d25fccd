"""The verdict's regression: what it learns, what it says beyond that, and how sure it is."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from services.worker.faces.cloaking.calibration import (
    Evidence,
    fit,
    sharpness,
    shipped,
    write,
)

FACE = Evidence(
    lineages=2, surrogate_margin=0.6, judge_margin=0.3, ssim=0.96, side=120.0, sharpness=2.5
)


def drawn(count: int, seed: int) -> tuple[list[Evidence], list[bool]]:
    """Faces that are matched the more, the less the judge's margin is."""
    rng = np.random.default_rng(seed)
    rows, matched = [], []
    for _ in range(count):
        margin = float(rng.normal(0.2, 0.2))
        rows.append(
            Evidence(
                lineages=int(rng.integers(1, 3)),
                surrogate_margin=float(rng.normal(0.5, 0.1)),
                judge_margin=margin,
                ssim=float(rng.uniform(0.92, 0.98)),
                side=float(rng.uniform(60, 300)),
                sharpness=float(rng.uniform(1, 3)),
            )
        )
        matched.append(bool(rng.random() < 1 / (1 + np.exp(8 * margin))))
    return rows, matched


def test_is_the_penalized_regression_of_scikit_learn() -> None:
    rows, matched = drawn(300, 0)
    ours = fit(rows, matched, ridge=2.0)

    raw = np.array([row.features() for row in rows])
    theirs = LogisticRegression(C=0.5, tol=1e-10, max_iter=1000)
    theirs.fit((raw - ours.mean) / ours.scale, matched)

    assert np.allclose(ours.coefficients[1:], theirs.coef_[0], atol=1e-4)
    assert ours.coefficients[0] == pytest.approx(theirs.intercept_[0], abs=1e-4)


def test_says_what_then_happens() -> None:
    """Of faces that it never saw, a tenth of which it says 10 % of, a tenth are matched."""
    learned = fit(*drawn(2000, 0))
    rows, matched = drawn(4000, 1)
    said = np.array([learned.estimate(row).probability for row in rows])
    truth = np.array(matched)

    for low, high in ((0.0, 0.1), (0.1, 0.3), (0.3, 0.6)):
        chosen = (said >= low) & (said < high)
        assert chosen.sum() > 100
        assert truth[chosen].mean() == pytest.approx(said[chosen].mean(), abs=0.04)


def test_is_less_sure_with_fewer_faces_and_the_interval_holds_the_figure() -> None:
    few, many = fit(*drawn(60, 0)).estimate(FACE), fit(*drawn(3000, 0)).estimate(FACE)
    for one in (few, many):
        assert 0 < one.low < one.probability < one.high < 1
    assert many.high - many.low < few.high - few.low


def test_one_outcome_teaches_nothing() -> None:
    rows, _ = drawn(10, 0)
    with pytest.raises(ValueError, match="nothing to learn"):
        fit(rows, [False] * 10)


def test_written_and_read_again_it_says_the_same(tmp_path: Path) -> None:
    learned = fit(*drawn(200, 0))
    write(learned, {"people": 3}, tmp_path / "kept.json")

    again = shipped(tmp_path / "kept.json")

    assert again.estimate(FACE).high == pytest.approx(learned.estimate(FACE).high, abs=1e-3)
    (tmp_path / "other.json").write_text('{"features": ["age"]}')
    with pytest.raises(ValueError, match="age"):
        shipped(tmp_path / "other.json")


def test_a_blurred_face_is_less_sharp() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (160, 160, 3), dtype=np.uint8)
    flat = np.full((160, 160, 3), 90, dtype=np.uint8)
    assert sharpness(noise) > sharpness(flat) == 0
