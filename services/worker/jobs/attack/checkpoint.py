"""What an ``attack`` job has finished, so that another worker can go on with the next photo."""

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor

from services.worker.attacks.results import AttackBatch
from services.worker.attacks.results import AttackResult as FaceOutcome
from services.worker.evaluation.outcomes import pack_batch, unpack_batch
from services.worker.faces.crops import Pixels
from services.worker.jobs.attack.delivery import Delivered
from services.worker.jobs.attack.pictures import SHOWN_FACES
from services.worker.jobs.attack.search import Search, joined
from services.worker.jobs.kit.checkpoint import CheckpointWriter
from services.worker.runtime.context import JobContext
from shared.results.attack import AttackedImage

_TENSORS, _VALUES = "attacked.safetensors", "attacked.json"


@dataclass
class Done:
    """Finished photos, in order, and of all their faces what was found.

    ``outcomes`` are those delivered and ``search`` what the gates look at, without pictures;
    ``shown`` are the first faces before and after, uint8 ``(2, S, S, 3)``.
    """

    images: list[AttackedImage] = field(default_factory=list)
    outcomes: list[FaceOutcome] = field(default_factory=list)
    search: Search | None = None
    shown: list[Pixels] = field(default_factory=list)

    def searched(self, found: Search) -> None:
        """Add what was found in a chunk of photos."""
        bare = found.without_pictures()
        self.search = bare if self.search is None else joined([self.search, bare])

    def deliver(self, delivered: Delivered) -> None:
        """Add a photo."""
        self.images.append(delivered.image)
        self.outcomes += delivered.outcomes
        self.shown += delivered.crops[: SHOWN_FACES - len(self.shown)]

    @property
    def artifacts(self) -> list[tuple[str, int]]:
        """The attacked pictures, PNGs all, and the number of the photo that each was made of."""
        names = [(image.adversarial, number) for number, image in enumerate(self.images)]
        names += [
            (face.adversarial, number)
            for number, image in enumerate(self.images)
            for face in image.faces
        ]
        return [(name, number) for name, number in names if name is not None]

    @property
    def delivered(self) -> AttackBatch:
        """All outcomes as one run; raises ``ValueError`` where no face was attacked."""
        if self.search is None:
            raise ValueError("no face was attacked")
        batch = self.search.batch
        return AttackBatch(
            attack=batch.attack,
            parameters=batch.parameters,
            targeted=batch.targeted,
            uses_gradients=batch.uses_gradients,
            seed=batch.seed,
            results=tuple(self.outcomes),
        )


class AttackCheckpoint:
    """Saves and restores finished work, for models with the same hash of weights."""

    def __init__(self, context: JobContext, sha256: str, *, of_dataset: bool) -> None:
        self._context, self._sha256 = context, sha256
        self._of_dataset = of_dataset  # its photos are no images of the job
        self._writer = CheckpointWriter(context)

    def load(self) -> Done:
        """Return what an earlier attempt finished, its pictures taken over; else nothing done."""
        found = self._writer.load(_TENSORS, _VALUES)
        if found is None:
            return Done()
        values = json.loads(found[_VALUES])
        if values["sha256"] != self._sha256:  # the default model was changed meanwhile
            return Done()
        done = _unpacked(load(found[_TENSORS]), values)
        take_over = self._context.artifacts.take_over
        for name, number in done.artifacts:
            image = None if self._of_dataset else number
            if not take_over(name, "image/png", attempt=values["attempt"], image=image):
                return Done()
        return done

    def save(self, done: Done) -> None:
        """Keep what is done, where a checkpoint is due."""
        self._writer.save(lambda: self._files(done))

    def _files(self, done: Done) -> dict[str, bytes]:
        tensors, values = _packed(done)
        values |= {"sha256": self._sha256, "attempt": self._context.attempt}
        return {_TENSORS: save(tensors), _VALUES: json.dumps(values).encode()}


def _packed(done: Done) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors: dict[str, Tensor] = {}
    values: dict[str, Any] = {"images": [image.model_dump(mode="json") for image in done.images]}
    if done.search is not None:
        batches = {"delivered": done.delivered, "search": done.search.batch}
        if done.search.one_step is not None:
            batches["one_step"] = done.search.one_step
        for name, batch in batches.items():
            columns, values[name] = pack_batch(batch, pictures=False)
            tensors |= {f"{name}|{column}": tensor for column, tensor in columns.items()}
    if done.shown:
        tensors["shown"] = torch.from_numpy(np.stack(done.shown)).contiguous()
    return tensors, values


def _unpacked(tensors: dict[str, Tensor], values: dict[str, Any]) -> Done:
    def batch(name: str) -> AttackBatch:
        columns = {
            key.removeprefix(f"{name}|"): tensor
            for key, tensor in tensors.items()
            if key.startswith(f"{name}|")
        }
        return unpack_batch(columns, values[name])

    done = Done([AttackedImage.model_validate(image) for image in values["images"]])
    if "search" in values:
        done.search = Search(batch("search"), batch("one_step") if "one_step" in values else None)
        done.outcomes = list(batch("delivered").results)
    if "shown" in tensors:
        done.shown = list(tensors["shown"].numpy())
    return done
