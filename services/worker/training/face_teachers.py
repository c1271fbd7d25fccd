"""Teachers of mask classifiers: recognizers of this project, fine-tuned to see masks.

What a network knows of faces helps it with few labeled masks, and a small network learns it from
the answers of a larger one (Hinton et al. 2015), asked of every picture as augmentation changed it
(Beyer et al. 2022).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from services.worker.models.base import Classifier
from services.worker.models.recognizers import HALVES, recognizer_of
from services.worker.models.registry import find_models
from services.worker.training.config import TrainConfig
from services.worker.training.data import LabeledImages
from services.worker.training.loop import train


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """Which recognizer becomes a teacher, and how."""

    recognizer: str
    config: TrainConfig = field(
        default_factory=lambda: TrainConfig(epochs=18, batch_size=48, bf16=True, seed=1)
    )


class _Committee(nn.Module):
    def __init__(self, members: Sequence[Classifier]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, dtype=torch.bfloat16):
            answers = [member(images) for member in self.members]
        return torch.stack([answer.float() for answer in answers]).mean(0)


def committee(members: Sequence[Classifier]) -> Classifier:
    """Return a frozen classifier whose logits are the mean of its members', asked in bfloat16."""
    first = members[0]
    joined = Classifier(
        _Committee(members),
        architecture="committee",
        classes=first.classes,
        input_size=first.input_size,
        mean=(0, 0, 0),  # each member normalizes by itself
        std=(1, 1, 1),
    )
    return joined.eval().requires_grad_(False)


def face_classifier(recognizer: str, classes: Sequence[str], *, seed: int) -> Classifier:
    """Return a bundled recognizer with a fresh head in the place of its comparison."""
    card, folder = find_models()[recognizer]
    network = recognizer_of(card, folder).network.requires_grad_(True)
    torch.manual_seed(seed)
    width = int(network(torch.zeros(2, 3, *card.input_size)).shape[1])
    return Classifier(
        nn.Sequential(network, nn.ReLU(), nn.Linear(width, len(classes))),
        architecture=card.architecture,
        classes=classes,
        input_size=card.input_size,
        mean=HALVES,
        std=HALVES,
    )


def teach(
    lessons: Sequence[Lesson],
    training: LabeledImages,
    validation: LabeledImages,
    *,
    kept_in: Path | None = None,
    say: Callable[[str], None],
) -> Classifier:
    """Fine-tune the teachers and return them as one classifier.

    Those found in ``kept_in`` are not trained again, and those trained are kept there.
    """
    members = []
    for lesson in lessons:
        member = face_classifier(lesson.recognizer, training.classes, seed=lesson.config.seed)
        file = kept_in / f"{lesson.recognizer}.safetensors" if kept_in else None
        if file is not None and file.is_file():
            member.load_state_dict(load_file(file))
            say(f"  teacher {lesson.recognizer}: from {file.name}")
        else:
            trained = train(member, training, validation, lesson.config)
            say(f"  teacher {lesson.recognizer}: {trained.best}")
            if file is not None:
                file.parent.mkdir(parents=True, exist_ok=True)
                state = member.state_dict()
                save_file({name: value.contiguous() for name, value in state.items()}, file)
        members.append(member.eval().to(memory_format=torch.channels_last))
    return committee(members)
