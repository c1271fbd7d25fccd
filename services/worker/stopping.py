"""What long work reports to whoever waits for it, and what stops it: for all of the worker."""

from collections.abc import Callable
from typing import Literal

Progress = Callable[[int, int, str], None]  # done, total, message
CancelCheck = Callable[[], None]  # raises ``Stopped`` when the work has to stop
StopReason = Literal["canceled", "deadline", "lease lost", "hand back"]


class Stopped(BaseException):
    """Raised inside work that has to stop. Not an ``Exception``: nothing may swallow it.

    ``canceled``: the client wants no more. ``deadline``: the job ran too long. ``lease lost``:
    another worker may run the job, and nothing done here counts any more. ``hand back``: this
    worker shuts down and returns the job to the queue.
    """

    def __init__(self, reason: StopReason = "canceled") -> None:
        super().__init__(reason)
        self.reason: StopReason = reason

    @property
    def ends_job(self) -> bool:
        """Whether the job is over: what it has so far is kept. Else another worker goes on."""
        return self.reason in ("canceled", "deadline")
