"""A small denoiser that repairs only the patches that look attacked.

Chen et al., "Patch Selection Denoiser: An Effective Approach Defending Against One-Pixel Attacks",
ICONIP 2019: a network trained to undo scattered pixel changes denoises the image; then only
patches with a pixel that it moves far are taken from its output, the rest stays as it was, which
keeps clean accuracy.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from services.worker.defenses.base import FixedDefense, derive, straight_through
from services.worker.defenses.pixels import check_images, to_grid
from services.worker.stopping import CancelCheck

WEIGHTS = Path(__file__).parent / "patch_denoiser.safetensors"
_WIDTH = 24
_MOST_PIXELS = 8


class DenoiserNetwork(nn.Module):
    """Four 3x3 convolutions that predict what to add to an image ``(N, 3, H, W)``."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, _WIDTH, 3, padding=1, padding_mode="replicate"),
            nn.ReLU(),
            nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1, padding_mode="replicate"),
            nn.ReLU(),
            nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1, padding_mode="replicate"),
            nn.ReLU(),
            nn.Conv2d(_WIDTH, 3, 3, padding=1, padding_mode="replicate"),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return the denoised images, not clipped."""
        change: Tensor = self.layers(images)
        return images + change


class PatchDenoiser(FixedDefense):
    """Replaces patches by their denoised version where the denoiser finds a spoiled pixel.

    A patch, ``patch`` pixels square, is replaced if the denoiser moves a value in it by more than
    ``threshold`` (of the range [0, 1]); patches tile the image from its upper left corner.

    ``network`` defaults to the one shipped beside this module. The gradient for attacks is the
    denoiser's own where a patch was replaced and the identity elsewhere.
    """

    name = "patch_denoiser"

    def __init__(
        self, *, patch: int = 2, threshold: float = 0.4, network: DenoiserNetwork | None = None
    ) -> None:
        if patch < 1:
            raise ValueError("a patch has at least one pixel")
        if not 0 < threshold < 1:
            raise ValueError(f"a threshold of {threshold} cannot be used: take one in (0, 1)")
        self.patch, self.threshold = patch, threshold
        self.network = network or load_denoiser()

    def transform(self, images: Tensor) -> Tensor:
        check_images(images)
        with torch.no_grad():
            return to_grid(self._select(images.detach()))

    def differentiable(
        self, images: Tensor, *, seed: int = 0, indices: Sequence[int] | None = None
    ) -> Tensor:
        del seed, indices
        check_images(images)
        return straight_through(self._select(images), self.transform(images))

    def _select(self, images: Tensor) -> Tensor:
        denoised = self.network.to(images.device)(images).clamp(0, 1)
        moved = (denoised - images).abs().amax(1, keepdim=True)
        peaks = functional.max_pool2d(moved, self.patch, ceil_mode=True)
        spread = peaks.repeat_interleave(self.patch, 2).repeat_interleave(self.patch, 3)
        chosen = spread[..., : images.shape[2], : images.shape[3]] > self.threshold
        return torch.where(chosen, denoised, images)


def load_denoiser(path: Path = WEIGHTS) -> DenoiserNetwork:
    """Load a denoiser, ready to use. Raises ``FileNotFoundError`` if the weights are missing."""
    network = DenoiserNetwork()
    network.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    return network.eval().requires_grad_(False)


def save_denoiser(network: DenoiserNetwork, path: Path) -> None:
    """Write the weights as float16."""
    save_file(
        {name: value.half().contiguous() for name, value in network.state_dict().items()}, path
    )


def train_denoiser(
    images: Tensor,
    *,
    steps: int = 1200,
    batch: int = 32,
    seed: int = 0,
    progress: Callable[[int, int, str], None] | None = None,
    check_cancel: CancelCheck | None = None,
) -> DenoiserNetwork:
    """Train a denoiser on clean images ``(N, 3, H, W)`` in [0, 1] with pixels spoiled at random.

    Each image of a batch gets 0 to 8 pixels of random color; the loss is the mean absolute error
    to the clean image, over the spoiled pixels and over all. The same seed on the same machine
    gives the same network.
    """
    check_images(images)
    if steps < 1 or batch < 1:
        raise ValueError("training needs at least one step of at least one image")
    source = torch.Generator().manual_seed(derive(seed))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, 0))
        network = DenoiserNetwork().to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        if check_cancel is not None:
            check_cancel()
        clean = images[torch.randint(len(images), (batch,), generator=source)]
        clean = clean.contiguous(memory_format=torch.channels_last)
        spoiled = spoil(clean, source)
        error = (network(spoiled) - clean).abs().mean(1)
        touched = (spoiled != clean).any(1)
        # The few spoiled pixels weigh as much as all others: else changing nothing is the optimum.
        loss = error[touched].sum() / touched.sum().clamp_min(1) + error.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if progress is not None:
            progress(step + 1, steps, "training the denoiser")
    return network.eval().requires_grad_(False)


def spoil(images: Tensor, source: torch.Generator) -> Tensor:
    """Return images with 0 to 8 pixels each of random color, half of them of extreme color."""
    count, _, height, width = images.shape
    spoiled = images.clone()
    spots = torch.randint(height * width, (count, _MOST_PIXELS), generator=source)
    used = torch.arange(_MOST_PIXELS) < torch.randint(
        _MOST_PIXELS + 1, (count, 1), generator=source
    )
    colors = torch.rand(count, _MOST_PIXELS, 3, generator=source)
    extreme = torch.rand(count, _MOST_PIXELS, 1, generator=source) < 0.5
    colors = torch.where(extreme, colors.round(), colors)
    image, number = used.nonzero(as_tuple=True)
    spot = spots[image, number]
    spoiled[image, :, spot // width, spot % width] = colors[image, number]
    return spoiled
