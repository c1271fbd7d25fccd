"""A claim as its worker sees it: what stops the job, and when."""

import threading
import time
from dataclasses import dataclass, field

from services.worker.stopping import Stopped
from shared.db.tables import Job


@dataclass(eq=False)
class Claim:
    """A claimed job. Its flags are set by the heartbeat thread and read by the job."""

    job: Job
    deadline: float  # by time.monotonic()
    lease_until: float  # by time.monotonic(): later than that, the lease has surely run out
    cancel: threading.Event = field(default_factory=threading.Event)
    lost: threading.Event = field(default_factory=threading.Event)
    hand_back: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def of(cls, job: Job, *, lease_seconds: float) -> "Claim":
        """Take note of a fresh claim."""
        now = time.monotonic()
        left = max(0.0, job.timeout_seconds - job.run_seconds)
        return cls(job, now + left, now + lease_seconds)

    @property
    def is_lost(self) -> bool:
        """Whether another worker may run the job by now."""
        return self.lost.is_set() or time.monotonic() > self.lease_until

    @property
    def overdue_seconds(self) -> float:
        """How long ago the deadline passed; negative before."""
        return time.monotonic() - self.deadline

    def check(self) -> None:
        """Raise ``Stopped`` when the job has to stop. Cheap: no database."""
        if self.is_lost:
            raise Stopped("lease lost")
        if self.cancel.is_set():
            raise Stopped("canceled")
        if self.overdue_seconds > 0:
            raise Stopped("deadline")
        if self.hand_back.is_set():
            raise Stopped("hand back")
