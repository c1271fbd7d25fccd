"""``classify``: find faces and tell who wears a mask."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from shared.specs.base import Queue
from shared.specs.faces import INTERACTIVE_IMAGES, FacesSpec

BATCHED_IMAGES = 4


class ClassifySpec(FacesSpec):
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
    upright: bool = Field(
        True,
        description=(
            "people stand upright; `false` searches each photo turned by 90, 180 and 270 degrees, "
            "too. A photo in which no face is found upright is searched turned in any case"
        ),
    )
    annotate: bool = Field(True, description="draw boxes and labels on a copy of each image")

    @property
    def queue(self) -> Queue:
        return "interactive" if len(self.images) <= INTERACTIVE_IMAGES else "batch"

    @property
    def batch_key(self) -> str | None:
        if len(self.images) > BATCHED_IMAGES:
            return None  # large enough to fill a batch alone; joining others would only delay them
        return f"classify:{self.model or ''}:{self.min_face}:{self.upright}"

    @property
    def makes_picture(self) -> bool:
        return self.annotate

    @property
    def timeout_seconds(self) -> float:
        return 120.0 + 10.0 * len(self.images)
