"""Creates a job from a request, exactly once: the one path of JSON, forms and files."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from services.api.answers import answer
from services.api.headers import accepted_images, preferences, preferred_wait
from services.api.resources import Resources
from services.api.schemas import Validated
from services.api.unkept import unkept
from shared.db.images import NewImage
from shared.db.jobs import NewJob
from shared.db.queries import new_id
from shared.db.tables import Job
from shared.model_card import list_cards
from shared.problems import Problem
from shared.specs import JobSpec

_KEY = re.compile(r"^[\x21-\x7e]{1,255}$")
PICTURES = ("image/*", "image/jpeg", "image/png", "image/webp")


@dataclass(frozen=True)
class Stored:
    """What a job's upload has become: rows to commit with it, and what it is told apart by."""

    images: Sequence[NewImage] = ()
    sweep_id: int | None = None
    digests: Mapping[str, str] | None = None  # of uploaded images, by id
    file_digest: str | None = None


class Attachment(Protocol):
    """The bytes that came with a job."""

    @property
    def ids(self) -> Sequence[str]:
        """The ids that its images get."""

    async def check(self, resources: Resources, tenant: str) -> None:
        """Raise what the bytes are refused for; store nothing."""

    async def store(self, resources: Resources, tenant: str, job_id: str) -> Stored:
        """Put the bytes into the object store; the keeper sweeps what is not committed."""

    def discard(self, resources: Resources, tenant: str, job_id: str, stored: Stored) -> None:
        """Take the bytes out of the object store again."""


@dataclass(frozen=True)
class JobRequest:
    """A valid spec and what came with it."""

    spec: JobSpec
    attachment: Attachment


@dataclass(frozen=True)
class Terms:
    """What the headers of a request say about the answer."""

    key: str | None
    wait: float | None
    pictures: tuple[str, ...]
    applied: str

    @classmethod
    def of(cls, request: Request, resources: Resources, *, waits: bool = True) -> "Terms":
        """Read the headers; raises ``invalid-header`` and what cannot be answered as asked."""
        wait = preferred_wait(request.headers, most=resources.settings.max_wait_seconds)
        pictures = accepted_images(request.headers.get("accept"))
        if pictures and not set(pictures) & set(PICTURES):
            raise Problem("not-acceptable", f"Pictures come as {', '.join(PICTURES[1:])}.")
        if pictures and wait is None and waits:
            raise Problem("not-acceptable", "To get an image at once, add `Prefer: wait=N`.")
        if wait:
            resources.watcher.refuse_when_full()
        applied = ["respond-async"] if "respond-async" in preferences(request.headers) else []
        if wait is not None:
            applied.append(f"wait={wait:g}")
        return cls(idempotency_key(request), wait, pictures, ", ".join(applied))


async def create(
    request: Request,
    tenant: str,
    resources: Resources,
    body: AbstractAsyncContextManager[JobRequest],
    *,
    validate_only: bool = False,
    keep: bool = True,
) -> Response:
    """Read the request, store what came with it, commit the job, ring, and answer.

    Nothing stays behind when the spec, the queue or the store refuses. Without ``keep`` nothing
    stays behind at all: the job is deleted before it is answered, and stopped if it has not ended.
    """
    terms = Terms.of(request, resources, waits=not validate_only)
    if not (keep or terms.wait or validate_only):
        raise Problem("invalid-header", "A job that is not kept needs `Prefer: wait=N`.")
    async with body as wanted:
        if terms.pictures and not wanted.spec.makes_picture:
            raise Problem("not-acceptable", "With these options the job makes no picture.")
        if validate_only:
            return await _validated(resources, tenant, wanted)
        job, is_new = await _create(tenant, resources, wanted, terms.key)
    headers = {"Preference-Applied": terms.applied} if terms.applied else {}
    if not is_new:
        headers["Idempotent-Replayed"] = "true"
    answering = answer(
        request, resources, job, wait=terms.wait, images=terms.pictures, headers=headers
    )
    return await (answering if keep else unkept(answering, resources, job))


async def _validated(resources: Resources, tenant: str, wanted: JobRequest) -> Response:
    await wanted.attachment.check(resources, tenant)
    spec = wanted.spec

    def rendered() -> Response:
        resources.repository.jobs.refuse_unknown(
            tenant,
            spec,
            own=wanted.attachment.ids,
            shipped_models=shipped_models(resources, spec),
        )
        document = Validated(spec=spec.model_dump(mode="json"), queue=spec.queue)
        return JSONResponse(document.model_dump(mode="json"))

    return await run_in_threadpool(rendered)


async def _create(
    tenant: str, resources: Resources, wanted: JobRequest, key: str | None
) -> tuple[Job, bool]:
    """Store the bytes, commit the job, ring; returns it and whether it is new."""
    job_id, attachment = new_id("job"), wanted.attachment
    stored = await attachment.store(resources, tenant, job_id)

    def commit() -> tuple[Job, bool]:
        new = NewJob(
            id=job_id,
            tenant_id=tenant,
            spec=wanted.spec,
            images=stored.images,
            idempotency_key=key,
            fingerprint=fingerprint(wanted.spec, stored),
            sweep_id=stored.sweep_id,
            shipped_models=shipped_models(resources, wanted.spec),
        )
        try:
            job, is_new = resources.repository.jobs.create(
                new,
                max_queued=resources.settings.max_queued_jobs,
                retention_seconds=resources.settings.retention_seconds,
                ring_again_seconds=resources.settings.ring_again_seconds,
            )
        except Problem:
            # Refused, so surely not committed. A commit whose answer was lost may have happened:
            # then the sweep decides, not this process.
            attachment.discard(resources, tenant, job_id, stored)
            raise
        if is_new:
            # From here on nothing can lose it. The keeper rings if this ring does not go out.
            resources.doorbell.ring(job.id, job.queue)
        else:
            attachment.discard(resources, tenant, job_id, stored)
        return job, is_new

    return await run_in_threadpool(commit)


def shipped_models(resources: Resources, spec: JobSpec) -> frozenset[str]:
    """Return the ids of models that a job may name and that are no tenant's own."""
    if not spec.model_ids:
        return frozenset()
    return frozenset(list_cards(*resources.settings.model_dirs))


def fingerprint(spec: JobSpec, stored: Stored) -> str:
    """Hash what was asked for: the canonical spec, uploads by their bytes and not their ids."""
    document: dict[str, Any] = spec.model_dump(mode="json")
    digests = stored.digests or {}
    if "images" in document:
        document["images"] = [digests.get(name, name) for name in document["images"]]
    if stored.file_digest is not None:
        document["file"] = stored.file_digest
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def idempotency_key(request: Request) -> str | None:
    """Return the request's ``Idempotency-Key``; raises ``invalid-header``."""
    key = request.headers.get("idempotency-key")
    if key is not None and not _KEY.match(key):
        raise Problem("invalid-header", "An Idempotency-Key has 1 to 255 visible characters.")
    return key
