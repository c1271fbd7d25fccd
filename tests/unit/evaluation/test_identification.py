"""Identification and verification figures against hand-made cases and scikit-learn."""

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from services.worker.evaluation.identification import (
    accept_rate,
    leave_one_out,
    pair_accuracy,
    pair_scores,
    person_similarities,
    probe_sides,
    rank_1_among,
    rank_rate,
    ranks,
    threshold_at,
)


def unit(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def crowd(noise: float, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    people = np.arange(30).repeat(4)
    centers = rng.normal(size=(30, 12))
    return unit(centers[people] + noise * rng.normal(size=(120, 12))), people


def test_sides_put_first_photos_and_distractors_into_the_gallery() -> None:
    sides = probe_sides(np.array([0, 0, 0, 1, 1, 2]), distractors=2, gallery_photos=1)

    assert sides.gallery.tolist() == [0, 3, 5, 6, 7]
    assert sides.probes.tolist() == [1, 2, 4]


def test_a_person_is_as_similar_as_the_best_photo() -> None:
    gallery = unit(np.array([[1.0, 0], [0, 1.0], [1.0, 1.0]]))
    similar, who = person_similarities(unit(np.array([[1.0, 0.1]])), gallery, np.array([7, 7, 3]))

    assert who.tolist() == [3, 7]
    assert similar[0, 1] > similar[0, 0]


def test_ranks_count_those_who_are_more_similar() -> None:
    similar = np.array([[0.9, 0.5, 0.1], [0.2, 0.5, 0.6], [0.3, 0.3, 0.3]], dtype=np.float32)

    found = ranks(similar, np.array([4, 5, 6]), np.array([4, 4, 5]))

    assert found.tolist() == [0, 2, 2], "who says the same of everyone identifies nobody"
    assert rank_rate(found, 1).value == pytest.approx(1 / 3)
    assert rank_rate(found, 3).value == 1


def test_rank_1_in_smaller_galleries_is_the_mean_over_all_of_them() -> None:
    similarities = np.array([[0.9, 0.8, 0.7, 0.6, 0.5]] * 5, dtype=np.float32)
    who, probes = np.arange(5), np.arange(5)  # probe n has n people before it
    found = ranks(similarities, who, probes)
    for size in range(1, 6):
        for probe, chance in zip(probes, rank_1_among(found, 5, size), strict=True):
            others = [person for person in who if person != probe]
            galleries = list(combinations(others, size - 1))
            first = sum(all(person > probe for person in gallery) for gallery in galleries)
            assert chance == pytest.approx(first / len(galleries))
    for size in (0, 6):
        with pytest.raises(ValueError, match="no gallery"):
            rank_1_among(found, 5, size)


def test_an_unknown_person_cannot_be_ranked() -> None:
    with pytest.raises(ValueError, match="gallery"):
        ranks(np.zeros((1, 2), np.float32), np.array([0, 1]), np.array([2]))


@pytest.mark.parametrize("noise", [0.3, 1.5])
def test_leaving_one_out_is_what_a_loop_finds(noise: float) -> None:
    embeddings, people = crowd(noise)

    found = leave_one_out(embeddings, people)

    for index in range(0, 120, 11):
        rest = np.arange(120) != index
        similar = embeddings[rest] @ embeddings[index]
        best = {person: similar[people[rest] == person].max() for person in range(30)}
        own = best[people[index]]
        assert found[index] == sum(value >= own for value in best.values()) - 1


def test_one_photo_cannot_be_left_out() -> None:
    with pytest.raises(ValueError, match="two photos"):
        leave_one_out(np.eye(3, dtype=np.float32), np.array([0, 0, 1]))


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5])
def test_thresholds_and_rates_are_points_of_the_roc_curve(rate: float) -> None:
    embeddings, people = crowd(1.0)
    scores = pair_scores(embeddings[::2], people[::2], embeddings[1::2], people[1::2])

    threshold = threshold_at(scores.impostor, rate)

    assert (scores.impostor > threshold).mean() <= rate
    assert (scores.impostor >= threshold).mean() > rate
    truth = np.r_[np.ones(len(scores.genuine)), np.zeros(len(scores.impostor))]
    false, true, _ = roc_curve(
        truth, np.r_[scores.genuine, scores.impostor], drop_intermediate=False
    )
    at = true[false <= rate].max()
    assert accept_rate(scores.genuine, threshold).value == pytest.approx(at, abs=0.02)


def test_too_few_impostors_tell_nothing_of_a_small_rate() -> None:
    with pytest.raises(ValueError, match="cannot show"):
        threshold_at(np.linspace(0, 1, 50), 0.01)


def test_pairs_are_told_apart_as_well_as_they_can_be() -> None:
    rng = np.random.default_rng(0)
    first = unit(rng.normal(size=(400, 16)))
    same = rng.random(400) < 0.5
    near = unit(first + 0.3 * rng.normal(size=first.shape) / 4)
    far = unit(rng.normal(size=first.shape))

    accuracy = pair_accuracy(first, np.where(same[:, None], near, far), same)
    chance = pair_accuracy(first, far, same)

    assert accuracy.value > 0.99
    assert 0.4 < chance.value < 0.6
