"""Trains a generator of mask designs against face recognizers.

Free training moves every wearer away from their own gallery photo. Experiments 0 to 3 are paper
004's: a discriminator, the recognizer with a new last layer, learns to tell the wearers apart, in
turn with the generator. 0: it learns from bare faces once, and stands still. 1: from generated
masks. 2: from bare faces besides. 3: from plain masks besides (the same people in template masks,
since photos of identified people in real masks are not at hand).
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from services.worker.masks.designs import draw
from services.worker.masks.generators import Architecture, build_generator, conditioned, latents
from services.worker.masks.outlines import Shape, plain
from services.worker.masks.projector import random_wearing
from services.worker.masks.terms import likeness, non_printability, total_variation
from services.worker.masks.wearers import Wearers, gallery
from services.worker.models.optimized.frozen import quickened, with_bf16_weights
from services.worker.models.recognizers import Recognizer
from services.worker.stopping import CancelCheck

Experiment = Literal["free", "0", "1", "2", "3"]
L1 = 0.01  # paper 004's lambda on the discriminator's weights
TEMPLATES = ((0.35, 0.6, 0.85), (0.92, 0.92, 0.92), (0.15, 0.15, 0.17))
HEAD_LR = 0.01
COSINE_SCALE = 16.0


@dataclass(frozen=True, kw_only=True)
class MaskConfig:
    """Settings of a run; an epoch takes one photo of every person."""

    generator: Architecture = "convolutional"
    experiment: Experiment = "free"
    shape: Shape = "surgical"
    epochs: int = 100
    batch_size: int = 32
    max_lr: float = 5e-3
    variation: float = 0.1  # weight of total variation (Zolfi et al. 2022)
    printability: float = 0.1
    diversity: float = 0.05
    drawn: int = 8  # designs a step, each worn by several people
    conditional: bool = False  # each wearer has a design of their own, drawn from their embedding
    bf16: bool = False  # ask the recognizers in bfloat16; galleries stay as they see them
    seed: int = 0

    def __post_init__(self) -> None:
        checks = (
            (self.epochs >= 1, "epochs start at 1"),
            (self.batch_size >= 2, "batch_size starts at 2"),
            (self.max_lr > 0, "max_lr is positive"),
            (self.drawn >= 2, "drawn starts at 2: designs are kept unlike each other"),
            (min(self.variation, self.printability, self.diversity) >= 0, "weights: from 0"),
        )
        for holds, text in checks:
            if not holds:
                raise ValueError(text)


@dataclass(frozen=True)
class MaskEpoch:
    """Means of one epoch."""

    number: int
    similarity: float
    variation: float
    printability: float
    likeness: float
    discriminator_loss: float | None


@dataclass
class MaskRun:
    """A generator as trained so far.

    ``heads`` are the discriminators' last layers, one a recognizer: embeddings ``(N, D)`` to logits
    of the wearers' people ``(N, P)``. Free training has none.
    """

    generator: nn.Module
    history: list[MaskEpoch]
    seconds: float
    heads: list[nn.Module] = field(default_factory=list)


@dataclass(frozen=True)
class LiveRun:
    """A run after an epoch; ``draw`` makes designs ``(N, 3, 128, 128)`` of a number and a seed."""

    epoch: MaskEpoch
    draw: Callable[[int, int], Tensor]


State = dict[str, Any]
Save = Callable[[State], None]
EpochProgress = Callable[[MaskEpoch, int], None]


def train_masks(
    wearers: Wearers,
    recognizers: Sequence[Recognizer],
    config: MaskConfig,
    *,
    progress: EpochProgress | None = None,
    watch: Callable[[LiveRun], None] | None = None,
    check_cancel: CancelCheck | None = None,
    save: Save | None = None,
    resume: State | None = None,
) -> MaskRun:
    """Train a generator on wearers ``0 … P - 1``, each with at least one photo.

    A ``conditional`` generator takes latent vectors with the wearers' embeddings appended
    (``conditioned``), as the first recognizer sees them on clean photos.

    ``save`` receives the state after every epoch; with it as ``resume`` a run goes on and ends with
    the same weights as an unbroken one. Raises ``ValueError`` without a recognizer, or where an
    experiment has fewer than two people to tell apart.
    """
    if not recognizers:
        raise ValueError("masks are trained against at least one recognizer")
    if config.experiment != "free" and len(wearers.names) < 2:
        raise ValueError("an experiment tells people apart: it takes at least two")
    run = _Run(wearers, recognizers, config)
    if resume is not None:
        run.load(resume)
    while run.epoch < config.epochs:
        run.one_epoch(check_cancel)
        if progress is not None:
            progress(run.history[-1], config.epochs)
        if watch is not None:
            watch(LiveRun(run.history[-1], run.drawn))
        if save is not None:
            save(run.state())
    heads: list[nn.Module] = [head.eval() for head in run.heads]
    return MaskRun(run.generator.eval(), run.history, run.seconds, heads)


class _Run:
    def __init__(
        self, wearers: Wearers, recognizers: Sequence[Recognizer], config: MaskConfig
    ) -> None:
        self.wearers, self.config = wearers, config
        self.recognizers = [quickened(one) for one in recognizers]
        if config.bf16:
            self.recognizers = [with_bf16_weights(one) for one in self.recognizers]
        self.device = recognizers[0].device
        self.side = max(one.frame_side for one in recognizers)
        # Computed once: people's clean photos do not change, and a mean a person is little.
        self.galleries = [gallery(wearers, one).to(self.device) for one in recognizers]
        condition = self.galleries[0].shape[1] if config.conditional else 0
        generator = build_generator(config.generator, seed=config.seed, condition=condition)
        self.generator = generator.to(self.device).to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.Adam(
            self.generator.parameters(), lr=config.max_lr, betas=(0.5, 0.999)
        )
        self.photos = _by_person(wearers, wearers.wearable)
        self.bare = [photos[0] for photos in _by_person(wearers, wearers.known_by)]
        self.heads = [_Head(own) for own in self.galleries] if self.plays else []
        self.head_optimizers = [
            torch.optim.Adam(head.parameters(), lr=HEAD_LR) for head in self.heads
        ]
        self.epoch = 0
        self.history: list[MaskEpoch] = []
        self.seconds = 0.0

    @property
    def plays(self) -> bool:
        return self.config.experiment != "free"

    def one_epoch(self, check_cancel: CancelCheck | None) -> None:
        began = time.perf_counter()
        generator = torch.Generator().manual_seed(self._seed())
        people = torch.randperm(len(self.photos), generator=generator)
        sums: dict[str, float] = {}
        steps = 0
        for part in people.split(self.config.batch_size):
            if check_cancel is not None:
                check_cancel()
            which = torch.stack(
                [
                    self.photos[person][
                        torch.randint(len(self.photos[person]), (1,), generator=generator)
                    ][0]
                    for person in part.tolist()
                ]
            )
            figures = self._step(which, generator)
            for name, value in figures.items():
                sums[name] = sums.get(name, 0.0) + value * len(part)
            steps += len(part)
        self.epoch += 1
        mean = {name: value / steps for name, value in sums.items()}
        self.seconds += time.perf_counter() - began
        self.history.append(
            MaskEpoch(
                self.epoch,
                mean["similarity"],
                mean["variation"],
                mean["printability"],
                mean["likeness"],
                mean.get("discriminator"),
            )
        )

    def _seed(self) -> int:
        seed = np.random.SeedSequence([self.config.seed, self.epoch])
        return int(seed.generate_state(1, np.uint64)[0] >> 1)

    def _rate(self) -> float:
        share = self.epoch / self.config.epochs
        return self.config.max_lr * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * share)))

    def _step(self, which: Tensor, generator: torch.Generator) -> dict[str, float]:
        config = self.config
        faces = self.wearers.faces(which, self.side).to(self.device)
        people = self.wearers.people[which].to(self.device)
        designs = self._draw(people, generator)
        turn = torch.arange(len(which), device=self.device) % len(designs)
        wearing = random_wearing(len(which), generator)
        worn = self.wearers.wear(faces, which, designs[turn], shape=config.shape, wearing=wearing)
        figures: dict[str, float] = {}
        if self.plays:
            figures["discriminator"] = self._teach(faces, worn.detach(), which, people, generator)
        similar, loss = self._judged(worn, people)
        variation = total_variation(designs).mean()
        printability = non_printability(_thinned(designs, generator)).mean()
        alike = likeness(designs)
        total = (
            loss
            + config.variation * variation
            + config.printability * printability
            + config.diversity * alike
        )
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate()
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        self.optimizer.step()
        return figures | {
            "similarity": similar,
            "variation": float(variation.detach()),
            "printability": float(printability.detach()),
            "likeness": float(alike.detach()),
        }

    def _draw(self, people: Tensor, generator: torch.Generator) -> Tensor:
        """Draw a step's designs: one for each wearer, or a few that are dealt out."""
        if self.config.conditional:
            drawn = latents(len(people), generator).to(self.device)
            drawn = conditioned(drawn, self.galleries[0][people])
        else:
            drawn = latents(min(self.config.drawn, len(people)), generator).to(self.device)
        designs: Tensor = self.generator(drawn)
        return designs

    def drawn(self, count: int, seed: int) -> Tensor:
        """Draw designs as the generator is now; conditional ones for one wearer after the other."""
        known = self.galleries[0] if self.config.conditional else None
        return draw(self.generator, count, seed=seed, embeddings=known).shown

    def _judged(self, worn: Tensor, people: Tensor) -> tuple[float, Tensor]:
        """Return the mean similarity of the wearers to themselves, and the generator's loss."""
        similar, loss = 0.0, worn.new_zeros(())
        for place, recognizer in enumerate(self.recognizers):
            embeddings = self._embedded(recognizer, worn)
            own = (embeddings * self.galleries[place][people]).sum(1)
            similar += float(own.detach().mean()) / len(self.recognizers)
            if self.plays:
                known = self.heads[place](embeddings).softmax(1)
                right = known.gather(1, people[:, None])[:, 0].clamp(max=1 - 1e-6)
                part = -(1 - right).log().mean()  # bounded from below, unlike the likelihood
            else:
                part = own.mean()
            loss = loss + part / len(self.recognizers)
        return similar, loss

    def _teach(
        self, faces: Tensor, worn: Tensor, which: Tensor, people: Tensor, generator: torch.Generator
    ) -> float:
        """Let the discriminator learn what its experiment shows it; returns its loss."""
        bare = self._bare(faces, people)
        shown = {"0": [], "1": [worn], "2": [worn, bare], "3": [worn, bare]}[self.config.experiment]
        if self.config.experiment == "0" and self.epoch == 0:
            shown = [bare]
        if self.config.experiment == "3":
            pick = int(torch.randint(len(TEMPLATES), (1,), generator=generator))
            template = plain(TEMPLATES[pick]).to(faces)
            shown = [
                *shown,
                self.wearers.wear(faces, which, template, shape=self.config.shape),
            ]
        if not shown:
            return 0.0
        total = 0.0
        for place, recognizer in enumerate(self.recognizers):
            head, optimizer = self.heads[place], self.head_optimizers[place]
            with torch.no_grad():
                embeddings = torch.cat([self._embedded(recognizer, images) for images in shown])
            loss = functional.cross_entropy(head(embeddings), people.repeat(len(shown)))
            loss = loss + L1 * head.weight.abs().mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += float(loss.detach()) / len(self.recognizers)
        return total

    def _embedded(self, recognizer: Recognizer, faces: Tensor) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.bf16):
            return recognizer.of_frames(faces.contiguous(memory_format=torch.channels_last))

    def _bare(self, faces: Tensor, people: Tensor) -> Tensor:
        """Return the wearers' faces without the masks that they may wear on their photos."""
        if self.wearers.alphas is None:
            return faces
        photos = [int(self.bare[person]) for person in people.tolist()]
        return self.wearers.faces(photos, self.side).to(self.device)

    def state(self) -> State:
        """Return everything that the next epoch depends on."""
        return {
            "epoch": self.epoch,
            "seconds": self.seconds,
            "history": [vars(one) for one in self.history],
            "generator": self.generator.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "heads": [head.state_dict() for head in self.heads],
            "head_optimizers": [one.state_dict() for one in self.head_optimizers],
        }

    def load(self, state: State) -> None:
        self.epoch, self.seconds = state["epoch"], state["seconds"]
        self.history = [MaskEpoch(**one) for one in state["history"]]
        self.generator.load_state_dict(state["generator"])
        self.optimizer.load_state_dict(state["optimizer"])
        for head, kept in zip(self.heads, state["heads"], strict=True):
            head.load_state_dict(kept)
        for optimizer, kept in zip(self.head_optimizers, state["head_optimizers"], strict=True):
            optimizer.load_state_dict(kept)


def _by_person(wearers: Wearers, chosen: NDArray[np.bool_]) -> list[Tensor]:
    """Return each person's photos among those chosen; raises ``ValueError`` for one without."""
    own = torch.from_numpy(chosen)
    photos = [
        torch.nonzero((wearers.people == person) & own)[:, 0]
        for person in range(len(wearers.names))
    ]
    if not all(len(those) for those in photos):
        raise ValueError("somebody has no photo on which a design can be worn")
    return photos


def _thinned(designs: Tensor, generator: torch.Generator) -> Tensor:
    """Keep every fourth pixel each way, from a random one on: a sample stands for all of them."""
    row, column = torch.randint(4, (2,), generator=generator).tolist()
    return designs[..., row::4, column::4]


class _Head(nn.Module):
    """The recognizer's new last layer: cosines to a vector a person; it starts at the gallery."""

    def __init__(self, own: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(own.clone())

    def forward(self, embeddings: Tensor) -> Tensor:
        return COSINE_SCALE * embeddings @ functional.normalize(self.weight).T
