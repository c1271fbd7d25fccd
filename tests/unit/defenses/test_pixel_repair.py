"""Pixel repair finds the pixels that an attack set and leaves the others alone."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from services.worker.defenses.pixel_repair import PixelRepair

Maker = Callable[..., Tensor]


class Peaks(nn.Module):
    """Class 1 in proportion to how many values are pure red: easy to attack by pixels."""

    def forward(self, images: Tensor) -> Tensor:
        red = (images[:, 0] - images[:, 1:].amax(1)).clamp_min(0.9) - 0.9
        score = 40 * red.sum((1, 2)) - 1
        return torch.stack([-score, score], dim=1)


@pytest.mark.parametrize("spots", [[(5, 9)], [(5, 9), (0, 0), (23, 11)]])
def test_finds_the_attacked_pixels_and_restores_the_answer(
    spots: list[tuple[int, int]], pictures: Maker
) -> None:
    clean = 0.3 + 0.2 * pictures()
    clean = (clean * 255).round() / 255
    attacked = clean.clone()
    for row, column in spots:
        attacked[1, :, row, column] = torch.tensor([1.0, 0.0, 0.0])
    attacked[1, :, 15, 15] = torch.tensor([0.0, 1.0, 0.0])  # odd, but without effect
    model = Peaks()
    assert model(attacked).argmax(1).tolist() == [0, 1, 0]
    repair = PixelRepair(model).repair(attacked)
    assert model(repair.images).argmax(1).tolist() == [0, 0, 0]
    assert {tuple(spot) for spot in repair.positions[1].tolist()} == set(spots)
    torch.testing.assert_close(repair.images[[0, 2]], clean[[0, 2]])
    changed = (repair.images[1] != attacked[1]).any(0).nonzero().tolist()
    assert sorted(changed) == sorted(repair.positions[1].tolist())
    assert repair.effects[1][-1] >= 0.1


def test_can_be_canceled_and_refuses_bad_parameters(pictures: Maker) -> None:
    attacked = pictures()
    attacked[:, :, 5, 5] = torch.tensor([1.0, 0.0, 0.0])

    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        PixelRepair(Peaks()).repair(attacked, check_cancel=stop)
    for parameters in ({"pixels": 0}, {"contrast": 2.0}, {"threshold": -1.0}, {"batch": 0}):
        with pytest.raises(ValueError, match=r"pixel|contrast"):
            PixelRepair(Peaks(), **parameters)  # type: ignore[arg-type]
