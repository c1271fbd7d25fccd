"""``import-model``: register an uploaded classifier."""

import json
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from shared.specs.base import JobSpec
from shared.specs.faces import MODEL_ID_PATTERN

MAX_CLASSES_TEXT = 200_000
MAX_DOCUMENT_BYTES = 64 * 1024

Label = Annotated[str, StringConstraints(min_length=1, max_length=100)]


class ImportModelSpec(JobSpec):
    """Check the safetensors file that was sent to ``/v1/models`` and register it."""

    summary: ClassVar[str] = "Register an uploaded classifier: safetensors with a card"
    endpoint: ClassVar[str | None] = "/v1/models"
    spec_examples: ClassVar[list[dict[str, Any]]] = [
        {
            "kind": "import-model",
            "id": "our-masks",
            "architecture": "mobilenet_v3_small",
            "classes": ["with_mask", "without_mask"],
            "input_size": 112,
        }
    ]

    kind: Literal["import-model"] = "import-model"
    id: str = Field(pattern=MODEL_ID_PATTERN, description="the id that jobs name in `model`")
    task: str = Field(default="mask", pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")
    architecture: str = Field(min_length=1, max_length=100)
    classes: tuple[Label, ...] = Field(min_length=2, max_length=10_000)
    input_size: int = Field(ge=8, le=1024, description="side of the square input, in pixels")
    crop_margin: float = Field(
        default=0.15,
        ge=0,
        le=2,
        description="margin added on each side of the face box, as a share of its size",
    )
    license: str = Field(default="not stated", max_length=1000)
    lineage: tuple[Label, ...] = Field(default=(), max_length=100)
    training_data: dict[str, Any] = Field(default={})
    training: dict[str, Any] = Field(default={})
    metrics: dict[str, Any] = Field(default={})
    threat_model: dict[str, Any] = Field(
        default={}, description="the attacks it was tested against, with results"
    )

    @field_validator("classes")
    @classmethod
    def _distinct(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(classes)) < len(classes):
            raise ValueError("`classes` contains a duplicate")
        return classes

    @model_validator(mode="after")
    def _readable(self) -> Self:
        """Keep the card a card: whoever lists models reads all of them."""
        if sum(map(len, self.classes)) > MAX_CLASSES_TEXT:
            raise ValueError(f"the names of classes have over {MAX_CLASSES_TEXT} characters")
        for name in ("training_data", "training", "metrics", "threat_model"):
            if len(json.dumps(getattr(self, name))) > MAX_DOCUMENT_BYTES:
                raise ValueError(f"`{name}` has over {MAX_DOCUMENT_BYTES} bytes as JSON")
        return self

    @property
    def timeout_seconds(self) -> float:
        return 600.0
