"""What a job reads: its images, its upload, and data sets."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING

from services.worker.runtime.attempt import Attempt
from shared.db.queries import UPLOAD_FILE, upload_prefix
from shared.db.tables import Image
from shared.images import ImageLimits, decode_rgb
from shared.objects import ObjectMissingError
from shared.problems import Problem

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Inputs:
    """What a job reads. Every method raises ``Stopped`` when the job has to stop."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._repository = attempt.services.repository
        self._objects = attempt.services.objects

    @cached_property
    def images(self) -> list[Image]:
        """Rows of the images that the job reads, in the order of its spec."""
        return self._repository.images.of_job(self._attempt.tenant_id, self._attempt.job_id)

    def image(self, index: int, *, max_side: int | None = None) -> "NDArray[np.uint8]":
        """Decode image ``index``: upright sRGB uint8 ``(H, W, 3)``.

        Raises the problem ``invalid-input`` when its bytes are gone.
        """
        data, orientation = self.file(index)
        limits = ImageLimits(max_pixels=self._attempt.services.settings.max_image_pixels)
        return decode_rgb(data, orientation, limits=limits, max_side=max_side)

    def file(self, index: int) -> tuple[bytes, int]:
        """Return the file of image ``index`` as stored, and its EXIF orientation (1 to 8).

        Raises the problem ``invalid-input`` when its bytes are gone.
        """
        self._attempt.claim.check()
        row = self.images[index]
        try:
            data = self._attempt.patiently(lambda: self._objects.get(row.object_key))
        except ObjectMissingError as error:
            raise Problem("invalid-input", f"Image {row.id} has been deleted.") from error
        return data, row.orientation

    def notes(self, index: int) -> tuple[str, ...]:
        """Return what changed when image ``index`` was taken in: format, mode, pages left out."""
        return tuple(self.images[index].notes)

    @contextmanager
    def upload(self) -> Iterator[IO[bytes]]:
        """Open the file that the job was created with; the copy is gone with the block.

        Raises the problem ``invalid-input`` when there is none.
        """
        key = upload_prefix(self._attempt.tenant_id, self._attempt.job_id) + UPLOAD_FILE
        with TemporaryFile() as file:

            def read() -> None:
                file.seek(0)
                file.truncate()
                self._objects.read_into(key, file)

            try:
                self._attempt.patiently(read)
            except ObjectMissingError as error:
                raise Problem("invalid-input", "The job's upload is not there.") from error
            file.seek(0)
            yield file

    def dataset(self, dataset_id: str) -> bytes:
        """Return a data set's pack, for ``PackedDataset``.

        Raises the problem ``unknown-dataset`` when it is gone.
        """
        row = self._repository.datasets.get(self._attempt.tenant_id, dataset_id, past=True)
        gone = Problem("unknown-dataset", f"There is no data set {dataset_id}.")
        if row is None:
            raise gone
        try:
            return self._attempt.patiently(lambda: self._objects.get(row.object_key))
        except ObjectMissingError as error:
            raise gone from error
