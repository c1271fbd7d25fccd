"""Queries on uploaded images."""

from dataclasses import dataclass

from sqlalchemy import select

from shared.db.queries import Queries, image_prefix
from shared.db.tables import LIVE_STATES, Image, Job, JobImage
from shared.problems import Problem


@dataclass(frozen=True, kw_only=True)
class NewImage:
    """An image whose bytes are already in the object store."""

    id: str
    media_type: str
    width: int
    height: int
    orientation: int
    size: int
    sha256: str
    object_key: str


class ImageQueries(Queries):
    """Uploaded images."""

    def create(self, tenant_id: str, new: NewImage, *, retention_seconds: float) -> Image:
        """Record an upload that lives until deleted or expired."""
        with self._write() as session:
            now = self._now(session)
            image = image_row(tenant_id, new, now=now, retention_seconds=retention_seconds)
            session.add(image)
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

    def delete(self, tenant_id: str, image_id: str) -> bool:
        """Delete an image; raises the problem ``image-in-use`` while a live job reads it."""
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
            session.delete(image)
            self._sweep(session, tenant_id, image_prefix(tenant_id, image_id))
            return True

    def sweep_later(self, tenant_id: str, image_id: str) -> None:
        """Let the keeper delete the bytes of an upload that came to nothing."""
        with self._write() as session:
            self._sweep(session, tenant_id, image_prefix(tenant_id, image_id))


def image_row(
    tenant_id: str,
    new: NewImage,
    *,
    now: float,
    retention_seconds: float,
    job_id: str | None = None,
) -> Image:
    """Build the row of an image."""
    return Image(
        id=new.id,
        tenant_id=tenant_id,
        job_id=job_id,
        media_type=new.media_type,
        width=new.width,
        height=new.height,
        orientation=new.orientation,
        size=new.size,
        sha256=new.sha256,
        object_key=new.object_key,
        created_at=now,
        expires_at=now + retention_seconds,
    )
