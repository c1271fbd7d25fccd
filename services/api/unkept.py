"""Jobs of which nothing is kept, such as frames of a camera: deleted before they are answered."""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress

from fastapi import Response
from starlette.concurrency import run_in_threadpool

from services.api.problems import problem_response
from services.api.resources import Resources
from shared.db.queries import image_prefix, job_prefix
from shared.db.tables import Job
from shared.objects import ObjectStoreUnavailableError
from shared.problems import Problem

_UNFINISHED = 202


async def unkept(answering: Awaitable[Response], resources: Resources, job: Job) -> Response:
    """Return the answer, with the job, its photos and its files gone, whoever still listens.

    A job that has not ended is stopped; the answer is the problem ``wait-timeout`` then.
    """
    try:
        answer = await answering
    finally:
        # Not cut short by a client that leaves.
        await asyncio.shield(run_in_threadpool(_forget, resources, job))
    if answer.status_code == _UNFINISHED:
        detail = "The job did not end within the wait. It was stopped and deleted."
        return problem_response(Problem("wait-timeout", detail))
    for name in ("Location", "Content-Location"):  # there is nothing any more
        if name in answer.headers:
            del answer.headers[name]
    return answer


def _forget(resources: Resources, job: Job) -> None:
    images = resources.repository.jobs.own_images(job.tenant_id, job.id)
    if not resources.repository.jobs.purge(job.tenant_id, job.id, tombstone=False):
        return
    # The keeper sweeps these, too, and again when no worker can be writing any more.
    with suppress(ObjectStoreUnavailableError):
        for image_id in images:
            resources.objects.delete_prefix(image_prefix(job.tenant_id, image_id))
        resources.objects.delete_prefix(job_prefix(job.tenant_id, job.id))
