"""What ``import-model`` delivers."""

from typing import Literal

from pydantic import Field

from shared.results.base import JobResult


class ImportModelResult(JobResult):
    """A registered model, ready to be named by jobs."""

    kind: Literal["import-model"] = "import-model"
    model: str = Field(description="its id; `GET /v1/models/{id}`")
    tensors: int
    parameters_total: int = Field(description="numbers in its weights")
