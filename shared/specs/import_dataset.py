"""``import-dataset``: takes an uploaded archive or video in as a data set."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from shared.specs.base import JobSpec


class ImportDatasetSpec(JobSpec):
    """Take in the file that was sent to ``/v1/datasets``: check, clean, group and split it."""

    summary: ClassVar[str] = "Take an uploaded archive of labeled pictures in as a data set"
    endpoint: ClassVar[str | None] = "/v1/datasets"
    spec_examples: ClassVar[list[dict[str, Any]]] = [
        {"kind": "import-dataset", "name": "our entrance"},
        {"kind": "import-dataset", "name": "crowds", "layout": "yolo"},
        {"kind": "import-dataset", "name": "camera 3", "label": "with_mask", "frames": 200},
    ]

    kind: Literal["import-dataset"] = "import-dataset"
    name: str = Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")
    layout: Literal["auto", "classes", "identities", "boxes", "voc", "yolo", "coco", "cvat"] = (
        Field(
            default="auto",
            description=(
                "`classes`: a folder a class, with or without `train`, `val` and `test` above; "
                "`identities`: a folder a person; `boxes`: photos with boxes, in whichever of the "
                "layouts `voc` (Pascal VOC), `yolo`, `coco` and `cvat` (CVAT for images) it is; "
                "`auto`: `boxes` where there are any, else `classes`"
            ),
        )
    )
    label: str | None = Field(
        default=None, min_length=1, max_length=100, description="of a video: what all frames show"
    )
    frames_per_second: float = Field(default=1.0, gt=0, le=60, description="taken from a video")
    frames: int = Field(default=300, ge=1, le=10_000, description="most frames of a video")
    keep_seconds: float | None = Field(
        default=None,
        gt=0,
        description="delete the data set after so long; default: the service's retention of data "
        "sets. `PUT /v1/datasets/{id}/keep` keeps it until you delete it",
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="of the split, where none is given")

    @property
    def timeout_seconds(self) -> float:
        return 7200.0
