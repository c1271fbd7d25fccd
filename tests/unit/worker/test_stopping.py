"""The one exception that stops work in the worker."""

import pytest

from services.worker.stopping import Stopped, StopReason


@pytest.mark.parametrize(
    ("reason", "ends_job"),
    [("canceled", True), ("deadline", True), ("lease lost", False), ("hand back", False)],
)
def test_a_stop_says_whether_the_job_is_over(reason: StopReason, ends_job: bool) -> None:
    assert Stopped(reason).ends_job == ends_job


def test_no_handler_of_errors_swallows_a_stop() -> None:
    assert not isinstance(Stopped("lease lost"), Exception)
