"""``train``: a classifier of one's own, from one's own pictures."""

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
    """torchvision's ImageNet weights, if the operator has them or lets them be fetched."""

    source: Literal["imagenet"] = "imagenet"


class FromModel(Part):
    """Another model of the same architecture; its head, too, where it has the same classes."""

    source: Literal["model"] = "model"
    model: ModelId


Initialization = Annotated[Scratch | ImageNet | FromModel, Field(discriminator="source")]


class Full(Part):
    """All weights learn from the start."""

    name: Literal["full"] = "full"


class Features(Part):
    """A new head on features that are computed once; the backbone stays as it is."""

    name: Literal["features"] = "features"


class FineTune(Part):
    """The head learns first, then everything, the backbone more slowly."""

    name: Literal["finetune"] = "finetune"
    frozen_epochs: int = Field(default=3, ge=0, le=1000)
    backbone_rate: float = Field(
        default=0.1, gt=0, le=1, description="of the backbone, as a share of the learning rate"
    )


Method = Annotated[Full | Features | FineTune, Field(discriminator="name")]


class FgsmTraining(Part):
    """Pictures attacked with one gradient step (Goodfellow et al. 2015; Wong et al. 2020)."""

    name: Literal["fgsm"] = "fgsm"
    eps: Eps = 8.0
    norm: Literal["linf", "l2"] = "linf"
    random_start: bool = Field(
        default=True, description="from a random point, or networks learn to hide their gradients"
    )
    share: Probability = Field(default=1.0, description="of each batch that is attacked")


class PgdTraining(Part):
    """Pictures attacked with several gradient steps (Madry et al. 2018)."""

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
    """Pictures with few changed pixels."""

    name: Literal["pixels"] = "pixels"
    pixels: int = Field(default=5, ge=1, le=100)
    tries: int = Field(default=4, ge=1, le=50, description="the worst of so many is learned from")
    share: Probability = 0.5


class Distillation(Part):
    """Defensive distillation (Papernot et al. 2016): stops weak attacks, not strong ones."""

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
    """How far pictures are changed; 0 turns a change off, null leaves it to the preset."""

    flip: Probability | None = Field(default=None, description="probability")
    rotation: float | None = Field(default=None, ge=0, le=180, description="degrees either way")
    zoom: float | None = Field(default=None, ge=0, le=0.9, description="share either way")
    shift: float | None = Field(default=None, ge=0, le=0.9, description="share either way")
    color: float | None = Field(
        default=None, ge=0, le=1, description="of brightness, contrast and saturation, either way"
    )
    erase: Probability | None = Field(default=None, description="probability of a rectangle")
    blur: Probability | None = Field(default=None, description="probability of less resolution")


class Hyperparameters(Part):
    """Settings of the run; null leaves one to the preset."""

    epochs: int | None = Field(default=None, ge=1, le=1000)
    batch_size: int | None = Field(default=None, ge=2, le=4096)
    max_lr: float | None = Field(
        default=None, gt=0, le=10, description="peak of the one-cycle schedule"
    )
    optimizer: Literal["adamw", "sgd"] | None = None
    weight_decay: float | None = Field(default=None, ge=0, le=1)
    label_smoothing: float | None = Field(default=None, ge=0, lt=1)
    clip_norm: float | None = Field(default=None, gt=0, le=1000, description="of the gradient")
    balance: Literal["none", "sampling", "weights"] | None = Field(
        default=None, description="draw classes equally often, or weigh them equally in the loss"
    )
    patience: int | None = Field(
        default=None, ge=0, le=1000, description="epochs without progress; 0: all are done"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="`auto`: bfloat16 where it is known to help"
    )
    augmentation: Augmentation = Augmentation()


class TrainSpec(JobSpec):
    """Train a classifier on data sets and register it as a model."""

    summary: ClassVar[str] = "Train a classifier on your data sets, plainly or against attacks"
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
    model_id: ModelId = Field(description="name of the model that will be registered")
    task: str = Field(
        default="mask",
        pattern=r"^[a-z0-9][a-z0-9_-]{0,49}$",
        description="`mask`, `mask3` (also worn incorrectly), or a name of your own",
    )
    classes: tuple[Label, ...] | None = Field(
        default=None,
        min_length=2,
        max_length=10_000,
        description="default: those of the task, or else of the first data set",
    )
    rename: dict[Label, Label] = Field(
        default={}, max_length=100, description="labels of the data sets to read as other ones"
    )
    preset: Literal["paper-000", "paper-001", "paper-003"] | None = Field(
        default=None, description="settings of a paper; what is given here besides wins"
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
        description="of the training photos, held out where the data sets have no `val` split",
    )
    crop_margin: float = Field(
        default=0.15, ge=0, le=2, description="of a face's size, added on each side of its box"
    )
    license: str = Field(default="not stated", min_length=1, max_length=200)
    max_hours: float = Field(
        default=12.0, gt=0, le=24, description="then the best model so far is kept, and it ends"
    )
    seed: int = Field(default=0, ge=0, lt=2**31)

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.classes is not None and len(set(self.classes)) != len(self.classes):
            raise ValueError("`classes` names one twice")
        if self.classes is not None and self.task in TASK_CLASSES:
            wanted = TASK_CLASSES[self.task]
            if set(self.classes) != set(wanted):
                raise ValueError(f"the classes of the task `{self.task}` are {', '.join(wanted)}")
        if len(set(self.datasets)) != len(self.datasets):
            raise ValueError("`datasets` names one twice")
        if self.initialization.source == "imagenet" and self.architecture in WITHOUT_IMAGENET:
            raise ValueError(f"there are no ImageNet weights for `{self.architecture}`")
        if self.method.name == "features":
            if self.initialization.source == "scratch":
                raise ValueError("features need a trained backbone: choose an `initialization`")
            if self.robust is not None:
                raise ValueError("robust training changes the pictures: features are cached")
        if self.model_id in self.model_ids:
            raise ValueError("`model_id` names the new model: it cannot be its own source")
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
