"""What a job stores for its client: the files of its result."""

import hashlib
import logging
import re

from services.worker.runtime.attempt import Attempt
from services.worker.runtime.inputs import Inputs
from shared.db.claims import NewArtifact
from shared.db.queries import job_prefix
from shared.objects import ObjectMissingError

logger = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Artifacts:
    """The artifacts of one attempt; they become visible when the job finishes."""

    def __init__(self, attempt: Attempt, inputs: Inputs) -> None:
        self._attempt, self._inputs = attempt, inputs
        self._objects = attempt.services.objects
        self._left: set[str] = set()
        self.stored: list[NewArtifact] = []

    def put(
        self,
        name: str,
        data: bytes,
        media_type: str,
        *,
        image: int | None = None,
        stopped: bool = False,
    ) -> str:
        """Store a file of the result; it becomes visible when the job finishes.

        ``image``: the index of the only image that it was made of. It goes with that image, and
        one without goes with any image of the job, when its owner deletes that.
        A second one of the same name replaces the first. With ``stopped`` a job that was canceled,
        or ran out of time, leaves what it has.
        """
        if not _NAME.fullmatch(name):
            raise ValueError(f"not an artifact's name: {name!r}")
        key = job_prefix(self._attempt.tenant_id, self._attempt.job_id, self._attempt.number) + name
        self._attempt.has_stored = True
        self._attempt.patiently(lambda: self._objects.put(key, data), stopped=stopped)
        new = NewArtifact(
            name=name,
            media_type=media_type,
            size=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            object_key=key,
            image_id=None if image is None else self._inputs.images[image].id,
        )
        self.stored[:] = [kept for kept in self.stored if kept.name != name] + [new]
        (self._left.add if stopped else self._left.discard)(name)
        return name

    def take_over(
        self, name: str, media_type: str, *, attempt: int, image: int | None = None
    ) -> bool:
        """Make an artifact that an earlier attempt stored this one's; false when it is gone.

        ``image``: as for ``put``.
        """
        key = job_prefix(self._attempt.tenant_id, self._attempt.job_id, attempt) + name
        try:
            data = self._attempt.patiently(lambda: self._objects.get(key))
        except ObjectMissingError:
            logger.warning("%s: %s of attempt %d is gone", self._attempt.job_id, name, attempt)
            return False
        self.put(name, data, media_type, image=image)
        return True

    @property
    def left(self) -> tuple[NewArtifact, ...]:
        """What a job that had to stop leaves all the same."""
        return tuple(made for made in self.stored if made.name in self._left)

    def clear(self) -> None:
        """Forget what a batch that fell apart has stored."""
        self.stored.clear()
