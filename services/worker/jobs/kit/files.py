"""Files of a result: stages return them, and the job stores them."""

from collections.abc import Iterable
from dataclasses import dataclass

from services.worker.runtime.context import JobContext


@dataclass(frozen=True)
class File:
    """An artifact to be stored; ``image``: the index of the only image that it was made of."""

    name: str
    data: bytes
    media_type: str = "image/png"
    image: int | None = None


def store(context: JobContext, files: Iterable[File], *, stopped: bool = False) -> None:
    """Store files in their order; ``stopped``: even for a job that has to stop."""
    for file in files:
        context.artifacts.put(
            file.name, file.data, file.media_type, image=file.image, stopped=stopped
        )
