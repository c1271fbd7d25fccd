"""Shows a model many copies of images that differ in a few pixels."""

import torch
from torch import Tensor

from services.worker.attacks.oracle import Oracle


class Canvas:
    """A reused channels-last buffer: k pixels are written, the model is queried, they are restored.

    ``levels`` are the images ``(A, 3, H, W)`` in 0..255.
    """

    def __init__(self, oracle: Oracle, levels: Tensor) -> None:
        self._oracle = oracle
        clean = oracle.prepare(levels).contiguous(memory_format=torch.channels_last)
        _, channels, height, width = clean.shape
        self._pixels = height * width
        self._clean = clean.permute(0, 2, 3, 1).reshape(-1, channels)
        self._images = clean.permute(0, 2, 3, 1)
        self._buffer = torch.empty(oracle.batch, height, width, channels, device=clean.device)
        self._shown = torch.full((oracle.batch,), -1, device=clean.device)

    def logits(self, owners: Tensor, positions: Tensor, colors: Tensor) -> Tensor:
        """Return logits ``(M, C)`` of candidates.

        Candidate m is image ``owners[m]`` with the pixels ``positions[m]`` (k flat indices) set to
        ``colors[m]`` (``(k, 3)`` in 0..255). Of two pixels in one place the last counts.
        """
        if not len(owners):
            return self._oracle.logits(self._images[:0].permute(0, 3, 1, 2))
        painted = self._oracle.prepare_colors(last_of_each(positions, colors) / 255)
        answers = [
            self._ask(owners[part], positions[part], painted[part])
            for part in self._oracle.parts(len(owners))
        ]
        return torch.cat(answers)

    def _ask(self, owners: Tensor, positions: Tensor, painted: Tensor) -> Tensor:
        count = len(owners)
        buffer, shown = self._buffer[:count], self._shown[:count]
        if not torch.equal(shown, owners):
            torch.index_select(self._images, 0, owners, out=buffer)
            shown.copy_(owners)
        slots = torch.arange(count, device=owners.device)[:, None] * self._pixels
        where = (slots + positions).view(-1)
        pixels = buffer.view(-1, painted.shape[-1])
        pixels[where] = painted.reshape(-1, painted.shape[-1])
        answer = self._oracle.prepared_logits(buffer.permute(0, 3, 1, 2))
        pixels[where] = self._clean[(owners[:, None] * self._pixels + positions).view(-1)]
        return answer


def last_of_each(positions: Tensor, colors: Tensor) -> Tensor:
    """Give pixels of a candidate that share a place the color of the last of them.

    Writing one place twice in a single scatter leaves open which write wins.
    """
    k = positions.shape[1]
    if k == 1:
        return colors
    same = positions[:, :, None] == positions[:, None, :]
    last = (same * torch.arange(1, k + 1, device=positions.device)).argmax(2)
    return colors.gather(1, last[:, :, None].expand_as(colors))


def paint(levels: Tensor, positions: Tensor, colors: Tensor) -> Tensor:
    """Return copies of images ``(A, 3, H, W)`` with pixels ``(A, k)`` set to ``(A, k, 3)``."""
    painted = levels.clone(memory_format=torch.contiguous_format).flatten(2)
    places = positions[:, None, :].expand(-1, levels.shape[1], -1)
    painted.scatter_(2, places, last_of_each(positions, colors).transpose(1, 2))
    return painted.view(levels.shape)
