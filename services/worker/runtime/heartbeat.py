"""The heartbeat: renews leases, hears of cancellation, ends what is stuck."""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from services.child import RETIRING
from services.worker.runtime.claim import Claim
from shared.db import Repository, first_line
from shared.problems import Problem
from shared.settings import Settings

logger = logging.getLogger(__name__)

EXIT_STUCK = 70
HAND_BACK_GRACE_SECONDS = 5.0


def deadline_problem(claim: Claim) -> Problem:
    """Build the problem of a job past its deadline."""
    limit = claim.job.timeout_seconds
    return Problem(
        "deadline-exceeded", f"The job ran longer than its {limit:.0f} s.", limit_seconds=limit
    )


class Heartbeat:
    """A thread that keeps the claims of this worker alive.

    It also ends the process when a job is stuck in native code past its deadline and grace, or
    past the drain time: only that frees the device.
    """

    def __init__(
        self,
        repository: Repository,
        settings: Settings,
        *,
        owner: str,
        health_file: Path | None = None,
        exit_process: Callable[[int], None] = os._exit,
    ) -> None:
        self._repository = repository
        self._settings = settings
        self._owner = owner
        self._health_file = health_file
        self._exit = exit_process
        self._claims: dict[str, Claim] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._retiring = False
        self._renew_at = 0.0
        self._hand_back_at = float("inf")
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Start beating."""
        self._thread.start()

    def stop(self) -> None:
        """Stop beating and wait for the thread."""
        self._stop.set()
        self._thread.join()

    def hold(self, claims: Iterable[Claim]) -> None:
        """Keep these claims alive from now on."""
        with self._lock:
            self._claims.update({claim.job.id: claim for claim in claims})

    def release(self, claim: Claim) -> None:
        """Forget a claim whose job has ended."""
        with self._lock:
            self._claims.pop(claim.job.id, None)

    def hand_back_within(self, seconds: float) -> None:
        """Let running jobs finish for ``seconds``, then return them to the queue."""
        self._hand_back_at = min(self._hand_back_at, time.monotonic() + seconds)

    def retire(self) -> None:
        """Say in the health file, from now on, that this worker is due for recycling."""
        self._retiring = True

    def _beat(self) -> None:
        pause = min(self._settings.heartbeat_seconds, 1.0)
        while True:
            try:
                self._beat_once()
            except Exception:  # a heartbeat that stops would lose every job
                logger.exception("a heartbeat failed")
            if self._stop.wait(pause):
                return

    def _beat_once(self) -> None:
        if self._health_file is not None:
            if self._retiring:
                self._health_file.write_text(RETIRING)
            else:
                self._health_file.touch()
        with self._lock:
            claims = list(self._claims.values())
        if not claims:
            return
        if time.monotonic() >= self._renew_at and self._renew(claims):
            self._renew_at = time.monotonic() + self._settings.heartbeat_seconds
        self._end_stuck(claims)
        self._hand_back(claims)

    def _renew(self, claims: list[Claim]) -> bool:
        try:
            states = self._repository.claims.renew(
                [(claim.job.id, claim.job.fence) for claim in claims],
                owner=self._owner,
                lease_seconds=self._settings.lease_seconds,
            )
        except SQLAlchemyError as error:
            # Tried again soon; a lease that runs out meanwhile stops its job (``Claim.is_lost``).
            logger.warning("the leases could not be renewed: %s", first_line(error))
            return False
        lease_until = time.monotonic() + self._settings.lease_seconds
        for claim in claims:
            state = states.get(claim.job.id)
            if state is None:
                claim.lost.set()
                continue
            claim.lease_until = lease_until
            if state == "cancelling":
                claim.cancel.set()
        return True

    def _end_stuck(self, claims: list[Claim]) -> None:
        grace = self._settings.deadline_grace_seconds
        stuck = [claim for claim in claims if claim.overdue_seconds > grace]
        if not stuck:
            return
        logger.error("jobs %s are stuck past their deadline", [claim.job.id for claim in stuck])
        for claim in stuck:
            self._try(
                partial(
                    self._repository.claims.finish,
                    claim.job.id,
                    claim.job.fence,
                    state="failed",
                    problem=deadline_problem(claim),
                    retention_seconds=self._settings.retention_seconds,
                )
            )
        self._return_to_queue(claim for claim in claims if claim not in stuck)
        self._exit(EXIT_STUCK)

    def _hand_back(self, claims: list[Claim]) -> None:
        late = time.monotonic() - self._hand_back_at
        if late < 0:
            return
        for claim in claims:
            claim.hand_back.set()
        if late > HAND_BACK_GRACE_SECONDS:
            self._return_to_queue(claims)
            self._exit(0)

    def _return_to_queue(self, claims: Iterable[Claim]) -> None:
        for claim in claims:
            hand_back = self._repository.claims.hand_back
            self._try(partial(hand_back, claim.job.id, claim.job.fence, ring_again_seconds=0))

    def _try(self, write: Callable[[], object]) -> None:
        try:
            write()
        except SQLAlchemyError as error:
            logger.warning("the keeper has to reap what this worker leaves: %s", first_line(error))
