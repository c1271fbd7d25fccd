"""The images of a registered data set that a job works on."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

DatasetId = Annotated[str, StringConstraints(pattern=r"^ds_[0-9a-f]{24}$")]


class DataSample(BaseModel):
    """A data set, or a seeded sample of one split of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: DatasetId = Field(description="id of a data set")
    split: Literal["train", "val", "test", "all"] = "test"
    sample: int | None = Field(
        default=None, ge=1, le=1_000_000, description="maximum number of images; default: all"
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="which ones")
