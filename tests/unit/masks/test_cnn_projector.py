"""The projector that replaces masks which people wear: places, gradients, what it learned."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from research.train.mask_alpha import AlphaConfig, fresh, seen_on, train_alpha
from research.train.masked_photos import MaskedPhotos, moved, read_masked, recolored
from services.worker.faces.alignment import FRAME_POINTS
from services.worker.masks.cnn_projector import (
    NETWORKS,
    SIDE,
    VARIANTS,
    PaperAlpha,
    WideAlpha,
    alpha_card,
    load_alpha,
    mean_errors,
    predicted_alpha,
    put_through,
)
from services.worker.masks.evaluation import MaskJudge
from services.worker.masks.projector import random_wearing
from services.worker.masks.training import MaskConfig, train_masks
from services.worker.masks.wearers import Wearers, gallery, gather, seen_masks
from services.worker.models.recognizers import Recognizer
from services.worker.models.registry import ModelUnavailableError


def boxes(*sides: tuple[int, int, int, int]) -> torch.Tensor:
    """Return alphas of 1 in boxes of left, top, right, bottom, ``(N, 1, 128, 128)``."""
    alphas = torch.zeros(len(sides), 1, SIDE, SIDE)
    for alpha, (left, top, right, bottom) in zip(alphas, sides, strict=True):
        alpha[:, top:bottom, left:right] = 1
    return alphas


def sight(network: nn.Module) -> int:
    """Return how many pixels of a row an output pixel depends on."""
    photo = torch.rand(1, 3, SIDE, SIDE, requires_grad=True)
    network(photo)[0, 0, 64, 64].backward()
    assert photo.grad is not None
    columns = torch.nonzero(photo.grad.abs().sum((0, 1, 2)))[:, 0]
    return int(columns[-1] - columns[0]) + 1


def test_the_papers_network_has_its_channels_and_the_wide_one_sees_whole_masks() -> None:
    channels = [layer.out_channels for layer in PaperAlpha().layers]  # type: ignore[union-attr]

    assert channels == [6, 12, 18, 24, 1]
    torch.manual_seed(0)
    assert sight(PaperAlpha().requires_grad_(False)) == 11
    assert sight(WideAlpha().requires_grad_(False)) > 90
    for network in NETWORKS.values():
        assert network()(torch.rand(2, 3, SIDE, SIDE)).shape == (2, 1, SIDE, SIDE)


def test_a_checkerboard_is_stretched_over_the_mask() -> None:
    board = np.kron(np.indices((4, 4)).sum(0) % 2, np.ones((16, 16)))
    design = torch.from_numpy(board).float().expand(1, 3, -1, -1)
    photos = torch.full((2, 3, SIDE, SIDE), 0.5)
    alphas = boxes((20, 60, 100, 120), (40, 30, 72, 62))

    worn = put_through(photos, design, alphas, shade=0.0)

    for picture, (left, top, right, bottom) in zip(
        worn, ((20, 60, 100, 120), (40, 30, 72, 62)), strict=True
    ):
        for row in range(4):
            for column in range(4):
                x = int(left + (column + 0.5) * (right - left) / 4)
                y = int(top + (row + 0.5) * (bottom - top) / 4)
                assert float(picture[0, y, x]) == pytest.approx((row + column) % 2, abs=0.05)
    outside = alphas == 0
    assert torch.equal(worn[outside.expand_as(worn)], photos[outside.expand_as(worn)])


def test_half_a_transparency_shows_half_of_the_photo() -> None:
    photos = torch.full((1, 3, SIDE, SIDE), 0.2)

    worn = put_through(photos, torch.ones(1, 3, 8, 8), 0.5 * boxes((30, 30, 90, 90)), shade=0.0)

    assert float(worn[0, 0, 60, 60]) == pytest.approx(0.6)


def test_folds_of_the_mask_are_kept() -> None:
    photos = torch.full((1, 3, SIDE, SIDE), 0.6)
    photos[:, :, 70] = 0.4

    worn = put_through(photos, torch.full((1, 3, 8, 8), 0.5), boxes((30, 30, 90, 90)))[0, 0]

    assert float(worn[70, 60]) < float(worn[60, 60]) - 0.05


def test_gradients_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    photos = torch.rand(1, 3, SIDE, SIDE, dtype=torch.float64)
    weights = torch.rand(1, 3, SIDE, SIDE, dtype=torch.float64)
    alphas = boxes((30, 60, 100, 120)).double()
    design = (0.3 + 0.4 * torch.rand(1, 3, 12, 12, dtype=torch.float64)).requires_grad_()
    wearing = random_wearing(1, torch.Generator().manual_seed(2))

    def value(one: torch.Tensor) -> torch.Tensor:
        return (put_through(photos, one, alphas, wearing=wearing) * weights).sum()

    value(design).backward()
    assert design.grad is not None
    for place in ((0, 0, 5, 7), (0, 2, 9, 2)):
        step = torch.zeros_like(design)
        step[place] = 1e-5
        with torch.no_grad():
            difference = (value(design + step) - value(design - step)) / 2e-5
        assert float(design.grad[place]) == pytest.approx(float(difference), rel=1e-4, abs=1e-6)


def test_designs_of_another_number_are_refused() -> None:
    with pytest.raises(ValueError, match="2 designs"):
        put_through(torch.rand(3, 3, 16, 16), torch.rand(2, 3, 8, 8), torch.rand(3, 1, 16, 16))


def test_errors_are_absolute_and_overlaps_of_what_is_over_a_half() -> None:
    truth = boxes((0, 0, 64, 128))
    half = boxes((0, 0, 32, 128))

    errors, overlaps = mean_errors(torch.cat([half, truth]), torch.cat([truth, truth]))

    assert errors == pytest.approx([0.25, 0])
    assert overlaps == pytest.approx([0.5, 1])


def test_moving_takes_photo_and_mask_along_and_recoloring_changes_masks_only() -> None:
    alphas = boxes((40, 50, 90, 110)).repeat(6, 1, 1, 1)
    photos = alphas.expand(-1, 3, -1, -1).clone()

    shown, masks = moved(photos, alphas, torch.Generator().manual_seed(0))
    colored = recolored(photos, alphas, torch.Generator().manual_seed(0))

    assert torch.allclose(shown[:, :1], masks, atol=1e-5)
    areas = masks.sum((1, 2, 3)) / alphas.sum((1, 2, 3))
    assert float(areas.min()) > 0.85**2 - 0.3
    assert float(areas.max() - areas.min()) > 0.1
    outside = (alphas == 0).expand_as(photos)
    assert torch.equal(colored[outside], photos[outside])
    assert float((colored - photos).abs().amax((1, 2, 3)).min()) > 0.05


def test_a_network_learns_where_masks_are() -> None:
    torch.manual_seed(0)
    alphas = torch.cat([boxes((30 + n, 60, 90 + n, 110)) for n in range(10)])
    photos = torch.lerp(
        torch.full((10, 3, SIDE, SIDE), 0.5),
        torch.tensor([0.4, 0.7, 0.9]).view(1, 3, 1, 1).expand(10, 3, SIDE, SIDE),
        alphas,
    )
    examples = MaskedPhotos(photos, alphas, tuple(map(str, range(10))))
    losses: list[float] = []

    network = train_alpha(
        fresh("paper", 0),
        examples,
        AlphaConfig(epochs=50, batch_size=2),
        progress=lambda _, loss: losses.append(loss),
    )

    assert losses[-1] < 0.3 * losses[0]
    errors, _ = mean_errors(predicted_alpha(network, photos), alphas)
    assert max(errors) < 0.1
    assert seen_on(network, photos).value == 1


@pytest.mark.shared_data
@pytest.mark.parametrize("variant", VARIANTS)
def test_what_ships_finds_masks_of_photos_held_out(variant: str, shared_data: Path) -> None:
    test = read_masked(shared_data / "mask_segmentation" / "test")
    network = load_alpha(variant)  # type: ignore[arg-type]

    errors, overlaps = mean_errors(predicted_alpha(network, test.photos), test.alphas)

    metrics = alpha_card(variant).metrics  # type: ignore[arg-type]
    assert np.mean(errors) == pytest.approx(metrics["blue_error"]["value"], abs=1e-3)
    assert np.mean(overlaps) > 0.8
    assert alpha_card(variant).size < 200_000  # type: ignore[arg-type]


def test_weights_that_are_not_there_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from services.worker.masks import cnn_projector

    monkeypatch.setattr(cnn_projector, "find_models", dict)
    with pytest.raises(ModelUnavailableError, match="mask-alpha-wide"):
        load_alpha()


class Lower(nn.Module):
    """Sees a mask where photos are blue."""

    def forward(self, photos: torch.Tensor) -> torch.Tensor:
        return 40 * (photos[:, 2:] - photos[:, :1] - 0.5)


@pytest.fixture
def masked(wearers: Wearers) -> Wearers:
    """The same people, the second and third photo of each with a blue box for a mask."""
    found = []
    for index, (frame, person) in enumerate(
        zip(wearers.frames, wearers.people.tolist(), strict=True)
    ):
        worn = frame.copy()
        if index % 3:
            worn[85:145, 45:115] = (20, 60, 230)
        found.append((wearers.names[person], worn, FRAME_POINTS))
    return seen_masks(gather(found), Lower())


def test_photos_with_a_mask_are_worn_on_and_bare_ones_tell_who_it_is(
    masked: Wearers, recognizer: Recognizer
) -> None:
    assert masked.wearable.tolist() == [False, True, True] * 6
    assert masked.known_by.tolist() == [True, False, False] * 6
    bare = masked.of(np.flatnonzero(masked.known_by).tolist())
    assert torch.allclose(gallery(masked, recognizer), gallery(bare, recognizer), atol=1e-6)
    nobody = masked.of(np.flatnonzero(masked.wearable).tolist())
    assert nobody.known_by.all(), "who has no bare photo is known by the others"

    faces = masked.faces([1], 112)
    worn = masked.wear(faces, [1], torch.ones(1, 3, 8, 8))
    changed = (worn - faces).abs().amax((0, 1)) > 0.05
    assert bool(changed[85 - 24 + 3 : 136 - 24, 45 - 24 + 3 : 115 - 24 - 3].all())
    assert not bool(changed[: 85 - 24 - 3].any())


@pytest.mark.parametrize("experiment", ["free", "3"])
def test_designs_are_trained_on_masks_that_are_worn(
    masked: Wearers, recognizer: Recognizer, experiment: str
) -> None:
    config = MaskConfig(
        epochs=15,
        batch_size=6,
        max_lr=0.02,
        printability=0,
        variation=0,
        experiment=experiment,  # type: ignore[arg-type]
    )

    run = train_masks(masked, [recognizer], config)

    assert run.history[-1].similarity < run.history[0].similarity - 0.01
    bare = masked.of([0, 3])
    with pytest.raises(ValueError, match="no photo on which"):
        train_masks(bare, [recognizer], config)


def test_probes_wear_a_mask_and_the_gallery_is_bare(
    masked: Wearers, recognizer: Recognizer
) -> None:
    many = Wearers(
        np.tile(masked.frames, (4, 1, 1, 1)),
        masked.fits.repeat(4, 1, 1),
        masked.people.repeat(4),
        masked.names,
        np.tile(masked.alphas, (4, 1, 1)),  # type: ignore[arg-type]
    )

    judge = MaskJudge(recognizer, many)

    assert len(judge.probes) == 48
    assert many.wearable[judge.probes].all()
    assert len(judge.gallery) == 6
    same = judge.wearing(torch.tensor([20, 60, 230]).view(1, 3, 1, 1).expand(1, 3, 8, 8) / 255)
    assert same.similarity == pytest.approx(judge.bare.similarity, abs=0.05)


def test_frames_and_alphas_are_equally_many(masked: Wearers) -> None:
    with pytest.raises(ValueError, match="alphas"):
        Wearers(masked.frames, masked.fits, masked.people, masked.names, masked.alphas[:2])  # type: ignore[index]
    part = masked.of([3, 4]).renumbered()
    assert part.names == ("person 1",)
    assert part.people.tolist() == [0, 0]
    assert part.alphas is not None
    assert Image.fromarray(part.alphas[part.rows_of([1])[0]]).getbbox() is not None


def test_masks_are_seen_on_some_photos_of_many(wearers: Wearers, masked: Wearers) -> None:
    part = replace(masked, alphas=None).of([7, 1, 3])

    seen = seen_masks(part, Lower())

    for own, whole in enumerate((7, 1, 3)):
        assert np.array_equal(seen.alphas[seen.rows_of([own])], masked.alphas[[whole]])  # type: ignore[index]
    assert seen.wearable.tolist() == [True, True, False]
    faces = seen.faces([1], 112)
    same = masked.wear(masked.faces([1], 112), [1], torch.ones(1, 3, 8, 8))
    assert torch.equal(seen.wear(faces, [1], torch.ones(1, 3, 8, 8)), same)
