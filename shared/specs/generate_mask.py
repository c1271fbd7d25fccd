"""``generate-mask``: face masks whose design hides the wearer from recognizers."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from shared.specs.base import ImageId, ImagesSpec, Queue
from shared.specs.data import DatasetId
from shared.specs.faces import MODEL_ID_PATTERN
from shared.specs.hog import HogSettings

ModelId = Annotated[str, StringConstraints(pattern=MODEL_ID_PATTERN)]
MOST_DESIGNS = 24
_OF_HOG = frozenset({"kind", "method", "hog", "images", "seed"})


class MaskHyperparameters(BaseModel):
    """Training of a generator; one epoch uses one photo of every person."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = Field(default=100, ge=1, le=5000)
    batch_size: int = Field(default=32, ge=2, le=512)
    max_lr: float = Field(default=0.005, gt=0, le=10)
    variation: float = Field(default=0.1, ge=0, le=100, description="weight of total variation")
    printability: float = Field(
        default=0.1, ge=0, le=100, description="weight of the distance to printable colors"
    )
    diversity: float = Field(
        default=0.05,
        ge=0,
        le=100,
        description="weight of the similarity between designs; 0 suits `conditional`",
    )


class GenerateMaskSpec(ImagesSpec):
    """Design face masks against recognizers, for many people or for one."""

    summary: ClassVar[str] = "Design printable face masks that hide the wearer from recognizers"
    spec_examples: ClassVar[list[dict[str, Any]]] = [
        {"kind": "generate-mask", "images": ["img_0123456789abcdef01234567"]},
        {
            "kind": "generate-mask",
            "dataset": "ds_0123456789abcdef01234567",
            "generator": "convolutional",
            "model_id": "our-masks",
        },
        {
            "kind": "generate-mask",
            "images": ["img_0123456789abcdef01234567", "img_0123456789abcdef01234568"],
            "projector": "cnn",
        },
        {"kind": "generate-mask", "from_model": "our-masks", "designs": 12, "seed": 5},
        {"kind": "generate-mask", "method": "hog", "hog": {"pattern": "grid", "steps": 500}},
    ]

    kind: Literal["generate-mask"] = "generate-mask"
    method: Literal["gan", "hog"] = Field(
        default="gan",
        description=(
            "`gan`: designs against recognizers, from a generator; `hog`: a pattern against dlib's "
            "HOG face detector, by simulated annealing, set by `hog` and `seed` alone"
        ),
    )
    hog: HogSettings = HogSettings()
    images: tuple[ImageId, ...] = Field(
        default=(),
        max_length=256,
        description=(
            "photos of one person, whom the design is to protect; files sent in the same "
            "multipart call are added. With `from_model`: whom a `conditional` generator draws for"
        ),
    )
    dataset: DatasetId | None = Field(
        default=None,
        description="a data set with one folder per person: the design is to protect anyone",
    )
    people: int | None = Field(
        default=None,
        ge=2,
        le=100_000,
        description="maximum number of people of the data set; default: all",
    )
    from_model: ModelId | None = Field(
        default=None, description="draw from this generator; nothing is trained"
    )
    generator: Literal["dense", "convolutional", "pixels"] = Field(
        default="convolutional",
        description=(
            "`dense`: paper 004's; `pixels`: one design, its pixels learned (Zolfi et al. 2022)"
        ),
    )
    experiment: Literal["free", "0", "1", "2", "3"] = Field(
        default="free",
        description=(
            "`free`: away from the own gallery photo. Paper 004's discriminator learns from: `0` "
            "bare faces once; `1` generated masks; `2` bare faces besides; `3` template masks too"
        ),
    )
    conditional: bool = Field(
        default=False,
        description="the generator draws for its wearer: it sees the embedding of their bare face",
    )
    projector: Literal["landmarks", "cnn"] = Field(
        default="landmarks",
        description=(
            "`landmarks`: a mask of `shape` is put on bare faces; `cnn` (paper 004): the design "
            "replaces masks that people wear on their photos, and bare photos tell who they are"
        ),
    )
    shape: Literal["surgical", "cloth", "n95"] = "surgical"
    hyperparameters: MaskHyperparameters = MaskHyperparameters()
    designs: int = Field(default=6, ge=1, le=MOST_DESIGNS, description="delivered")
    model_id: ModelId | None = Field(
        default=None, description="keep the generator under this name, to draw from it later"
    )
    recognizers: tuple[ModelId, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=4,
        description="recognizers to train against; default: see docs/masks.md",
    )
    judges: tuple[ModelId, ...] | None = Field(
        default=None,
        max_length=4,
        description="recognizers that evaluate at the end, on held-out people",
    )
    seed: int = Field(default=0, ge=0, lt=2**31)

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.method == "hog":
            return self._only_hog()
        if self.hog != HogSettings():
            raise ValueError('`hog` belongs to the method "hog": set `method` as well')
        own = bool(self.images) and self.from_model is None
        sources = [own, self.dataset is not None, self.from_model is not None]
        if sum(sources) != 1:
            raise ValueError("give exactly one of `images`, `dataset` and `from_model`")
        if self.people is not None and self.dataset is None:
            raise ValueError("`people` counts those of a `dataset`")
        if self.experiment != "free" and self.dataset is None:
            raise ValueError("an `experiment` distinguishes people: it needs a `dataset`")
        if self.from_model is not None and self.model_id is not None:
            raise ValueError("`from_model` trains nothing that `model_id` could keep")
        if self.from_model is not None and (self.conditional or self.projector != "landmarks"):
            raise ValueError("`conditional` and `projector` apply only to training a generator")
        if self.conditional and self.generator == "pixels":
            raise ValueError("`pixels` learns one design for everybody: it cannot be `conditional`")
        if self.projector == "cnn" and self.shape != "surgical":
            raise ValueError(
                "`shape` cannot be set with `cnn`: masks keep their shape on the photos"
            )
        both = set(self.recognizers or ()) & set(self.judges or ())
        if both:
            raise ValueError(f"{sorted(both)} cannot evaluate a design that was trained against it")
        return self

    def _only_hog(self) -> Self:
        fields = type(self).model_fields
        foreign = [
            f"`{name}`"
            for name in fields.keys() - _OF_HOG
            if getattr(self, name) != fields[name].get_default(call_default_factory=True)
        ]
        if foreign:
            raise ValueError(f'the method "hog" has no parameter {", ".join(sorted(foreign))}')
        if self.hog.objective == "hide" and not self.images:
            raise ValueError("`hide` needs photos of the wearer: give `images`")
        if self.hog.objective == "decoys" and self.images:
            raise ValueError("`decoys` are counted in the pattern alone: leave out `images`")
        return self

    @property
    def dataset_ids(self) -> tuple[str, ...]:
        return (self.dataset,) if self.dataset else ()

    @property
    def model_ids(self) -> tuple[str, ...]:
        drawn = (self.from_model,) if self.from_model else ()
        return (*drawn, *(self.recognizers or ()), *(self.judges or ()))

    @property
    def queue(self) -> Queue:
        return "interactive" if self.from_model is not None else "batch"

    @property
    def timeout_seconds(self) -> float:
        return 120.0 if self.from_model is not None else 12 * 3600.0
