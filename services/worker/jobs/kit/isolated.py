"""Imports in a process of their own: what stops or breaks one becomes the job's problem."""

from collections.abc import Mapping, Sequence
from typing import IO, Any

from services.worker.runtime.context import JobContext
from services.worker.runtime.isolated import (
    OverLimit,
    ProcessDied,
    ProcessLimits,
    Refused,
    run_isolated,
)
from shared.problems import Problem


def import_isolated(
    context: JobContext,
    function: str,
    arguments: Mapping[str, Any],
    *,
    files: Sequence[IO[bytes]],
    limits: ProcessLimits,
    refusal: str,
    problem: str,
) -> Any:
    """Call ``module:function`` on an upload in a process of its own; returns its answer.

    Raises the problem ``problem`` where the function raises its exception ``refusal``, needs more
    than its limits, or crashes.
    """
    what = "model" if problem == "invalid-model" else "upload"
    try:
        return run_isolated(
            function,
            arguments,
            files=files,
            limits=limits,
            refusals=[refusal],
            progress=context.progress,
            check=context.check,
        )
    except Refused as error:
        raise Problem(problem, f"The {what} is refused: {error.detail}.") from error
    except OverLimit as error:
        told = f"taking it in needs more than {_exceeded(str(error), limits)}"
        raise Problem(problem, f"The {what} is refused: {told}.") from error
    except ProcessDied as error:
        if not error.crashed:  # a fault of ours: an incident
            raise
        told = "what decodes it crashed on it"
        raise Problem(problem, f"The {what} is refused: {told}.") from error


def _exceeded(what: str, limits: ProcessLimits) -> str:
    return {
        "memory": f"{limits.memory_bytes} bytes of memory",
        "disk": f"{limits.file_bytes} bytes on disk",
    }.get(what, f"{limits.cpu_seconds} s of a processor")
