"""``train``: train a classifier on your own pictures."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from shared.specs.base import JobSpec
from shared.specs.data import DatasetId
from shared.specs.faces import MODEL_ID_PATTERN

ModelId = Annotated[str, StringConstraints(pattern=MODEL_ID_PATTERN)]
Label = Annotated[str, StringConstraints(min_length=1, max_length=100)]
Probability = Annotated[float, Field(ge=0, le=1)]
Eps = Annotated[float, Field(ge=1, le=255, description="bound, in units of 1/255")]

Architecture = Literal[
    "cnn",
    "lenet",
    "capsnet",
    "resnet18",
    "resnet34",
    "resnet34_7x7",
    "vgg19",
    "mobilenet_v3_small",
    "mobilenet_v3_large",
    "inception_v3",
    "googlenet",
    "densenet121",
    "face_resnet",
]
WITHOUT_IMAGENET = ("cnn", "lenet", "capsnet", "face_resnet")
TASK_CLASSES = {
    "mask": ("with_mask", "without_mask"),
    "mask3": ("with_mask", "without_mask", "mask_weared_incorrect"),
}


class Part(BaseModel):
    """A part of the spec."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Scratch(Part):
    """Random weights."""

    source: Literal["scratch"] = "scratch"


class ImageNet(Part):
    """torchvision's ImageNet weights, if the operator installed them or allows downloads."""

    source: Literal["imagenet"] = "imagenet"


class FromModel(Part):
    """Another model of the same architecture; its head is kept if the classes are the same."""

    source: Literal["model"] = "model"
    model: ModelId


Initialization = Annotated[Scratch | ImageNet | FromModel, Field(discriminator="source")]


class Full(Part):
    """All weights are trained from the start."""

    name: Literal["full"] = "full"


class Features(Part):
    """Train a new head on cached features; the backbone is frozen."""

    name: Literal["features"] = "features"


class FineTune(Part):
    """Train the head first, then all layers, the backbone at a lower rate."""

    name: Literal["finetune"] = "finetune"
    frozen_epochs: int = Field(default=3, ge=0, le=1000)
    backbone_rate: float = Field(
        default=0.1,
        gt=0,
        le=1,
        description="learning rate of the backbone, as a share of the head's",
    )


Method = Annotated[Full | Features | FineTune, Field(discriminator="name")]


class FgsmTraining(Part):
    """Adversarial training with one gradient step (Goodfellow et al. 2015; Wong et al. 2020)."""

    name: Literal["fgsm"] = "fgsm"
    eps: Eps = 8.0
    norm: Literal["linf", "l2"] = "linf"
    random_start: bool = Field(
        default=True,
        description="start from a random point; without it networks learn to mask their gradients",
    )
    share: Probability = Field(default=1.0, description="share of each batch that is attacked")


class PgdTraining(Part):
    """Adversarial training with several gradient steps (Madry et al. 2018)."""

    name: Literal["pgd"] = "pgd"
    eps: Eps = 8.0
    norm: Literal["linf", "l2"] = "linf"
    steps: int = Field(default=7, ge=1, le=100)
    step_size: float | None = Field(
        default=None, gt=0, le=255, description="in units of 1/255; default 2.5 eps / steps"
    )
    random_start: bool = True
    share: Probability = 1.0


class PixelTraining(Part):
    """Adversarial training with few changed pixels."""

    name: Literal["pixels"] = "pixels"
    pixels: int = Field(default=5, ge=1, le=100)
    tries: int = Field(
        default=4, ge=1, le=50, description="number of candidates, of which the worst is trained on"
    )
    share: Probability = 0.5


class Distillation(Part):
    """Defensive distillation (Papernot et al. 2016): it stops only weak attacks."""

    name: Literal["distillation"] = "distillation"
    temperature: float = Field(default=20.0, ge=1, le=100)
    teacher: ModelId | None = Field(
        default=None,
        description="a model of the same classes; default: one is trained first, in the same way",
    )


Robust = Annotated[
    FgsmTraining | PgdTraining | PixelTraining | Distillation, Field(discriminator="name")
]


class Augmentation(Part):
    """Strength of the augmentation; 0 turns a change off, null uses the preset."""

    flip: Probability | None = Field(default=None, description="probability")
    rotation: float | None = Field(default=None, ge=0, le=180, description="degrees either way")
    zoom: float | None = Field(default=None, ge=0, le=0.9, description="share either way")
    shift: float | None = Field(default=None, ge=0, le=0.9, description="share either way")
    color: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="range of brightness, contrast and saturation, up and down",
    )
    erase: Probability | None = Field(
        default=None, description="probability of an erased rectangle"
    )
    blur: Probability | None = Field(default=None, description="probability of a lower resolution")


class Hyperparameters(Part):
    """Hyperparameters; null uses the preset."""

    epochs: int | None = Field(default=None, ge=1, le=1000)
    batch_size: int | None = Field(default=None, ge=2, le=4096)
    max_lr: float | None = Field(
        default=None, gt=0, le=10, description="peak learning rate of the one-cycle schedule"
    )
    optimizer: Literal["adamw", "sgd"] | None = None
    weight_decay: float | None = Field(default=None, ge=0, le=1)
    label_smoothing: float | None = Field(default=None, ge=0, lt=1)
    clip_norm: float | None = Field(default=None, gt=0, le=1000, description="of the gradient")
    balance: Literal["none", "sampling", "weights"] | None = Field(
        default=None, description="sample classes equally often, or weight them equally in the loss"
    )
    patience: int | None = Field(
        default=None,
        ge=0,
        le=1000,
        description="stop after so many epochs without improvement; 0: never",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="`auto`: bfloat16 where it is known to help"
    )
    augmentation: Augmentation = Augmentation()


class TrainSpec(JobSpec):
    """Train a classifier on data sets and register it as a model."""

    summary: ClassVar[str] = (
        "Train a classifier on your data sets, with or without adversarial training"
    )
    spec_examples: ClassVar[list[dict[str, Any]]] = [
        {
            "kind": "train",
            "datasets": ["ds_0123456789abcdef01234567"],
            "model_id": "my-mask-model",
            "initialization": {"source": "model", "model": "mask-face-112"},
            "method": {"name": "finetune"},
        },
        {
            "kind": "train",
            "datasets": ["ds_0123456789abcdef01234567"],
            "model_id": "three-classes",
            "task": "mask3",
            "hyperparameters": {"epochs": 30, "balance": "sampling"},
        },
        {
            "kind": "train",
            "datasets": ["ds_0123456789abcdef01234567"],
            "model_id": "hardened-cnn",
            "preset": "paper-000",
            "robust": {"name": "pgd", "eps": 4},
        },
    ]

    kind: Literal["train"] = "train"
    datasets: tuple[DatasetId, ...] = Field(min_length=1, max_length=16)
    model_id: ModelId = Field(description="id under which the model is registered")
    task: str = Field(
        default="mask",
        pattern=r"^[a-z0-9][a-z0-9_-]{0,49}$",
        description="`mask`, `mask3` (also worn incorrectly), or a name of your own",
    )
    classes: tuple[Label, ...] | None = Field(
        default=None,
        min_length=2,
        max_length=10_000,
        description="default: the classes of the task, otherwise those of the first data set",
    )
    rename: dict[Label, Label] = Field(
        default={}, max_length=100, description="labels of the data sets to replace by others"
    )
    preset: Literal["paper-000", "paper-001", "paper-003"] | None = Field(
        default=None, description="settings of a paper; fields given beside it override them"
    )
    architecture: Architecture | None = Field(
        default=None,
        description="default: that of the model it starts from, or the preset's, "
        "or `mobilenet_v3_small`",
    )
    input_size: int | None = Field(
        default=None,
        ge=8,
        le=512,
        description="side in pixels; default: the preset's, or that of the model it starts from, "
        "or the architecture's",
    )
    initialization: Initialization = Scratch()
    method: Method = Full()
    robust: Robust | None = None
    hyperparameters: Hyperparameters = Hyperparameters()
    validation_share: float = Field(
        default=0.15,
        ge=0.05,
        le=0.5,
        description="share of the training photos held out if there is no `val` split",
    )
    crop_margin: float = Field(
        default=0.15,
        ge=0,
        le=2,
        description="margin added on each side of the face box, as a share of its size",
    )
    license: str = Field(default="not stated", min_length=1, max_length=200)
    max_hours: float = Field(
        default=12.0, gt=0, le=24, description="training ends then and keeps the best model so far"
    )
    seed: int = Field(default=0, ge=0, lt=2**31)

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.classes is not None and len(set(self.classes)) != len(self.classes):
            raise ValueError("`classes` contains a duplicate")
        if self.classes is not None and self.task in TASK_CLASSES:
            wanted = TASK_CLASSES[self.task]
            if set(self.classes) != set(wanted):
                raise ValueError(f"the classes of the task `{self.task}` are {', '.join(wanted)}")
        if len(set(self.datasets)) != len(self.datasets):
            raise ValueError("`datasets` contains a duplicate")
        if self.initialization.source == "imagenet" and self.architecture in WITHOUT_IMAGENET:
            raise ValueError(f"there are no ImageNet weights for `{self.architecture}`")
        if self.method.name == "features":
            if self.initialization.source == "scratch":
                raise ValueError(
                    "training on features needs a trained backbone: choose an `initialization`"
                )
            if self.robust is not None:
                raise ValueError("robust training changes the pictures: features cannot be cached")
        if self.model_id in self.model_ids:
            raise ValueError("`model_id` names the new model: it cannot also be its source")
        return self

    @property
    def source_model(self) -> str | None:
        """The model whose weights the new one starts from."""
        return self.initialization.model if isinstance(self.initialization, FromModel) else None

    @property
    def teacher(self) -> str | None:
        """The registered model that is distilled."""
        return self.robust.teacher if isinstance(self.robust, Distillation) else None

    @property
    def dataset_ids(self) -> tuple[str, ...]:
        return self.datasets

    @property
    def model_ids(self) -> tuple[str, ...]:
        return tuple(name for name in (self.source_model, self.teacher) if name)

    @property
    def timeout_seconds(self) -> float:
        return self.max_hours * 3600
