"""Queries on uploaded images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.db.derived import DerivedQueries
from shared.db.disk import frees_space
from shared.db.queries import image_prefix
from shared.db.statements import CALL_OFF, SWEEPS_LATER
from shared.db.tables import LIVE_STATES, Image, Job, JobImage
from shared.problems import Problem


@dataclass(frozen=True, kw_only=True)
class NewImage:
    """An image whose bytes are already in the object store, announced under ``sweep_id``."""

    id: str
    media_type: str
    width: int
    height: int
    orientation: int
    size: int
    sha256: str
    object_key: str
    notes: tuple[str, ...] = ()
    sweep_id: int | None = None


class ImageQueries(DerivedQueries):
    """Uploaded images."""

    def create(self, tenant_id: str, new: NewImage, *, retention_seconds: float) -> Image:
        """Record an upload that lives until deleted or expired."""
        with self._write() as session:
            now = self._now(session)
            values = image_values(tenant_id, new, now=now, retention_seconds=retention_seconds)
            image = Image(**values)
            session.add(image)
            keep_bytes(session, [new])
            return image

    def get(self, tenant_id: str, image_id: str) -> Image | None:
        """Return the image, or ``None`` for a missing, expired or foreign one."""
        with self._read() as session:
            return session.scalar(
                select(Image).where(
                    Image.id == image_id,
                    Image.tenant_id == tenant_id,
                    Image.expires_at > self._now(session),
                )
            )

    def of_job(self, tenant_id: str, job_id: str) -> list[Image]:
        """Return the images a job reads, in order."""
        with self._read() as session:
            return list(
                session.scalars(
                    select(Image)
                    .join(JobImage, JobImage.image_id == Image.id)
                    .where(JobImage.job_id == job_id, Image.tenant_id == tenant_id)
                    .order_by(JobImage.position)
                )
            )

    @frees_space
    def delete(self, tenant_id: str, image_id: str) -> bool:
        """Delete an image and what finished jobs made of it.

        Raises the problem ``image-in-use`` while a live job reads it.
        """
        with self._write() as session:
            image = session.scalar(
                select(Image)
                .where(Image.id == image_id, Image.tenant_id == tenant_id)
                .with_for_update()
            )
            if image is None:
                return False
            live = session.scalar(
                select(Job.id)
                .join(JobImage, JobImage.job_id == Job.id)
                .where(JobImage.image_id == image_id, Job.state.in_(LIVE_STATES))
                .limit(1)
            )
            if live is not None:
                raise Problem("image-in-use", f"Job {live} still reads this image.", job=live)
            self._delete_derived_of_image(session, image_id)
            session.delete(image)
            self._sweep(session, tenant_id, image_prefix(tenant_id, image_id))
            return True

    def announce(
        self, tenant_id: str, image_ids: Sequence[str], *, within_seconds: float
    ) -> dict[str, int]:
        """Let the keeper delete these uploads' bytes unless their rows are committed in time.

        Called before the bytes are stored: whatever dies in between, nobody's photo stays behind.
        Returns the sweeps' ids by image, for ``NewImage.sweep_id``.
        """
        prefixes = {image_prefix(tenant_id, image_id): image_id for image_id in image_ids}
        common = {"tenant_id": tenant_id, "last": False, "within_seconds": within_seconds}
        with self._write() as session:
            made = session.execute(
                SWEEPS_LATER, [{**common, "prefix": prefix} for prefix in prefixes]
            )
            return {prefixes[prefix]: sweep_id for sweep_id, prefix in made}


def keep_bytes(session: Session, images: Sequence[NewImage]) -> None:
    """Call off the sweeps that were announced for images whose rows are being committed."""
    announced = [image.sweep_id for image in images if image.sweep_id is not None]
    if announced:
        session.execute(CALL_OFF, {"sweeps": announced})


def image_values(
    tenant_id: str,
    new: NewImage,
    *,
    now: float,
    retention_seconds: float,
    job_id: str | None = None,
) -> dict[str, Any]:
    """Return the columns of an image."""
    return {
        "id": new.id,
        "tenant_id": tenant_id,
        "job_id": job_id,
        "media_type": new.media_type,
        "width": new.width,
        "height": new.height,
        "orientation": new.orientation,
        "size": new.size,
        "sha256": new.sha256,
        "object_key": new.object_key,
        "notes": list(new.notes),
        "created_at": now,
        "expires_at": now + retention_seconds,
    }
