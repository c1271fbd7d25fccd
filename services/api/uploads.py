"""Takes uploaded images in: cleaned one at a time, kept in the spool, stored."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial

from anyio import to_thread
from starlette.concurrency import run_in_threadpool

from services.api.create_job import Stored
from services.api.problems import rejected_image
from services.api.resources import Resources
from services.api.spool import Upload
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
    """An image that passed, under the id that it will have; its bytes are in the spool."""

    id: str
    stored: StoredImage  # without its data
    upload: Upload

    def row(self, tenant_id: str, sweep_id: int) -> NewImage:
        """Describe it for the database."""
        stored = self.stored
        return NewImage(
            id=self.id,
            media_type=stored.media_type,
            width=stored.width,
            height=stored.height,
            orientation=stored.orientation,
            size=self.upload.size,
            sha256=stored.sha256,
            object_key=object_key(tenant_id, self.id),
            notes=stored.notes,
            sweep_id=sweep_id,
        )


def object_key(tenant_id: str, image_id: str) -> str:
    """Return where an image's bytes lie."""
    return image_prefix(tenant_id, image_id) + "original"


class ImageFiles:
    """The image files that came with a job, by the ids that they get."""

    def __init__(self, uploads: Mapping[str, Upload], places: Mapping[str, int]) -> None:
        self._uploads = uploads
        self._places = places

    @property
    def ids(self) -> Sequence[str]:
        """The ids that the images get."""
        return tuple(self._uploads)

    async def check(self, resources: Resources, tenant: str) -> None:
        """Raise the first image's problem."""
        for image in await self._clean(resources, tenant):
            image.upload.close()

    async def store(self, resources: Resources, tenant: str, job_id: str) -> Stored:
        """Check, clean and store the images, all or none."""
        del job_id
        images = await self._clean(resources, tenant)
        try:
            rows = await run_in_threadpool(store, resources, tenant, images)
        finally:
            for image in images:
                image.upload.close()
        return Stored(rows, digests={image.id: f"sha256:{image.stored.sha256}" for image in images})

    def discard(self, resources: Resources, tenant: str, job_id: str, stored: Stored) -> None:
        """Delete the images."""
        del tenant, job_id
        discard(resources, stored.images)

    async def _clean(self, resources: Resources, tenant: str) -> list[CleanImage]:
        pointers = {image_id: f"/images/{self._places[image_id]}" for image_id in self._uploads}
        return await clean_all(resources, tenant, self._uploads, pointers=pointers)


async def clean(
    resources: Resources, tenant: str, image_id: str, upload: Upload, *, pointer: str | None = None
) -> CleanImage:
    """Check and strip one image; raises its problem, naming ``pointer``."""
    pointers = {} if pointer is None else {image_id: pointer}
    (image,) = await clean_all(resources, tenant, {image_id: upload}, pointers=pointers)
    return image


async def clean_all(
    resources: Resources,
    tenant: str,
    uploads: Mapping[str, Upload],
    *,
    pointers: Mapping[str, str],
) -> list[CleanImage]:
    """Check and strip images by id; raises the first one's problem, naming its pointer.

    Only images whose turn it is are in memory; close the clean ones' uploads after use.
    """

    made: list[CleanImage] = []

    def sanitize_some(image_ids: Sequence[str]) -> None:
        for image_id in image_ids:
            made.append(_clean(resources, image_id, uploads[image_id], pointers))

    # Whoever waits for a turn to decode must not hold one of the threads that answer. Small images
    # share a turn: taking it costs as much as checking one.
    try:
        costs = await to_thread.run_sync(
            lambda: {name: decoding_cost(upload.read()) for name, upload in uploads.items()}
        )
        for together, cost in _turns(costs):
            await resources.decoding.run(tenant, cost, partial(sanitize_some, together))
    except BaseException:
        for image in made:
            image.upload.close()
        raise
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
    resources: Resources, image_id: str, upload: Upload, pointers: Mapping[str, str]
) -> CleanImage:
    data = upload.read(resources.settings.max_image_bytes + 1)  # more than the cap is refused
    try:
        stored = sanitize(data, resources.image_limits)
    except ImageRejectedError as error:
        raise rejected_image(error, pointer=pointers.get(image_id)) from error
    upload.close()  # a kept copy would double the disk that a request takes
    return CleanImage(image_id, replace(stored, data=b""), resources.spool.keep(stored.data))


def refuse_full_disk(resources: Resources, more_bytes: int) -> None:
    """Raise ``storage-full`` when the local store would run out of space."""
    root = resources.objects.root
    if root is None:
        return
    free = shutil.disk_usage(root).free - more_bytes
    if free < resources.settings.min_free_disk_bytes:
        raise Problem("storage-full", "The service has no disk space left for this upload.")


class _FromSpool(Mapping[str, bytes]):
    """Images' bytes by object key, each read when it is asked for: one is in memory at a time."""

    def __init__(self, uploads: Mapping[str, Upload]) -> None:
        self._uploads = uploads

    def __getitem__(self, key: str) -> bytes:
        return self._uploads[key].read()

    def __iter__(self) -> Iterator[str]:
        return iter(self._uploads)

    def __len__(self) -> int:
        return len(self._uploads)


def store(resources: Resources, tenant_id: str, images: Sequence[CleanImage]) -> list[NewImage]:
    """Put the images' bytes into the object store, all or none; returns their rows to commit.

    Raises ``storage-full``, also without images: a job writes what it finds.

    The keeper sweeps them unless the rows are committed within ``UPLOAD_SECONDS``.
    """
    refuse_full_disk(resources, sum(image.upload.size for image in images))
    if not images:
        return []
    sweeps = resources.repository.images.announce(
        tenant_id, [image.id for image in images], within_seconds=UPLOAD_SECONDS
    )
    rows = [image.row(tenant_id, sweeps[image.id]) for image in images]
    files = {row.object_key: image.upload for image, row in zip(images, rows, strict=True)}
    try:
        resources.objects.put_all(_FromSpool(files))
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
