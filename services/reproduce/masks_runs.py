"""Trains the generators of ``services.reproduce.masks``, side by side, and keeps what they draw."""

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

from services.reproduce.masks_page import Named
from services.worker.faces.detection import FaceDetector
from services.worker.masks.evaluation import named_right
from services.worker.masks.generators import latents
from services.worker.masks.outlines import plain
from services.worker.masks.training import TEMPLATES, MaskConfig, train_masks
from services.worker.masks.wearers import Wearers, aligned_wearer, gather
from services.worker.models.recognizers import Recognizer, recognizer_of
from services.worker.models.registry import find_models
from services.worker.training.identities import middle_face, photos_of, read_photo
from services.worker.training.metrics import wilson

SEED = 3
DESIGNS = 8

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """A generator to be trained, and the recognizers of the registry that it is trained against."""

    name: str
    against: tuple[str, ...]
    config: MaskConfig


@dataclass(frozen=True)
class Trained:
    """What a generator draws, ``(8, 3, 128, 128)``, and whom its discriminator knows."""

    designs: Tensor
    seconds: float
    named: Named | None


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
    """Trains generators once on the same wearers, several side by side, and keeps their designs."""

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
            np.savez(part, designs=made["designs"], seconds=made["seconds"], named=made["named"])
            part.replace(paths[plan])
            self.say(f"  trained {plan.name} in {float(made['seconds']):.0f} s")
        for plan in plans:
            yield plan, _read(paths[plan])

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


TRAINED = 2  # counted up when the same settings train another generator


def _made(wearers: Wearers, plan: Plan) -> dict[str, NDArray[np.generic]]:
    surrogates = [recognizer_of(*find_models()[name]) for name in plan.against]
    run = train_masks(wearers, surrogates, plan.config)
    with torch.inference_mode():
        drawn = run.generator(latents(DESIGNS, torch.Generator().manual_seed(SEED)))
    named = _named(wearers, surrogates, run.heads, drawn)
    return {"designs": drawn.numpy(), "seconds": np.array(run.seconds), "named": named}


def _named(
    wearers: Wearers, surrogates: Sequence[Recognizer], heads: Sequence[nn.Module], designs: Tensor
) -> NDArray[np.int64]:
    """Count right names, and all, in generated masks, template masks, and bare: ``(3, 2)``."""
    if not heads:
        return np.zeros((0, 2), dtype=np.int64)
    templates = torch.cat([plain(color) for color in TEMPLATES])
    rates = [
        named_right(wearers, surrogates[0], heads[0], worn) for worn in (designs, templates, None)
    ]
    return np.array([(rate.successes, rate.total) for rate in rates], dtype=np.int64)


def _read(path: Path) -> Trained:
    with np.load(path) as kept:
        designs, seconds = torch.from_numpy(kept["designs"]), float(kept["seconds"])
        rates = [wilson(right, total) for right, total in kept["named"].tolist()]
    return Trained(designs, seconds, Named(*rates) if rates else None)
