"""Creates a job from a request, exactly once."""

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from services.api.job_request import JobRequest
from services.api.resources import Resources
from services.api.uploads import CleanImage, clean_all, discard, discarded_on_refusal, store
from shared.db.jobs import NewJob
from shared.db.queries import new_id
from shared.db.tables import Job
from shared.model_card import list_cards
from shared.problems import Problem
from shared.specs import JobSpec

_KEY = re.compile(r"^[\x21-\x7e]{1,255}$")


async def clean_uploads(resources: Resources, tenant: str, wanted: JobRequest) -> list[CleanImage]:
    """Check all images that came with the request; raises the first one's problem."""
    places = {image_id: place for place, image_id in enumerate(wanted.spec.image_ids)}
    pointers = {image_id: f"/images/{places[image_id]}" for image_id in wanted.uploads}
    return await clean_all(resources, tenant, wanted.uploads, pointers=pointers)


async def create_job(
    request: Request, tenant: str, resources: Resources, wanted: JobRequest
) -> tuple[Job, bool]:
    """Store the images, commit the job, ring; returns it and whether it is new."""
    key = idempotency_key(request)
    images = await clean_uploads(resources, tenant, wanted)
    return await run_in_threadpool(_commit, resources, tenant, wanted, images, key)


def _commit(
    resources: Resources,
    tenant: str,
    wanted: JobRequest,
    images: Sequence[CleanImage],
    key: str | None,
) -> tuple[Job, bool]:
    rows = store(resources, tenant, images)
    new = NewJob(
        id=new_id("job"),
        tenant_id=tenant,
        spec=wanted.spec,
        images=rows,
        idempotency_key=key,
        fingerprint=fingerprint(wanted, images),
        shipped_models=shipped_models(resources, wanted.spec),
    )
    with discarded_on_refusal(resources, rows):
        job, is_new = resources.repository.jobs.create(
            new,
            max_queued=resources.settings.max_queued_jobs,
            retention_seconds=resources.settings.retention_seconds,
            ring_again_seconds=resources.settings.ring_again_seconds,
        )
    if not is_new:
        discard(resources, rows)
        return job, False
    # Committed: from here on nothing can lose it. The keeper rings if this ring does not go out.
    resources.doorbell.ring(job.id, job.queue)
    return job, True


def shipped_models(resources: Resources, spec: JobSpec) -> frozenset[str]:
    """Return the ids of models that a job may name and that are no tenant's own."""
    if not spec.model_ids:
        return frozenset()
    return frozenset(list_cards(*resources.settings.model_dirs))


def fingerprint(wanted: JobRequest, images: Sequence[CleanImage]) -> str:
    """Hash the request: the canonical spec, with uploads by their pixels and not their ids."""
    document = wanted.spec.model_dump(mode="json")
    digests = {image.id: f"sha256:{image.stored.sha256}" for image in images}
    if "images" in document:
        document["images"] = [digests.get(name, name) for name in document["images"]]
    return canonical(document)


def canonical(document: dict[str, Any]) -> str:
    """Hash a document whatever the order of its members."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def idempotency_key(request: Request) -> str | None:
    """Return the request's ``Idempotency-Key``; raises ``invalid-header``."""
    key = request.headers.get("idempotency-key")
    if key is not None and not _KEY.match(key):
        raise Problem("invalid-header", "An Idempotency-Key has 1 to 255 visible characters.")
    return key
