"""Trains the generators of ``research.papers.masks``, side by side, and keeps what they draw."""

import hashlib
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from research.papers.masks.page import Named
from services.worker.datasets.identities import middle_face, photos_of, read_photo
from services.worker.evaluation.metrics import wilson
from services.worker.faces.detection import FaceDetector
from services.worker.masks.designs import Designs, draw
from services.worker.masks.evaluation import named_right
from services.worker.masks.generators import build_generator, condition_of
from services.worker.masks.outlines import plain
from services.worker.masks.training import TEMPLATES, MaskConfig, MaskRun, train_masks
from services.worker.masks.wearers import Wearers, aligned_wearer, gather
from services.worker.models.recognizers import Recognizer, recognizer_of
from services.worker.models.registry import find_models

SEED = 3
DESIGNS = 8
WEIGHT = "weights."

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """A generator to be trained, and the recognizers of the registry that it is trained against."""

    name: str
    against: tuple[str, ...]
    config: MaskConfig


@dataclass(frozen=True)
class Trained:
    """A generator, and whom its discriminator knows."""

    generator: nn.Module
    seconds: float
    named: Named | None

    def designs(self, embeddings: Tensor | None = None) -> Designs:
        """Draw eight designs: for anybody, or for the people of embeddings ``(P, D)``."""
        return draw(self.generator, DESIGNS, seed=SEED, embeddings=embeddings)


def read_wearers(
    root: Path, detector: FaceDetector, *, photos: int, people: int | None, seed: int
) -> Wearers:
    """Align so many photos of so many people, drawn at random; all people where none is given."""
    rows: dict[str, list[Path]] = {}
    for name, path in photos_of(root):
        rows.setdefault(name, []).append(path)
    names = sorted(rows)
    if people is not None and people < len(names):
        drawn = np.random.default_rng(seed).choice(len(names), people, replace=False)
        names = sorted(names[index] for index in drawn)
    found = []
    for name in names:
        for path in rows[name][:photos]:
            photo = read_photo(path)
            face = middle_face(photo, detector.detect)
            if face is not None:
                found.append((name, *aligned_wearer(photo, face)))
    return gather(found)


def at_least(wearers: Wearers, photos: int) -> Wearers:
    """Keep the people with so many photos, numbered anew."""
    counts = torch.bincount(wearers.people, minlength=len(wearers.names))
    which = torch.nonzero(counts[wearers.people] >= photos)[:, 0].tolist()
    return wearers.of(which).renumbered()


@dataclass(frozen=True)
class Shop:
    """Trains generators once on the same wearers, several side by side, and keeps them."""

    wearers: Wearers
    folder: Path
    processes: int
    say: Say

    def trained(self, plans: Sequence[Plan]) -> Iterator[tuple[Plan, Trained]]:
        """Yield plans with what was made of them, in their order."""
        self.folder.mkdir(parents=True, exist_ok=True)
        paths = {plan: self.folder / f"{self._key(plan)}.npz" for plan in plans}
        missing = [plan for plan in plans if not paths[plan].is_file()]
        for plan, made in zip(missing, self._make(missing), strict=True):
            part = paths[plan].with_suffix(".part.npz")
            np.savez(part, allow_pickle=False, **made)
            part.replace(paths[plan])
            self.say(f"  trained {plan.name} in {float(made['seconds']):.0f} s")
        for plan in plans:
            yield plan, _read(plan, paths[plan])

    def _make(self, plans: Sequence[Plan]) -> Iterable[Mapping[str, NDArray[np.generic]]]:
        if self.processes == 1 or len(plans) < 2:
            return (_made(self.wearers, plan) for plan in plans)
        return self._side_by_side(plans)

    def _side_by_side(self, plans: Sequence[Plan]) -> Iterator[Mapping[str, NDArray[np.generic]]]:
        # One thread each: two trainings on a core each take less than one on two.
        with ProcessPoolExecutor(
            self.processes,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=torch.set_num_threads,
            initargs=(1,),
        ) as pool:
            yield from pool.map(_made, [self.wearers] * len(plans), plans)

    def _key(self, plan: Plan) -> str:
        weights = [find_models()[name][0].sha256 for name in plan.against]
        text = f"{asdict(plan.config)} {weights} {self.wearers.names} {len(self.wearers)} {TRAINED}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]


TRAINED = 3  # counted up when the same settings train another generator


def _made(wearers: Wearers, plan: Plan) -> dict[str, NDArray[np.generic]]:
    surrogates = [recognizer_of(*find_models()[name]) for name in plan.against]
    run = train_masks(wearers, surrogates, plan.config)
    weights = run.generator.state_dict()
    return {
        "seconds": np.array(run.seconds),
        "named": _named(wearers, surrogates, run),
        **{f"{WEIGHT}{name}": weight.numpy() for name, weight in weights.items()},
    }


def _named(wearers: Wearers, surrogates: Sequence[Recognizer], run: MaskRun) -> NDArray[np.int64]:
    """Count right names, and all, in generated masks, template masks, and bare: ``(3, 2)``."""
    if not run.heads:
        return np.zeros((0, 2), dtype=np.int64)
    designs = draw(run.generator, DESIGNS, seed=SEED)
    templates = torch.cat([plain(color) for color in TEMPLATES])
    rates = [
        named_right(wearers, surrogates[0], run.heads[0], worn)
        for worn in (designs, templates, None)
    ]
    return np.array([(rate.successes, rate.total) for rate in rates], dtype=np.int64)


def _read(plan: Plan, path: Path) -> Trained:
    with np.load(path) as kept:
        weights = {
            name.removeprefix(WEIGHT): torch.from_numpy(kept[name])
            for name in kept.files
            if name.startswith(WEIGHT)
        }
        seconds = float(kept["seconds"])
        rates = [wilson(right, total) for right, total in kept["named"].tolist()]
    architecture = plan.config.generator
    generator = build_generator(architecture, seed=0, condition=condition_of(weights))
    generator.load_state_dict(weights)
    return Trained(generator.eval(), seconds, Named(*rates) if rates else None)
