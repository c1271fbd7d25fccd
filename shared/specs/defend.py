"""``defend``: apply defenses to photos and compare labels before and after."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.specs.base import Queue
from shared.specs.faces import FacesSpec, MaskImages

INTERACTIVE_IMAGES = 4


class Step(BaseModel):
    """A defense with its parameters."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str


class SeamCarving(Step):
    """Content-aware reduction to the classifier's input (Avidan and Shamir 2007)."""

    name: Literal["seam_carving"] = "seam_carving"
    energy: Literal["gradient", "entropy", "forward"] = "entropy"
    protect_face: bool = Field(default=False, description="keep seams out of the face box")


class Median(Step):
    """Median filter."""

    name: Literal["median"] = "median"
    size: Literal[2, 3, 5, 7] = 3


class BitDepth(Step):
    """Bit-depth reduction: fewer levels per channel (Xu et al. 2018)."""

    name: Literal["bit_depth"] = "bit_depth"
    bits: int = Field(default=4, ge=1, le=8)


class NonLocalMeans(Step):
    """Non-local means."""

    name: Literal["non_local_means"] = "non_local_means"
    strength: float = Field(default=4.0, gt=0, le=50)


class Jpeg(Step):
    """JPEG compression."""

    name: Literal["jpeg"] = "jpeg"
    quality: int = Field(default=75, ge=1, le=95)


class TotalVariation(Step):
    """Total-variation minimization."""

    name: Literal["tv"] = "tv"
    weight: float = Field(default=0.05, gt=0, le=1)


class PixelRepair(Step):
    """Find the pixels that decide the label and inpaint them."""

    name: Literal["pixel_repair"] = "pixel_repair"
    pixels: int = Field(default=5, ge=1, le=32)
    threshold: float = Field(
        default=0.1, ge=0, le=2, description="minimum L1 change of the probabilities for a repair"
    )


class PatchDenoiser(Step):
    """A small patch-selection denoiser (Chen et al. 2019)."""

    name: Literal["patch_denoiser"] = "patch_denoiser"
    threshold: float = Field(default=0.4, gt=0, lt=1)


class Noise(Step):
    """Gaussian noise, as in randomized smoothing (Cohen et al. 2019)."""

    name: Literal["noise"] = "noise"
    sigma: float = Field(default=0.12, gt=0, le=1)


class Smoothing(Step):
    """Randomized smoothing: the most frequent label under noise, with a certified radius."""

    name: Literal["smoothing"] = "smoothing"
    sigma: float = Field(
        default=0.12,
        gt=0,
        le=1,
        description="standard deviation of the noise; pixels are in [0, 1]",
    )
    alpha: float = Field(
        default=0.001, ge=1e-6, le=0.1, description="probability that a label or radius is wrong"
    )
    selection: int = Field(
        default=100, ge=10, le=10_000, description="noise samples used to choose the label"
    )
    samples: int = Field(
        default=1000, ge=20, le=100_000, description="noise samples used to certify it"
    )


AnyStep = Annotated[
    SeamCarving
    | Median
    | BitDepth
    | NonLocalMeans
    | Jpeg
    | TotalVariation
    | PixelRepair
    | PatchDenoiser
    | Noise
    | Smoothing,
    Field(discriminator="name"),
]


def check_order(steps: Sequence[Step]) -> None:
    """Raise ``ValueError`` where randomized smoothing is not the last step."""
    if any(isinstance(step, Smoothing) for step in steps[:-1]):
        raise ValueError("`smoothing` must be the last step: it returns a label, not a picture")


class DefendSpec(FacesSpec):
    """Apply defenses to each face, one after the other, and classify before and after each."""

    summary: ClassVar[str] = "Apply defenses to faces and compare labels before and after"
    spec_examples: ClassVar[list[dict[str, Any]]] = [
        {
            "kind": "defend",
            "images": ["img_0123456789abcdef01234567"],
            "defenses": [{"name": "seam_carving", "energy": "entropy"}],
        },
        {
            "kind": "defend",
            "images": ["img_0123456789abcdef01234567"],
            "defenses": [{"name": "pixel_repair", "pixels": 3}, {"name": "median", "size": 3}],
        },
        {
            "kind": "defend",
            "images": ["img_0123456789abcdef01234567"],
            "defenses": [{"name": "smoothing", "sigma": 0.25}],
        },
    ]

    kind: Literal["defend"] = "defend"
    defenses: tuple[AnyStep, ...] = Field(
        default=(PixelRepair(), SeamCarving()),
        min_length=1,
        max_length=8,
        description="applied in order; `smoothing` must come last",
    )
    cut_size: int | None = Field(
        default=None,
        ge=16,
        le=512,
        description=(
            "side in pixels at which faces are cut before the first defense; default: the "
            "classifier's input, or twice that where seams are carved"
        ),
    )
    protect: MaskImages | None = Field(
        default=None,
        description="seams avoid the non-black pixels of uploaded mask images",
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="of random defenses")

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        check_order(self.defenses)
        if self.protect is not None:
            self.protect.check_number("protect", len(self.images))
            carvings = [step for step in self.defenses if isinstance(step, SeamCarving)]
            if len(carvings) != 1 or carvings[0].protect_face:
                raise ValueError(
                    "`protect` is for one `seam_carving` that does not `protect_face` besides"
                )
        return self

    @property
    def image_ids(self) -> tuple[str, ...]:
        return self.images if self.protect is None else self.protect.beside(self.images)

    @property
    def queue(self) -> Queue:
        return "interactive" if len(self.images) <= INTERACTIVE_IMAGES else "batch"

    @property
    def timeout_seconds(self) -> float:
        draws = sum(s.selection + s.samples for s in self.defenses if isinstance(s, Smoothing))
        return 120.0 + (60.0 + 0.05 * draws) * len(self.images)
