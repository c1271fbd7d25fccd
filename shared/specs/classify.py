"""``classify``: who wears a mask."""

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from shared.specs.base import Box, ImagesSpec, Queue

INTERACTIVE_IMAGES = 16


class ClassifySpec(ImagesSpec):
    """Find faces and tell for each whether it wears a mask."""

    summary: ClassVar[str] = "Find the faces in photos and tell who wears a mask"
    spec_examples: ClassVar[list[dict[str, Any]]] = [
        {"kind": "classify", "images": ["img_0123456789abcdef01234567"]},
        {
            "kind": "classify",
            "images": ["img_0123456789abcdef01234567"],
            "faces": [{"x": 120, "y": 40, "width": 96, "height": 96}],
        },
        {"kind": "classify", "images": ["img_0123456789abcdef01234567"], "faces": "whole"},
    ]

    kind: Literal["classify"] = "classify"
    faces: Literal["auto", "whole"] | tuple[Box, ...] | tuple[tuple[Box, ...], ...] = Field(
        "auto",
        description=(
            "`auto` finds the faces; `whole` takes each image as one face crop; a list of boxes "
            "names the faces of the only image; a list of lists those of each image"
        ),
    )
    model: str | None = Field(
        None,
        pattern=r"^[a-z0-9][a-z0-9._-]{0,99}$",
        description="id of a mask classifier; default: the service's default for the task",
    )
    annotate: bool = Field(True, description="draw boxes and labels into a picture of each image")

    @model_validator(mode="after")
    def _boxes_match_images(self) -> Self:
        if isinstance(self.faces, str):
            return self
        if not self.faces:
            raise ValueError("`faces` is an empty list: name at least one box, or use `auto`")
        nested = not isinstance(self.faces[0], Box)
        if not nested and len(self.images) != 1:
            raise ValueError("a flat list of boxes needs exactly one image: give a list per image")
        if nested and len(self.faces) != len(self.images):
            raise ValueError(
                f"`faces` has {len(self.faces)} lists for {len(self.images)} images: one each"
            )
        return self

    @property
    def boxes(self) -> tuple[tuple[Box, ...], ...] | None:
        """The boxes given for each image, or ``None`` where faces are found or whole."""
        if isinstance(self.faces, str):
            return None
        flat = tuple(box for box in self.faces if isinstance(box, Box))
        nested = tuple(row for row in self.faces if not isinstance(row, Box))
        return (flat,) if flat else nested

    @property
    def queue(self) -> Queue:
        return "interactive" if len(self.images) <= INTERACTIVE_IMAGES else "batch"

    @property
    def batch_key(self) -> str | None:
        if len(self.images) > INTERACTIVE_IMAGES:
            return None
        return f"classify:{self.model or ''}"

    @property
    def timeout_seconds(self) -> float:
        return 120.0 + 10.0 * len(self.images)
