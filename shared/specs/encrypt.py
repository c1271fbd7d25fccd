"""``encrypt``: photos that people still recognize and recognizers do not.

No cipher: nothing is made secret. It is adversarial cloaking.
"""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from shared.specs.base import Box, ImageId, ImagesSpec, Queue
from shared.specs.faces import refuse_many

INTERACTIVE_IMAGES = 2
RecognizerId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,99}$")]
Preset = Literal["low", "medium", "high", "live"]


class CloakParameters(BaseModel):
    """What to change of a preset."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    eps: float | None = Field(
        default=None,
        gt=0,
        le=64,
        description="largest change of a sample, in 1/255; whole steps are used",
    )
    steps: int | None = Field(
        default=None,
        ge=1,
        le=2000,
        description="gradient steps",
    )
    samples: int | None = Field(
        default=None,
        ge=1,
        le=16,
        description="random changes of the photo that each step averages",
    )
    cell: float | None = Field(
        default=None,
        ge=1,
        le=16,
        description="side of the perturbation's cells, in pixels of the 160 px aligned face",
    )
    momentum: float | None = Field(
        default=None,
        ge=0,
        lt=1,
    )
    smooth: float | None = Field(
        default=None,
        ge=0,
        le=4,
        description="sigma of the gradient's smoothing, in cells; 0: none",
    )
    strength: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="of the random crops, blur and JPEG it is made to survive",
    )
    perceptual: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="how far smooth skin is spared: 0 not at all",
    )
    statistics: float | None = Field(
        default=None,
        ge=0,
        le=10,
        description="weight of the loss against how faces in general are embedded",
    )
    stop_below: float | None = Field(
        default=None,
        gt=-1,
        lt=1,
        description="similarity at which a face's search ends",
    )
    likeness: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="structural similarity (SSIM) of the face that the search aims to keep",
    )
    color: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="share of the change's color that is kept; 0: only brightness changes",
    )
    chroma: float | None = Field(
        default=None,
        ge=0,
        le=60,
        description="largest change of a* and b* (CIELAB) on skin; less on gray, teeth and eyes",
    )
    turns: bool | None = Field(
        default=None, description="ask one recognizer a step, by turns, instead of all of them"
    )
    branches: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="share of the gradient kept beside shortcuts; less carries over better",
    )


class SyntheticTarget(BaseModel):
    """Move towards a person who does not exist."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    towards: Literal["synthetic"] = "synthetic"


class PhotosTarget(BaseModel):
    """Move towards the person on photos of the caller."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    towards: Literal["photos"] = "photos"
    images: tuple[ImageId, ...] = Field(min_length=1, max_length=16)
    consent: Literal[True] = Field(
        description="that the person on these photos agrees to be taken for the one encrypted"
    )


class KnownPerson(BaseModel):
    """Somebody by name, to see who a face is taken for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    images: tuple[ImageId, ...] = Field(min_length=1, max_length=16)


class EncryptSpec(ImagesSpec):
    """Cloak faces so that recognizers take them for someone else's; adversarial, no cipher."""

    summary: ClassVar[str] = "Change photos so that recognizers do not know the faces (no cipher)"
    spec_examples: ClassVar[list[dict[str, Any]]] = [
        {"kind": "encrypt", "images": ["img_0123456789abcdef01234567"]},
        {
            "kind": "encrypt",
            "images": ["img_0123456789abcdef01234567"],
            "preset": "high",
            "require": "protected",
        },
        {
            "kind": "encrypt",
            "images": ["img_0123456789abcdef01234567"],
            "target": {"towards": "synthetic"},
            "parameters": {"eps": 12, "steps": 150},
        },
    ]

    # `except` is no name that Python allows: it is the field's in JSON, both ways.
    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True)

    kind: Literal["encrypt"] = "encrypt"
    faces: Literal["auto"] | tuple[Box, ...] | tuple[tuple[Box, ...], ...] = Field(
        "auto",
        description=(
            "`auto`: all faces found; a list of boxes picks those faces of the only image that "
            "they overlap most; a list of lists, of each image"
        ),
    )
    mode: Literal["cloak", "blur", "pixelate", "box"] = Field(
        "cloak",
        description=(
            "`cloak`: people still see who it is; else faces are hidden from people, too, as "
            "strongly as it takes for all recognizers of the job"
        ),
    )
    only: tuple[ImageId, ...] = Field(
        (),
        max_length=16,
        description="photos of people: only their faces are changed, and undecided ones",
    )
    except_: tuple[ImageId, ...] = Field(
        (),
        alias="except",
        max_length=16,
        description="photos of people: their faces stay as they are; undecided ones are changed",
    )
    preset: Preset = "medium"
    parameters: CloakParameters = CloakParameters()
    target: Annotated[SyntheticTarget | PhotosTarget, Field(discriminator="towards")] | None = (
        Field(None, description="null: only away from the person; else towards another")
    )
    other_photos: tuple[ImageId, ...] = Field(
        (),
        max_length=16,
        description="further photos of the person, to move away from and to verify against",
    )
    people: tuple[KnownPerson, ...] = Field(
        (),
        max_length=32,
        description=(
            "people by name with photos of them: the result says whom each recognizer takes a "
            "face for, and how probably, before and after"
        ),
    )
    recognizers: tuple[RecognizerId, ...] | None = Field(
        None,
        min_length=1,
        max_length=4,
        description="recognizers to be cloaked from; default: all but the one that verifies",
    )
    judges: tuple[RecognizerId, ...] | None = Field(
        None,
        max_length=4,
        description=(
            "recognizers that verify, and that the search never sees; default: one that shares "
            "neither teacher nor people with the others. An empty list: nothing is verified"
        ),
    )
    require: Literal["protected", "weak"] | None = Field(
        None, description="fail, with nothing delivered, when any photo's verdict is less"
    )
    seed: int = Field(0, ge=0, lt=2**31)

    @model_validator(mode="after")
    def _checked(self) -> Self:
        if not isinstance(self.faces, str):
            if not self.faces:
                raise ValueError("`faces` is an empty list: name at least one box, or use `auto`")
            refuse_many(sum(1 if isinstance(some, Box) else len(some) for some in self.faces))
            nested = not isinstance(self.faces[0], Box)
            if not nested and len(self.images) != 1:
                raise ValueError("a flat list of boxes needs exactly one image: give a list each")
            if nested and len(self.faces) != len(self.images):
                raise ValueError(
                    f"`faces` has {len(self.faces)} lists for {len(self.images)} images: one each"
                )
        if self.only and self.except_:
            raise ValueError("`only` and `except` exclude each other")
        if self.mode != "cloak" and self.target is not None:
            raise ValueError(f"a `target` needs a cloak, not `{self.mode}`")
        names = [person.name for person in self.people]
        if len(set(names)) != len(names):
            raise ValueError("`people` names one twice")
        both = set(self.recognizers or ()) & set(self.judges or ())
        if both:
            raise ValueError(f"{sorted(both)} cannot verify what they were used for")
        if self.require is not None and self.judges == ():
            raise ValueError("`require` needs a judge")
        return self

    @property
    def boxes(self) -> tuple[tuple[Box, ...], ...] | None:
        """The boxes given for each image, or ``None`` where all faces are meant."""
        if isinstance(self.faces, str):
            return None
        flat = tuple(box for box in self.faces if isinstance(box, Box))
        nested = tuple(row for row in self.faces if not isinstance(row, Box))
        return (flat,) if flat else nested

    @property
    def image_ids(self) -> tuple[str, ...]:
        targets = self.target.images if isinstance(self.target, PhotosTarget) else ()
        known = [image for person in self.people for image in person.images]
        # Photos to change are read by their place in the list, and may be named twice.
        whom = (*self.only, *self.except_)
        further = dict.fromkeys((*self.other_photos, *targets, *known, *whom))
        return (*self.images, *(name for name in further if name not in self.images))

    @property
    def model_ids(self) -> tuple[str, ...]:
        return (*(self.recognizers or ()), *(self.judges or ()))

    @property
    def queue(self) -> Queue:
        return "interactive" if len(self.images) <= INTERACTIVE_IMAGES else "batch"

    @property
    def timeout_seconds(self) -> float:
        return 600.0 + 300.0 * len(self.images)
