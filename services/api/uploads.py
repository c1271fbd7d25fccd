"""Takes uploaded images in: read with a cap, cleaned, stored."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial

from anyio import to_thread
from fastapi import Request
from starlette.datastructures import UploadFile

from services.api.problems import rejected_image
from services.api.resources import Resources
from shared.db.images import NewImage
from shared.db.queries import image_prefix, new_id
from shared.images import ImageRejectedError, StoredImage, sanitize
from shared.images.cost import decoding_cost
from shared.objects import ObjectStoreUnavailableError
from shared.problems import Problem

UPLOAD_SECONDS = 3600.0
COST_A_TURN = 1_000_000


@dataclass(frozen=True)
class CleanImage:
    """An image that passed, under the id that it will have."""

    id: str
    stored: StoredImage

    def row(self, tenant_id: str, sweep_id: int) -> NewImage:
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
            notes=stored.notes,
            sweep_id=sweep_id,
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
    resources: Resources, tenant: str, image_id: str, data: bytes, *, pointer: str | None = None
) -> CleanImage:
    """Check and strip one image; raises its problem, naming ``pointer``."""
    pointers = {} if pointer is None else {image_id: pointer}
    (image,) = await clean_all(resources, tenant, {image_id: data}, pointers=pointers)
    return image


async def clean_all(
    resources: Resources,
    tenant: str,
    uploads: Mapping[str, bytes],
    *,
    pointers: Mapping[str, str],
) -> list[CleanImage]:
    """Check and strip images by id; raises the first one's problem, naming its pointer."""

    def sanitized(image_ids: Sequence[str]) -> list[CleanImage]:
        return [_clean(resources, image_id, uploads[image_id], pointers) for image_id in image_ids]

    # Whoever waits for a turn to decode must not hold one of the threads that answer. Small images
    # share a turn: taking it costs as much as checking one.
    made: list[CleanImage] = []
    costs = await to_thread.run_sync(
        lambda: {image_id: decoding_cost(data) for image_id, data in uploads.items()}
    )
    for together, cost in _turns(costs):
        made += await resources.decoding.run(tenant, cost, partial(sanitized, together))
    return made


def _turns(costs: Mapping[str, int]) -> Iterator[tuple[list[str], int]]:
    """Yield images that share a turn, and what they cost together."""
    together: list[str] = []
    sum_of_costs = 0
    for image_id, cost in costs.items():
        if together and sum_of_costs + cost > COST_A_TURN:
            yield together, sum_of_costs
            together, sum_of_costs = [], 0
        together.append(image_id)
        sum_of_costs += cost
    if together:
        yield together, sum_of_costs


def _clean(
    resources: Resources, image_id: str, data: bytes, pointers: Mapping[str, str]
) -> CleanImage:
    try:
        return CleanImage(image_id, sanitize(data, resources.image_limits))
    except ImageRejectedError as error:
        raise rejected_image(error, pointer=pointers.get(image_id)) from error


def refuse_full_disk(resources: Resources, more_bytes: int) -> None:
    """Raise ``storage-full`` when the local store would run out of space."""
    root = resources.objects.root
    if root is None:
        return
    free = shutil.disk_usage(root).free - more_bytes
    if free < resources.settings.min_free_disk_bytes:
        raise Problem("storage-full", "The service has no disk space left for this upload.")


def store(resources: Resources, tenant_id: str, images: Sequence[CleanImage]) -> list[NewImage]:
    """Put the images' bytes into the object store, all or none; returns their rows to commit.

    Raises ``storage-full``, also without images: a job writes what it finds.

    The keeper sweeps them unless the rows are committed within ``UPLOAD_SECONDS``.
    """
    refuse_full_disk(resources, sum(len(image.stored.data) for image in images))
    if not images:
        return []
    sweeps = resources.repository.images.announce(
        tenant_id, [image.id for image in images], within_seconds=UPLOAD_SECONDS
    )
    rows = [image.row(tenant_id, sweeps[image.id]) for image in images]
    try:
        resources.objects.put_all(
            {row.object_key: image.stored.data for image, row in zip(images, rows, strict=True)}
        )
    except Exception:
        discard(resources, rows)
        raise
    return rows


def discard(resources: Resources, rows: Sequence[NewImage]) -> None:
    """Take images out of the object store again; what cannot be deleted now is swept later."""
    for row in rows:
        with suppress(ObjectStoreUnavailableError):
            resources.objects.delete(row.object_key)


@contextmanager
def discarded_on_refusal(resources: Resources, rows: Sequence[NewImage]) -> Iterator[None]:
    """Discard the images when the commit of their rows is refused.

    A commit whose answer was lost may have happened: then the sweep decides, not this process.
    """
    try:
        yield
    except Problem:
        discard(resources, rows)
        raise


def fresh_image_id() -> str:
    """Return an id for an image that is not stored yet."""
    return new_id("img")
