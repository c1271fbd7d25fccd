"""Takes uploaded images in: read with a cap, cleaned, stored."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import Request, UploadFile
from starlette.concurrency import run_in_threadpool

from services.api.problems import rejected_image
from services.api.resources import Resources
from shared.db.images import NewImage
from shared.db.queries import image_prefix, new_id
from shared.images import ImageRejectedError, StoredImage, sanitize
from shared.problems import Problem


@dataclass(frozen=True)
class CleanImage:
    """An image that passed, under the id that it will have."""

    id: str
    stored: StoredImage

    def row(self, tenant_id: str) -> NewImage:
        """Describe it for the database."""
        stored = self.stored
        return NewImage(
            id=self.id,
            media_type=stored.media_type,
            width=stored.width,
            height=stored.height,
            orientation=stored.orientation,
            size=len(stored.data),
            sha256=stored.sha256,
            object_key=object_key(tenant_id, self.id),
        )


def object_key(tenant_id: str, image_id: str) -> str:
    """Return where an image's bytes lie."""
    return image_prefix(tenant_id, image_id) + "original"


async def read_upload(file: UploadFile, resources: Resources) -> bytes:
    """Read one file of a form; more than the cap is read no further."""
    return await file.read(resources.settings.max_image_bytes + 1)


async def read_body(request: Request, resources: Resources) -> bytes:
    """Read a raw body up to the cap; raises the problem ``image-too-large``."""
    most = resources.settings.max_image_bytes
    data = bytearray()
    async for piece in request.stream():
        data += piece
        if len(data) > most:
            raise Problem("image-too-large", f"The image has more than {most} bytes.")
    return bytes(data)


async def clean(
    resources: Resources, image_id: str, data: bytes, *, pointer: str | None = None
) -> CleanImage:
    """Check and strip one image; raises its problem, naming ``pointer``."""
    try:
        stored = await run_in_threadpool(sanitize, data, resources.image_limits)
    except ImageRejectedError as error:
        raise rejected_image(error, pointer=pointer) from error
    return CleanImage(image_id, stored)


def refuse_full_disk(resources: Resources, more_bytes: int) -> None:
    """Raise ``storage-full`` when the local store would run out of space."""
    root = resources.objects.root
    if root is None:
        return
    free = shutil.disk_usage(root).free - more_bytes
    if free < resources.settings.min_free_disk_bytes:
        raise Problem("storage-full", "The service has no disk space left for this upload.")


async def store(resources: Resources, tenant_id: str, images: Sequence[CleanImage]) -> None:
    """Put the images' bytes into the object store, all or none."""

    def put_all() -> None:
        refuse_full_disk(resources, sum(len(image.stored.data) for image in images))
        for image in images:
            resources.objects.put(object_key(tenant_id, image.id), image.stored.data)

    try:
        await run_in_threadpool(put_all)
    except Exception:
        await discard(resources, tenant_id, images)
        raise


async def discard(resources: Resources, tenant_id: str, images: Sequence[CleanImage]) -> None:
    """Take images out of the object store again; what cannot be deleted is swept later."""

    def delete_all() -> None:
        for image in images:
            try:
                resources.objects.delete(object_key(tenant_id, image.id))
            except Exception:  # the store is failing: leave it to the keeper
                resources.repository.images.sweep_later(tenant_id, image.id)

    await run_in_threadpool(delete_all)


def fresh_image_id() -> str:
    """Return an id for an image that is not stored yet."""
    return new_id("img")
