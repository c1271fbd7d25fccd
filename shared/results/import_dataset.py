"""What ``import-dataset`` delivers."""

from typing import Literal

from pydantic import Field

from shared.results.base import JobResult, ResultPart


class LeftOut(ResultPart):
    """A file that is not part of the data set."""

    path: str
    reason: str


class LeftOutReason(ResultPart):
    """How much was left out for one reason."""

    reason: str = Field(description="a stable name, such as `box-outside`")
    sentence: str
    files: int
    boxes: int
    examples: tuple[str, ...] = Field(description="up to three paths, with what is wrong there")


class DatasetReport(ResultPart):
    """What became of the files and boxes of an upload."""

    format: str = Field(description="the layout that was recognized, such as `Pascal VOC`")
    boxes: int = Field(description="boxes that were taken in")
    boxes_turned: int = Field(description="with their photo, by its EXIF orientation")
    boxes_scaled: int = Field(description="from another size that the annotation states")
    boxes_clipped: int = Field(description="that lay a little over the photo's edge")
    boxes_left_out: int
    files_left_out: int
    files_ignored: int = Field(description="by rule: names with a dot, `Thumbs.db`, `__MACOSX` …")
    left_out: tuple[LeftOutReason, ...] = Field(description="by reason, the most frequent first")
    notes: tuple[str, ...] = ()


class ImportDatasetResult(JobResult):
    """A data set, ready to be named by jobs."""

    kind: Literal["import-dataset"] = "import-dataset"
    dataset: str = Field(description="its id; `GET /v1/datasets/{id}`")
    layout: str
    classes: tuple[str, ...]
    images: int
    counts: dict[str, dict[str, int]] = Field(
        description="labeled examples (images, or boxes) by split and class"
    )
    balance: float | None = Field(
        description="examples of the rarest class, as a share of those of the most frequent one"
    )
    duplicates: int = Field(description="files that repeat another one's bytes; left out")
    near_duplicates: int = Field(description="images that look like an earlier one; kept together")
    leaks: int = Field(
        description="near-duplicates of test or val images found in another split; left out there"
    )
    left_out: tuple[LeftOut, ...] = Field(description="the first hundred files not taken in")
    left_out_total: int
    report: DatasetReport
