"""Specs that work on the faces of photos."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.specs.base import Box, ImageId, ImagesSpec

INTERACTIVE_IMAGES = 16
MAX_BOXES = 2000
DEFAULT_MIN_FACE, LEAST_MIN_FACE = 20, 12
FINEST_FACE = 10  # pixels that the smallest face has on the copy searched
MODEL_ID_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,99}$"


def refuse_many(boxes: int) -> None:
    """Raise ``ValueError`` for more boxes than a job takes."""
    if boxes > MAX_BOXES:
        raise ValueError(f"`faces` names {boxes} boxes; a job takes at most {MAX_BOXES}")


class MaskImages(BaseModel):
    """Pictures whose non-black pixels mark a part of each photo."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    images: tuple[ImageId, ...] = Field(
        min_length=1,
        max_length=10_000,
        description=(
            "ids of uploaded images, each of the size of its photo: one for each photo, or one "
            "for all; lossless ones, since JPEG blurs the border"
        ),
    )

    def of(self, index: int) -> ImageId:
        """Return the id of the mask image of photo ``index``."""
        return self.images[index] if len(self.images) > 1 else self.images[0]

    def beside(self, photos: tuple[ImageId, ...]) -> tuple[ImageId, ...]:
        """Return the ids of the photos and of the mask images, each once."""
        return (*photos, *dict.fromkeys(mask for mask in self.images if mask not in photos))

    def check_number(self, field: str, photos: int) -> None:
        """Raise ``ValueError`` unless there is one for each photo, or one for all."""
        if len(self.images) not in (1, photos):
            raise ValueError(
                f"`{field}` has {len(self.images)} mask images for {photos} images: one each, or "
                "one for all"
            )


class FacesSpec(ImagesSpec):
    """A spec that says which faces of its images are meant, and which mask classifier to use."""

    faces: Literal["auto", "whole"] | tuple[Box, ...] | tuple[tuple[Box, ...], ...] = Field(
        "auto",
        description=(
            "`auto` finds the faces; `whole` takes each image as one face crop; a list of boxes "
            "names the faces of the only image; a list of lists those of each image"
        ),
    )
    min_face: int = Field(
        DEFAULT_MIN_FACE,
        ge=LEAST_MIN_FACE,
        le=1000,
        description=(
            "longer side, in pixels, of the smallest face to find with `auto`, whatever the "
            "photo's size; smaller ones take longer: the photo is searched at "
            f"{FINEST_FACE}/`min_face` of its size, and one of up to 640 px enlarged up to twice"
        ),
    )
    model: str | None = Field(
        None,
        pattern=MODEL_ID_PATTERN,
        description="id of a mask classifier; default: the service's default for the task",
    )

    @model_validator(mode="after")
    def _boxes_match_images(self) -> Self:
        if isinstance(self.faces, str):
            return self
        if not self.faces:
            raise ValueError("`faces` is an empty list: name at least one box, or use `auto`")
        refuse_many(sum(1 if isinstance(some, Box) else len(some) for some in self.faces))
        nested = not isinstance(self.faces[0], Box)
        if not nested and len(self.images) != 1:
            raise ValueError("a flat list of boxes needs exactly one image: give a list per image")
        if nested and len(self.faces) != len(self.images):
            raise ValueError(
                f"`faces` has {len(self.faces)} lists for {len(self.images)} images: one each"
            )
        return self

    @property
    def model_ids(self) -> tuple[str, ...]:
        return (self.model,) if self.model else ()

    @property
    def boxes(self) -> tuple[tuple[Box, ...], ...] | None:
        """The boxes given for each image, or ``None`` where faces are found or whole."""
        if isinstance(self.faces, str):
            return None
        flat = tuple(box for box in self.faces if isinstance(box, Box))
        nested = tuple(row for row in self.faces if not isinstance(row, Box))
        return (flat,) if flat else nested
