"""``attack``: the smallest change of a face that changes its label."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.specs.base import Box, ImageId, Queue
from shared.specs.data import DataSample
from shared.specs.faces import FacesSpec, MaskImages

INTERACTIVE_IMAGES = 4
DATA_SECONDS = 24 * 3600.0
LEVELS = 255.0
MOST_EPS = 1e6  # an L2 norm in units of 1/255: larger than any two photos differ
Eps = Annotated[
    float,
    Field(gt=0, le=MOST_EPS, description="bound in units of 1/255; for L-infinity from 1 to 255"),
]
Steps = Annotated[int, Field(ge=1, le=10_000)]
Queries = Annotated[int, Field(ge=1, le=1_000_000, description="maximum number of model queries")]
Pixels = Annotated[int, Field(ge=1, le=1000, description="maximum number of changed pixels")]
Norm = Literal["linf", "l2"]


class AttackChoice(BaseModel):
    """An attack with its parameters."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str


class DifferentialEvolution(AttackChoice):
    """Few pixels by differential evolution (Su et al. 2019)."""

    name: Literal["de"] = "de"
    pixels: Pixels = 1
    population: int = Field(default=100, ge=4, le=1000)
    generations: int = Field(default=100, ge=0, le=10_000)
    strategy: Literal["rand/1", "best/1"] = "rand/1"
    weight: float = Field(default=0.5, gt=0, le=2, description="F, the mutation factor")
    dither: bool = False


class SparseRS(AttackChoice):
    """Few pixels by random search (Croce et al. 2022)."""

    name: Literal["sparse_rs"] = "sparse_rs"
    pixels: Pixels = 5
    queries: Queries = 10_000
    alpha: float = Field(default=0.8, gt=0, le=1)


class Exhaustive(AttackChoice):
    """One pixel: every position with every color of a lattice."""

    name: Literal["exhaustive"] = "exhaustive"
    lattice: tuple[Annotated[int, Field(ge=0, le=255)], ...] = Field(
        default=(0, 255), min_length=1, max_length=16, description="levels of each channel"
    )


class JSMA(AttackChoice):
    """Pixels by saliency (Papernot et al. 2016)."""

    name: Literal["jsma"] = "jsma"
    max_pixels: Pixels = 40


class Bounded(AttackChoice):
    """An attack that stays within a distance of the photo."""

    eps: Eps = 8.0
    norm: Norm = "linf"

    @model_validator(mode="after")
    def _on_the_grid(self) -> Self:
        if self.norm == "linf" and not 1 <= self.eps <= LEVELS:
            raise ValueError(
                "an L-infinity `eps` lies between 1 and 255, in units of 1/255: a smaller "
                "one changes nothing on the 8-bit grid"
            )
        return self


class FGSM(Bounded):
    """One gradient step (Goodfellow et al. 2015)."""

    name: Literal["fgsm"] = "fgsm"


class BIM(FGSM):
    """Gradient steps from the photo (Kurakin et al. 2017)."""

    name: Literal["bim"] = "bim"  # type: ignore[assignment]
    steps: Steps = 10


class MIFGSM(FGSM):
    """Gradient steps with momentum (Dong et al. 2018)."""

    name: Literal["mifgsm"] = "mifgsm"  # type: ignore[assignment]
    steps: Steps = 10
    decay: float = Field(default=1.0, ge=0, le=10)


class PGD(FGSM):
    """Projected gradient steps from random starts (Madry et al. 2018)."""

    name: Literal["pgd"] = "pgd"  # type: ignore[assignment]
    steps: Steps = 10
    step_size: float | None = Field(
        default=None, gt=0, le=MOST_EPS, description="in units of 1/255; default 2.5 eps / steps"
    )
    random_start: bool = True
    restarts: int = Field(default=1, ge=1, le=100)


class APGD(FGSM):
    """PGD that sets its own step size (Croce and Hein 2020)."""

    name: Literal["apgd"] = "apgd"  # type: ignore[assignment]
    loss: Literal["ce", "margin"] = "ce"
    steps: Steps = 100
    restarts: int = Field(default=1, ge=1, le=100)


class DeepFool(AttackChoice):
    """To the nearest linearized boundary (Moosavi-Dezfooli et al. 2016)."""

    name: Literal["deepfool"] = "deepfool"
    steps: Steps = 50


class LBFGS(AttackChoice):
    """The first attack (Szegedy et al. 2014)."""

    name: Literal["lbfgs"] = "lbfgs"


class CW(AttackChoice):
    """Smallest L2 change (Carlini and Wagner 2017)."""

    name: Literal["cw"] = "cw"
    steps: Steps = 100
    searches: int = Field(default=6, ge=1, le=20)


class Square(Bounded):
    """Squares by random search, from scores (Andriushchenko et al. 2020)."""

    name: Literal["square"] = "square"
    queries: Queries = 1000


class Boundary(AttackChoice):
    """A walk along the boundary, from labels alone (Brendel et al. 2018)."""

    name: Literal["boundary"] = "boundary"
    queries: Queries = 5000


class HopSkipJump(AttackChoice):
    """Gradient estimates at the boundary, from labels alone (Chen et al. 2020)."""

    name: Literal["hopskipjump"] = "hopskipjump"
    queries: Queries = 5000


AnyAttack = Annotated[
    DifferentialEvolution
    | SparseRS
    | Exhaustive
    | JSMA
    | FGSM
    | BIM
    | MIFGSM
    | PGD
    | APGD
    | DeepFool
    | LBFGS
    | CW
    | Square
    | Boundary
    | HopSkipJump,
    Field(discriminator="name"),
]


class AttackSpec(FacesSpec):
    """Change each face until the classifier errs, in its crop or in the photo itself."""

    summary: ClassVar[str] = "Find the smallest change of each face that changes its label"
    spec_examples: ClassVar[list[dict[str, Any]]] = [
        {
            "kind": "attack",
            "images": ["img_0123456789abcdef01234567"],
            "model": "mask-cnn-32",
            "attack": {"name": "de", "pixels": 5},
        },
        {
            "kind": "attack",
            "images": ["img_0123456789abcdef01234567"],
            "attack": {"name": "pgd", "eps": 4, "steps": 20},
            "target": "with_mask",
        },
        {
            "kind": "attack",
            "images": ["img_0123456789abcdef01234567"],
            "attack": {"name": "pgd", "eps": 8},
            "at": "photo",
        },
        {
            "kind": "attack",
            "images": ["img_0123456789abcdef01234567"],
            "attack": {"name": "sparse_rs", "pixels": 20},
            "region": {"images": ["img_89abcdef0123456701234567"]},
        },
        {
            "kind": "attack",
            "data": {"dataset": "ds_0123456789abcdef01234567", "sample": 200},
            "attack": {"name": "square", "eps": 8},
        },
    ]

    kind: Literal["attack"] = "attack"
    images: tuple[ImageId, ...] = Field(
        default=(),
        max_length=10_000,
        description="ids of uploaded images; files sent in the same multipart call are added",
    )
    data: DataSample | None = Field(
        default=None,
        description="a sample of a data set, with its boxes and labels, instead of `images`",
    )
    attack: AnyAttack = PGD()
    at: Literal["model", "photo"] = Field(
        default="model",
        description=(
            "`model`: each face's crop at the classifier's resolution; `photo`: the photo at its "
            "own size, so that the delivered photo fools the whole service, face finder included"
        ),
    )
    label: str | None = Field(
        default=None,
        max_length=100,
        description=(
            "the true label of the faces; default: the label in the data set, or for uploaded "
            "images the label that the classifier predicts"
        ),
    )
    target: str | None = Field(
        default=None, max_length=100, description="target label; default: any other label"
    )
    region: Literal["image", "face", "mask"] | Box | MaskImages = Field(
        default="image",
        description=(
            "where pixels may change: the whole crop, the face box, its lower part where a mask "
            "sits, a box in pixels of the photo, or the non-black pixels of uploaded mask images"
        ),
    )
    seed: int = Field(default=0, ge=0, lt=2**31)

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if (self.data is None) == (not self.images):
            raise ValueError("give either `images` or `data`")
        if self.data is not None and (self.faces != "auto" or self.label is not None):
            raise ValueError(
                "a data set brings its own boxes and labels: leave out `faces` and `label`"
            )
        if self.target is not None and self.target == self.label:
            raise ValueError("`target` equals `label`: name another label")
        if isinstance(self.region, MaskImages):
            if self.data is not None:
                raise ValueError(
                    "mask images need uploaded photos: they cannot be used with `data`"
                )
            self.region.check_number("region", len(self.images))
        return self

    @property
    def image_ids(self) -> tuple[str, ...]:
        if not isinstance(self.region, MaskImages):
            return self.images
        return self.region.beside(self.images)

    def mask_image(self, index: int) -> str | None:
        """Return the id of the mask image of photo ``index``, if there is one."""
        return self.region.of(index) if isinstance(self.region, MaskImages) else None

    @property
    def dataset_ids(self) -> tuple[str, ...]:
        return () if self.data is None else (self.data.dataset,)

    @property
    def queue(self) -> Queue:
        few = self.data is None and len(self.images) <= INTERACTIVE_IMAGES
        return "interactive" if few else "batch"

    @property
    def timeout_seconds(self) -> float:
        return DATA_SECONDS if self.data else 600.0 + 300.0 * len(self.images)
