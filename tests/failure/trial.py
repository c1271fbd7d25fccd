"""A job kind of the tests' own: it does as it is told, and ends badly when it is told so."""

import os
import signal
import sys
import time
from types import ModuleType
from typing import Any, ClassVar, Literal, cast

from services.worker.runtime.context import JobContext
from shared.results import JobResult, Timing
from shared.specs import JobSpec, catalog
from shared.specs.base import Queue

OUTPUT = "output.txt"


class TrialSpec(JobSpec):
    summary: ClassVar[str] = "Do as told"

    kind: Literal["trial"] = "trial"
    seconds: float = 0.0
    heeds: bool = True  # whether it checks, while it works, if it has to stop
    dies: bool = False
    raises: str | None = None
    checkpoints: int = 0
    large: bool = False
    family: str | None = None
    limit_seconds: float = 60.0

    @property
    def queue(self) -> Queue:
        return "interactive"

    @property
    def batch_key(self) -> str | None:
        return self.family

    @property
    def timeout_seconds(self) -> float:
        return self.limit_seconds


class TrialResult(JobResult):
    kind: Literal["trial"] = "trial"
    attempt: int
    process: int
    steps: tuple[int, ...] = ()  # which attempt did each checkpointed step
    ballast: str = ""


def register() -> None:
    """Make the kind known to this process."""
    specs = cast(dict[str, Any], catalog.SPECS)
    specs["trial"] = TrialSpec
    catalog.ANY_SPEC = catalog._union()


def run(context: JobContext, spec: TrialSpec) -> TrialResult:
    context.progress(0, 1, "begun")
    if spec.dies:
        os.kill(os.getpid(), signal.SIGKILL)
    if spec.raises:
        raise RuntimeError(spec.raises)
    steps = _steps(context, spec)
    _work(context, spec)
    context.artifacts.put(OUTPUT, f"{context.job_id} {context.attempt}".encode(), "text/plain")
    return TrialResult(
        parameters=spec.model_dump(mode="json"),
        models=(),
        device="none",
        versions={},
        timing=Timing(total=0.0),
        main_artifact=OUTPUT,
        attempt=context.attempt,
        process=os.getpid(),
        steps=tuple(steps),
        ballast="x" * 100_000 if spec.large else "",
    )


def run_batch(items: list[tuple[JobContext, TrialSpec]]) -> list[TrialResult]:
    return [run(context, spec) for context, spec in items]


def _steps(context: JobContext, spec: TrialSpec) -> list[int]:
    saved = context.checkpoints.load() or {}
    steps = [int(text) for text in saved.get("steps", b"").decode().split()]
    while len(steps) < spec.checkpoints:
        steps.append(context.attempt)
        context.checkpoints.save({"steps": " ".join(map(str, steps)).encode()})
        context.progress(len(steps), spec.checkpoints + 1)
        time.sleep(0.1)
    return steps


def _work(context: JobContext, spec: TrialSpec) -> None:
    if not spec.heeds:
        time.sleep(spec.seconds)
        return
    end = time.monotonic() + spec.seconds
    while time.monotonic() < end:
        time.sleep(0.01)
        context.check()


def find_module(kind: str) -> ModuleType:
    """Find the job module of the only kind that these workers know."""
    assert kind == "trial"
    return sys.modules[__name__]
