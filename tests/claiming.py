"""Claims jobs as workers do, one at a time."""

from collections.abc import Sequence

from shared.db import Repository
from shared.db.tables import Job


def claim(
    repository: Repository,
    job_id: str = "",
    *,
    queues: Sequence[str] = ("interactive", "batch"),
    owner: str = "worker",
    lease_seconds: float = 60.0,
) -> Job | None:
    """Claim this job; another, the oldest, if it cannot be had."""
    claimed = repository.claims.claim_batch(
        job_id, queues=queues, owner=owner, lease_seconds=lease_seconds, room=lambda first: 0
    )
    return claimed[0] if claimed else None
