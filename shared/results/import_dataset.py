"""What ``import-dataset`` delivers."""

from typing import Literal

from pydantic import Field

from shared.results.base import JobResult, ResultPart


class LeftOut(ResultPart):
    """A file that is not part of the data set."""

    path: str
    reason: str


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
