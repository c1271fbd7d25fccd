"""The result of ``train``."""

from typing import Literal

from pydantic import Field

from shared.results.base import JobResult, ResultPart


class Accuracy(ResultPart):
    """Accuracy with its Wilson 95 % interval."""

    right: int
    total: int
    rate: float | None = Field(description="null if nothing was counted")
    low: float
    high: float


class EpochFigures(ResultPart):
    """One pass over the training images."""

    epoch: int = Field(description="from 1")
    train_loss: float
    train_accuracy: float = Field(
        description="accuracy on the augmented pictures that were trained on"
    )
    val_loss: float
    val_accuracy: float
    robust_accuracy: float | None = Field(
        description="on perturbed validation images; null in plain training"
    )


class DataUsed(ResultPart):
    """The pictures used for training, selection and testing."""

    training: dict[str, int] = Field(description="images by class")
    validation: dict[str, int]
    test: dict[str, int]
    training_fingerprint: str = Field(description="SHA-256 over pixels and labels")
    validation_fingerprint: str
    validation_carved: bool = Field(description="whether it was held out of the training photos")
    left_out: int = Field(description="images with a near-duplicate on a side that counts for more")


class HeldOutFigures(ResultPart):
    """Accuracy on the `test` split, by which nothing was chosen."""

    accuracy: Accuracy
    recall: dict[str, Accuracy] = Field(description="by class")


class NewModel(ResultPart):
    """The model that was registered."""

    id: str
    task: str
    architecture: str
    classes: tuple[str, ...]
    input_size: tuple[int, int] = Field(description="height and width in pixels")
    sha256: str
    size: int = Field(description="of the weights file, in bytes")
    lineage: tuple[str, ...]


class TrainResult(JobResult):
    """A new model, how it was made and how well it does."""

    kind: Literal["train"] = "train"
    model: NewModel
    how_to_use: str
    data: DataUsed
    epochs: tuple[EpochFigures, ...]
    best_epoch: int = Field(description="whose weights were kept, from 1")
    stopped_early: bool = Field(description="whether training ended early because of `patience`")
    validation: Accuracy = Field(
        description="accuracy of the chosen epoch on the validation split; slightly optimistic"
    )
    test: HeldOutFigures | None = Field(description="null without a `test` split")
    estimated_seconds: float = Field(description="as announced when the job began")
    data_share: float = Field(description="share of the time of the steps spent on reading data")
    curves: str = Field(description="name of the artifact with losses and accuracies by epoch")
