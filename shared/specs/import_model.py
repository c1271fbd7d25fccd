"""``import-model``: register an uploaded classifier or face recognizer."""

import json
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from shared.model_card import Preprocessing
from shared.specs.base import JobSpec
from shared.specs.faces import MODEL_ID_PATTERN

MAX_CLASSES_TEXT = 200_000
MAX_DOCUMENT_BYTES = 64 * 1024

Label = Annotated[str, StringConstraints(min_length=1, max_length=100)]


class ImportModelSpec(JobSpec):
    """Check the file that was sent to ``/v1/models`` and register it.

    A safetensors file of a known architecture, or a face recognizer (task ``recognize``) as ONNX
    (architecture ``onnx``), which `encrypt` can take as a judge.
    """

    summary: ClassVar[str] = "Register an uploaded classifier or face recognizer, with a card"
    endpoint: ClassVar[str | None] = "/v1/models"
    spec_examples: ClassVar[list[dict[str, Any]]] = [
        {
            "kind": "import-model",
            "id": "our-masks",
            "architecture": "mobilenet_v3_small",
            "classes": ["with_mask", "without_mask"],
            "input_size": 112,
        },
        {
            "kind": "import-model",
            "id": "our-recognizer",
            "task": "recognize",
            "architecture": "onnx",
            "input_size": 112,
            "preprocessing": {"mean": 0.5, "std": 0.5, "colors": "bgr"},
            "training_data": {"people_groups": ["our own data"]},
            "metrics": {"rank_1": 0.97, "thresholds": {"0.01": 0.3, "0.001": 0.4}},
        },
    ]

    kind: Literal["import-model"] = "import-model"
    id: str = Field(pattern=MODEL_ID_PATTERN, description="the id that jobs name in `model`")
    task: str = Field(default="mask", pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")
    architecture: str = Field(
        min_length=1, max_length=100, description="`onnx`: a face recognizer as an ONNX file"
    )
    classes: tuple[Label, ...] = Field(
        default=(), max_length=10_000, description="in order; a recognizer has none, others need 2"
    )
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
    metrics: dict[str, Any] = Field(
        default={},
        description=(
            "of a recognizer that is to judge: `rank_1`, and `thresholds` of the cosine similarity "
            'by false-accept rate, `"0.01"` and `"0.001"`'
        ),
    )
    preprocessing: Preprocessing | None = Field(
        default=None, description="of an ONNX recognizer; null: its defaults"
    )
    threat_model: dict[str, Any] = Field(
        default={}, description="the attacks it was tested against, with results"
    )

    @field_validator("classes")
    @classmethod
    def _distinct(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        if len(classes) == 1:
            raise ValueError("`classes` names at least two")
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

    @model_validator(mode="after")
    def _fits(self) -> Self:
        recognizer = self.task == "recognize"
        if recognizer and self.classes:
            raise ValueError("a recognizer has no `classes`")
        if not recognizer and len(self.classes) < 2:
            raise ValueError("`classes` names at least two")
        if (self.architecture == "onnx" or self.preprocessing is not None) and not recognizer:
            raise ValueError("ONNX files are taken for the task `recognize` only")
        return self

    @property
    def timeout_seconds(self) -> float:
        return 600.0
