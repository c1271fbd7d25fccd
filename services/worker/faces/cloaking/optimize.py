"""Searches for a face's cloak: momentum on the sign of the gradient, through random changes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from services.worker.faces.alignment import FRAME, MARGIN
from services.worker.faces.cloaking.changes import blur
from services.worker.faces.cloaking.color import from_lab, to_lab
from services.worker.faces.cloaking.config import CloakConfig
from services.worker.faces.cloaking.copies import KINDS, SMALLEST_COPY, as_shared
from services.worker.faces.cloaking.visibility import (
    chroma_visibility,
    likeness,
    spared,
    visibility,
)
from services.worker.models.optimized.frozen import quickened
from services.worker.models.recognizers import Recognizer
from services.worker.models.skip_gradient import soften
from services.worker.stopping import CancelCheck

START = 0.4  # of the widest change: what no recognizer looks at keeps it
URGENCY = 4.0  # of similarities in a softmax over the recognizers
HEEDED = 0.7  # share of the earlier similarities in a recognizer's running mean
RECENT = 0.8  # share of the earlier similarities in their running mean
SPOILED = 20.0  # what a likeness lost beyond the one asked for weighs beside a similarity

ENLARGED = 0.8  # photo pixels a frame pixel; under it the frame shows a face notably enlarged

StepProgress = Callable[[int, int, float], None]
"""Receives the step, their number and the mean similarity so far."""


@dataclass(frozen=True)
class Subject:
    """One face to cloak.

    ``frame`` is float ``(3, 160, 160)`` in [0, 1]; ``scale`` is photo pixels a frame pixel;
    ``gray`` keeps the change the same in all channels. ``others`` are further aligned photos of the
    person ``(K, 3, 160, 160)``; ``targets`` has an embedding ``(D,)`` a recognizer, to move to.
    """

    frame: Tensor
    scale: float
    seed: int
    gray: bool = False
    others: Tensor | None = None
    targets: tuple[Tensor, ...] | None = None


@dataclass(frozen=True)
class Cloak:
    """The change of one face: ``(3, 160, 160)``, in 1/255, at most eps in size, and its search."""

    change: Tensor
    steps: int
    similarity: float


def cloak_faces(
    subjects: Sequence[Subject],
    recognizers: Sequence[Recognizer],
    config: CloakConfig,
    *,
    progress: StepProgress | None = None,
    check_cancel: CancelCheck | None = None,
) -> list[Cloak]:
    """Find a cloak for every face, all of them in one batch.

    Untargeted: away from the face's own embedding (and those of its other photos), on average over
    the recognizers. Targeted: towards the target's. Raises ``ValueError`` without a recognizer.
    """
    if not recognizers:
        raise ValueError("a cloak is made against at least one recognizer")
    if not subjects:
        return []
    search = _Search(subjects, recognizers, config)
    for step in range(config.steps):
        if check_cancel is not None:
            check_cancel()
        similarity = search.step(step)
        if progress is not None:
            progress(step + 1, config.steps, similarity)
        if not search.active:
            break
    return search.cloaks()


class _Search:
    def __init__(
        self, subjects: Sequence[Subject], recognizers: Sequence[Recognizer], config: CloakConfig
    ) -> None:
        device = recognizers[0].device
        self.subjects, self.config = subjects, config
        self.recognizers = [_with_skip_gradient(one, config.branches) for one in recognizers]
        self.frames = torch.stack([subject.frame for subject in subjects]).to(device)
        share = visibility(self.frames, config.perceptual) * spared().to(self.frames)
        self.light = share * config.eps / 255
        self.lab = to_lab(self.frames)
        self.color = share * chroma_visibility(self.lab) * config.chroma * config.color
        self.same = from_lab(self.lab)  # the frames, but for rounding
        self.generators = [torch.Generator().manual_seed(subject.seed) for subject in subjects]
        self.grids = [self._start(number).to(device) for number in range(len(subjects))]
        self.momenta = [torch.zeros_like(grid) for grid in self.grids]
        self.active = list(range(len(subjects)))
        self.similar = [1.0] * len(subjects)
        self.known = self.frames.new_ones(len(recognizers), len(subjects))
        self.steps_taken = [0] * len(subjects)
        with torch.no_grad():
            self.own = [self._own(recognizer) for recognizer in recognizers]

    def _start(self, number: int) -> Tensor:
        subject = self.subjects[number]
        # A photo with fewer pixels than the frame holds no finer change than its own pixels.
        cells = max(4, round(FRAME * min(1.0, subject.scale) / self.config.cell))
        channels = 1 if subject.gray else 3
        draw = torch.rand(1, channels, cells, cells, generator=self.generators[number])
        return START * (draw - 0.5)

    def _own(self, recognizer: Recognizer) -> Tensor:
        clean = recognizer.of_frames(self.frames) + recognizer.of_frames(self.frames.flip(3))
        rows = []
        for number, subject in enumerate(self.subjects):
            row = functional.normalize(clean[number], dim=0)
            if subject.others is not None and len(subject.others):
                further = recognizer.of_frames(subject.others.to(self.frames))
                row = functional.normalize(row + further.sum(0), dim=0)
            rows.append(row)
        return torch.stack(rows)

    def changes(self, numbers: Sequence[int], grids: Sequence[Tensor]) -> Tensor:
        """Return the changes of some frames, ``(N, 3, 160, 160)`` in [0, 1] units."""
        rows = list(numbers)
        bound = self.config.eps / 255
        fields = [
            functional.interpolate(grid, (FRAME, FRAME), mode="bilinear", align_corners=False)
            for grid in grids
        ]
        light = torch.cat([field[:, :1] for field in fields]) * self.light[rows]
        zeros = light.new_zeros(1, 2, 1, 1)  # a gray photo has no colors to change
        tints = [field[:, 1:] if field.shape[1] > 1 else field * zeros for field in fields]
        moved = self.lab[rows] + functional.pad(
            torch.cat(tints) * self.color[rows], (0, 0, 0, 0, 1, 0)
        )
        color = from_lab(moved) - self.same[rows]
        return (light + color).clamp(-bound, bound)

    def step(self, step: int) -> float:
        """Take one step; returns the mean similarity of the faces still searched for."""
        grids = [self.grids[number].detach().requires_grad_() for number in self.active]
        total = self.frames.new_zeros(len(self.active))
        for _ in range(self.config.samples):
            changed = (self.frames[self.active] + self.changes(self.active, grids)).clamp(0, 1)
            seen = as_shared(
                changed,
                [self.subjects[number].scale for number in self.active],
                [self.generators[number] for number in self.active],
                self.config.strength,
                step,
            )
            similarities, losses = self._judged(seen, step)
            losses = losses + self._spoiled(changed)
            total += similarities.detach() / self.config.samples
            (losses.sum() / self.config.samples).backward()
        size = 2.0 * self._pace(step)
        for place, (number, grid) in enumerate(zip(self.active, grids, strict=True)):
            gradient = self._smooth(_gradient(grid))
            mean = gradient.abs().mean().clamp(min=1e-12)
            self.momenta[number] = self.config.momentum * self.momenta[number] + gradient / mean
            moved = self.grids[number] - size * self.momenta[number].sign()
            self.grids[number] = moved.clamp(-1, 1)
            self.similar[number] = RECENT * self.similar[number] + (1 - RECENT) * float(
                total[place]
            )
            self.steps_taken[number] += 1
        if self.config.stop_below is not None:
            limit = self.config.stop_below
            self.active = [number for number in self.active if self.similar[number] >= limit]
        return float(total.mean())

    def _pace(self, step: int) -> float:
        """Return the step's size as a share of eps: long at first, short at the end."""
        left = 1 - step / self.config.steps
        return max(0.02, min(0.25, 4.0 / self.config.steps)) * (0.2 + 0.8 * left)

    def _smooth(self, gradient: Tensor) -> Tensor:
        return blur(gradient, [self.config.smooth]) if self.config.smooth else gradient

    def _asked(self, step: int) -> list[int]:
        """Return the places of the recognizers that a step asks."""
        places = range(len(self.recognizers))
        if not self.config.turns:
            return list(places)
        # Not in step with the copies, of which there are four kinds: each is seen by each.
        return [places[(step + step // KINDS) % len(places)]]

    def _weights(self, asked: Sequence[int]) -> Tensor:
        """Return the recognizers' shares in the losses of the faces searched for, ``(R, N)``.

        Who still knows a face counts most, so that none is left behind.
        """
        known = self.known[list(asked)][:, self.active]
        return torch.softmax(URGENCY * known, 0)

    def _judged(self, seen: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Return the faces' similarities to themselves and the losses, ``(N,)`` each."""
        similar, loss = seen.new_zeros(len(seen)), seen.new_zeros(len(seen))
        asked = self._asked(step)
        weights = self._weights(asked)
        for row_of_weights, place in zip(weights, asked, strict=True):
            recognizer = self.recognizers[place]
            embeddings = recognizer.of_frames(seen.contiguous(memory_format=torch.channels_last))
            own = (embeddings * self.own[place][self.active]).sum(1)
            known = self.known[place, self.active]
            self.known[place, self.active] = HEEDED * known + (1 - HEEDED) * own.detach()
            similar = similar + own / len(asked)
            goals = []
            for row, number in enumerate(self.active):
                targets = self.subjects[number].targets
                goal = own[row]
                if targets is not None:
                    goal = goal - 2 * (embeddings[row] @ targets[place].to(embeddings))
                goals.append(goal)
            goal_of_all = torch.stack(goals)
            if self.config.statistics and recognizer.knows_faces:
                usual = _usualness(embeddings, recognizer)
                goal_of_all = goal_of_all + self.config.statistics * usual
            loss = loss + row_of_weights * goal_of_all
        return similar, loss

    def _spoiled(self, changed: Tensor) -> Tensor:
        """Return what it costs that faces look less like themselves than asked, ``(N,)``."""
        asked = self.config.likeness
        if asked is None:
            return changed.new_zeros(len(changed))
        rows = []
        for face, number in zip(changed, self.active, strict=True):
            pair = torch.stack([self.frames[number], face])[..., MARGIN:-MARGIN, MARGIN:-MARGIN]
            scale = self.subjects[number].scale
            if scale < ENLARGED:  # a change is looked at in the photo's own pixels
                side = max(SMALLEST_COPY, round(pair.shape[-1] * scale))
                pair = functional.interpolate(pair, (side, side), mode="bilinear", antialias=True)
            rows.append(likeness(pair[:1], pair[1:])[0])
        return SPOILED * (asked - torch.stack(rows)).clamp(min=0)

    def cloaks(self) -> list[Cloak]:
        with torch.no_grad():
            changes = 255 * self.changes(range(len(self.grids)), self.grids)
        return [
            Cloak(change.cpu().clone(), steps, similar)
            for change, steps, similar in zip(changes, self.steps_taken, self.similar, strict=True)
        ]


def _with_skip_gradient(recognizer: Recognizer, share: float) -> Recognizer:
    quick = quickened(recognizer)
    soften(quick, share)
    return quick


def _gradient(grid: Tensor) -> Tensor:
    if grid.grad is None:
        raise RuntimeError("no gradient reached the perturbation")
    return grid.grad


def _usualness(embeddings: Tensor, recognizer: Recognizer) -> Tensor:
    """Return how much each embedding is like those of faces in general, ``(N,)``.

    The negative Mahalanobis distance to the embeddings of many people: it falls as a cloaked face
    leaves the region where any face is embedded, and needs neither a label nor anyone's photo.
    """
    spread = recognizer.face_covariance
    ridge = 1e-2 * spread.diagonal().mean() * torch.eye(len(spread), device=spread.device)
    apart = embeddings - recognizer.face_mean
    solved = torch.linalg.solve(spread + ridge, apart.T).T
    distances: Tensor = (apart * solved).sum(1) / embeddings.shape[1]
    return -distances.clamp(max=4.0)


def synthetic_identity(recognizer: Recognizer, seed: int) -> Tensor:
    """Draw an embedding ``(D,)`` of a person who does not exist.

    From the normal distribution that the embeddings of many people have. Raises ``ValueError`` for
    a recognizer without such statistics.
    """
    if not recognizer.knows_faces:
        raise ValueError(f"{recognizer.identifier} comes without statistics of faces")
    draws = np.random.default_rng(seed).standard_normal(len(recognizer.face_mean))
    values, vectors = torch.linalg.eigh(recognizer.face_covariance.double().cpu())
    drawn = vectors @ (values.clamp(min=0).sqrt() * torch.from_numpy(draws))
    return functional.normalize((recognizer.face_mean.double().cpu() + drawn).float(), dim=0)
