"""What an ``evaluate`` job reads: its models, and the labeled pictures that it judges by."""

from dataclasses import dataclass, field
from typing import Any

import torch

from services.worker.datasets.labeled import LabeledImages
from services.worker.datasets.packs import PackedDataset
from services.worker.faces.crops import resize
from services.worker.jobs.kit.budget import require_pictures
from services.worker.jobs.kit.models import mask_model
from services.worker.models.registry import LoadedModel
from services.worker.runtime.context import JobContext
from shared.problems import Problem
from shared.specs.data import DataSample
from shared.specs.evaluate import EvaluateSpec

MOST_SOURCES = 50


@dataclass
class Material:
    """The pictures of the job, decoded once for each model's classes, margin and side."""

    context: JobContext
    spec: EvaluateSpec
    pack: PackedDataset | None
    warnings: list[str] = field(default_factory=list)
    _read: dict[tuple[Any, ...], LabeledImages] = field(default_factory=dict)

    def of(self, loaded: LoadedModel, side: int) -> LabeledImages:
        """Return the labeled pictures at ``side`` pixels; raises ``invalid-input`` for none."""
        classes = loaded.card.classes
        key = classes, loaded.card.crop_margin, side
        if key not in self._read:
            found = self._sampled(loaded, side) if self.pack else self._uploaded(classes, side)
            if not len(found):
                raise Problem(
                    "invalid-input",
                    f"There are no images of {', '.join(classes)} to judge {loaded.card.id} by.",
                )
            self._read[key] = found
        return self._read[key]

    def training(self, loaded: LoadedModel) -> LabeledImages:
        """Return the `train` split at the model's input; raises ``invalid-input`` for none."""
        assert self.pack is not None  # noqa: S101 - the spec has been validated
        found = self._labeled(loaded, DataSample(dataset=self.pack.card.id, split="train"), None)
        if len(set(found.groups)) < 2:
            raise Problem("invalid-input", "The data set has no `train` split to learn from.")
        return found

    def sources(self, loaded: LoadedModel) -> tuple[str, ...] | None:
        """Return the source of each picture; none where they are not to be told apart."""
        if self.pack is None or self.spec.data is None:
            return None
        data = self.spec.data
        found = self.pack.sources(
            data.split, classes=loaded.card.classes, sample=data.sample, seed=data.seed
        )
        if len(set(found)) > MOST_SOURCES:
            self._warn(f"{len(set(found))} sources are too many to be judged apart")
            return None
        return found

    def _sampled(self, loaded: LoadedModel, side: int) -> LabeledImages:
        assert self.spec.data is not None  # noqa: S101 - there is a pack
        found = self._labeled(loaded, self.spec.data, side)
        unknown = set(self.pack.card.classes if self.pack else ()) - set(loaded.card.classes)
        if unknown:
            self._warn(
                f"{loaded.card.id} has no class {', '.join(sorted(unknown))}: images skipped"
            )
        return found

    def _labeled(self, loaded: LoadedModel, data: DataSample, side: int | None) -> LabeledImages:
        assert self.pack is not None  # noqa: S101
        size = side or loaded.classifier.input_size[0]
        chosen = self.pack.sources(
            data.split, classes=loaded.card.classes, sample=data.sample, seed=data.seed
        )
        require_pictures(len(chosen), size)
        return self.pack.labeled(
            data.split,
            size=size,
            margin=loaded.card.crop_margin,
            classes=loaded.card.classes,
            sample=data.sample,
            seed=data.seed,
            progress=lambda *_: self.context.check(),
        )

    def _uploaded(self, classes: tuple[str, ...], side: int) -> LabeledImages:
        unknown = sorted(set(self.spec.labels) - set(classes))
        if unknown:
            raise Problem(
                "invalid-input",
                f"{', '.join(unknown)} is no label of these models: {', '.join(classes)}.",
            )
        require_pictures(len(self.spec.images), side)
        pictures = [
            (resize(self.context.inputs.image(index), side) * 255).round().to(torch.uint8)
            for index in range(len(self.spec.images))
        ]
        labels = torch.tensor([classes.index(label) for label in self.spec.labels])
        return LabeledImages(torch.stack(pictures), labels, classes, self.spec.images)

    def _warn(self, sentence: str) -> None:
        if sentence not in self.warnings:
            self.warnings.append(sentence)


def load_models(context: JobContext, spec: EvaluateSpec) -> list[LoadedModel]:
    """Load the models that the spec names, or the default one."""
    return [mask_model(context, model_id=name) for name in spec.models or (None,)]
