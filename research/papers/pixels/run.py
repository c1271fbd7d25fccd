"""Runs the lines a few images at a time, so that a stopped run keeps all that it did."""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from research.papers.pixels.rows import Line
from research.papers.pixels.stored_rows import Chunk, Kept
from research.papers.pixels.weights import NotTrainedError, model
from research.train.classifiers import BINARY
from services.worker.datasets.labeled import LabeledImages, load_class_folders
from services.worker.defenses.carving import SeamCarving
from services.worker.defenses.seam_carving import Energy
from services.worker.evaluation.outcomes import join, pack_batch, unpack_batch
from services.worker.evaluation.robustness import Row, attack_images, right
from services.worker.evaluation.setting import Setting
from services.worker.models.registry import LoadedModel

CHUNK = 10
SEED = 0
ENERGY: Energy = "entropy"
TEST = Path("mask_classification") / "test"


def carver(side: int) -> SeamCarving:
    """Return the paper's defense, down to ``side`` pixels, on all threads of this process."""
    return SeamCarving(height=side, width=side, energy=ENERGY, threads=torch.get_num_threads())


@dataclass
class Workshop:
    """Where data and earlier results are, and what is loaded of them."""

    data: Path
    cache: Path
    may_train: bool
    say: Callable[[str], None]
    kept: Kept | None = None
    missing: dict[str, str] = field(default_factory=dict)
    _models: dict[str, LoadedModel] = field(default_factory=dict)
    _pictures: dict[tuple[int, bool], LabeledImages] = field(default_factory=dict)

    def model(self, name: str) -> LoadedModel:
        """Return a model, trained first where it has to and may be."""
        if name not in self._models:
            self._models[name] = model(
                name, data=self.data, cache=self.cache, may_train=self.may_train, say=self.say
            )
        return self._models[name]

    def pictures(self, side: int, *, carved: bool = False) -> LabeledImages:
        """Return all test pictures at ``side``, carved from twice that where asked."""
        key = side, carved
        if key not in self._pictures:
            loaded = load_class_folders(self.data / TEST, BINARY, size=2 * side if carved else side)
            if carved:
                images = _carve(loaded.images, side)
                loaded = LabeledImages(images, loaded.labels, loaded.classes, loaded.groups)
            self._pictures[key] = loaded
        return self._pictures[key]

    def of(self, line: Line) -> tuple[Setting, LabeledImages]:
        """Return what a line attacks."""
        classifier = self.model(line.model).classifier
        inner = classifier.input_size[0]
        defense = carver(inner) if line.defended else None
        pictures = self.pictures(line.side, carved=line.carved_before)
        return Setting(classifier, line.side, defense), pictures


def run_lines(lines: Sequence[Line], shop: Workshop, *, seconds: float) -> None:
    """Run what is missing, a chunk of every line in turn, for about so many seconds."""
    began = time.monotonic()
    ready = [line for line in lines if _is_ready(line, shop)]
    for start in range(0, max((line.images for line in ready), default=0), CHUNK):
        for line in ready:
            if start >= line.images or _done(line, shop, start):
                continue
            if time.monotonic() - began > seconds:
                shop.say("the time is up; run again to go on")
                return
            at = time.monotonic()
            _run_chunk(line, shop, start)
            shop.say(
                f"{line.id}: images {start}–{start + CHUNK - 1}, {time.monotonic() - at:.0f} s"
            )


def load_row(line: Line, shop: Workshop) -> tuple[Row, float] | None:
    """Return what was run of a line, and the seconds it took; ``None`` if nothing was."""
    if not _is_ready(line, replace(shop, may_train=False, missing=shop.missing)):
        return None
    done = _chunks(line, shop)
    if not done:
        return None
    batches, clean, moved, seconds = [], [], [], 0.0
    for tensors, values in done.values():
        seconds += values.pop("seconds")
        clean.append(tensors.pop("clean").numpy().astype(bool))
        if "transferred" in tensors:
            moved.append(tensors.pop("transferred").numpy().astype(bool))
        batches.append(unpack_batch(tensors, values))
    setting, pictures = shop.of(line)
    batch = join(batches)
    row = Row(
        model=line.model,
        defense=_defense_name(line),
        attack=line.title,
        sha256=shop.model(line.model).card.sha256,
        indices=tuple(result.index for result in batch.results),
        clean=np.concatenate(clean),
        adaptive=batch,
        transferred=np.concatenate(moved) if moved else None,
        cost_ms=setting.cost_ms(pictures.images[:16]),
    )
    return row, seconds


def keep_rows(lines: Sequence[Line], shop: Workshop) -> None:
    """Keep what was done of the lines that take hours."""
    for line in lines:
        if shop.kept is None or line.attack.uses_gradients or not _is_ready(line, shop):
            continue
        if done := _chunks(line, shop):
            shop.kept.keep(line.id, done)


def _is_ready(line: Line, shop: Workshop) -> bool:
    if line.model in shop.missing:
        return False
    try:
        shop.model(line.model)
    except NotTrainedError as error:
        shop.missing[line.model] = str(error)
        return False
    return True


def _run_chunk(line: Line, shop: Workshop, start: int) -> None:
    began = time.monotonic()
    setting, pictures = shop.of(line)
    # In a random order that is the same for all lines: what is done so far is a fair sample.
    order = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(SEED))
    numbers = order[start : min(start + CHUNK, line.images)].tolist()
    chosen = pictures.select(numbers)
    batch = attack_images(
        setting, line.attack, chosen.images, chosen.labels, indices=numbers, seed=SEED
    )
    tensors, values = pack_batch(batch)
    tensors["clean"] = _bits(right(setting, chosen.images, chosen.labels, seed=SEED))
    if line.transfer_of is not None:
        source = _file_of(line.transfer_of, line, shop, start)
        if not source.is_file():  # its numbers alone were kept
            _run_chunk(_source(line, line.transfer_of), shop, start)
        with safe_open(source, "pt") as stored:
            attacked = stored.get_tensor("adversarial")
        tensors["transferred"] = _bits(right(setting, attacked, chosen.labels, seed=SEED))
    values["seconds"] = time.monotonic() - began
    file = _file(line, shop, start)
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    save_file(tensors, part, metadata={"values": json.dumps(values)})
    part.replace(file)


def _source(line: Line, name: str) -> Line:
    """Return the line whose attacked pictures are shown to this one, too."""
    return replace(line, id=name, defended=False, transfer_of=None)


def _chunks(line: Line, shop: Workshop) -> dict[str, Chunk]:
    """Return what was done of a line, here or elsewhere, by its identity, in order."""
    found = {}
    for start in range(0, line.images, CHUNK):
        identity, file = _identity(line, shop, start), _file(line, shop, start)
        if file.is_file():
            found[identity] = _read(file)
        elif shop.kept and (chunk := shop.kept.chunk(line.id, identity)):
            found[identity] = chunk
    return found


def _read(file: Path) -> Chunk:
    with safe_open(file, "pt") as stored:
        values = json.loads(stored.metadata()["values"])
        return {name: stored.get_tensor(name) for name in stored.keys()}, values  # noqa: SIM118


def _done(line: Line, shop: Workshop, start: int) -> bool:
    if _file(line, shop, start).is_file():
        return True
    kept = shop.kept
    return bool(kept and kept.chunk(line.id, _identity(line, shop, start)))


def _file(line: Line, shop: Workshop, start: int) -> Path:
    return _file_of(line.id, line, shop, start)


def _file_of(name: str, line: Line, shop: Workshop, start: int) -> Path:
    return shop.cache / "rows" / name / f"{_identity(line, shop, start)}.safetensors"


def _identity(line: Line, shop: Workshop, start: int) -> str:
    # Other weights, attacks or samples must not be taken for these.
    stop = min(start + CHUNK, line.images)
    identity = (
        f"{shop.model(line.model).card.sha256} {line.attack!r} {SEED} {ENERGY} {start} {stop}"
    )
    return f"{start:05d}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"


def _defense_name(line: Line) -> str:
    if line.defended:
        return "seam carving"
    return "carved before" if line.carved_before else f"none, {line.side} px"


def _bits(found: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> Tensor:
    return torch.from_numpy(found.astype(np.uint8))


def _carve(images: Tensor, side: int) -> Tensor:
    defense = carver(side)
    parts = [defense.apply(part.float() / 255) for part in images.split(64)]
    return (torch.cat(parts) * 255).round().to(torch.uint8)
