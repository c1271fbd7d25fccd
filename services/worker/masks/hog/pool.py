"""Rates states in processes of its own: dlib holds the interpreter's lock, so threads do not help.

Not ``multiprocessing``: its spawned processes run the parent's main module again, cannot be started
by a daemonic process, and outlive a parent that is killed. These end when their socket closes.
"""

import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, Protocol, Self

from services.worker.masks.hog.objectives import Rating
from services.worker.masks.hog.pattern import State
from services.worker.stopping import CancelCheck

MOST_PROCESSES = 64
LOOK_SECONDS = 0.2  # how often a cancel is looked for
END_SECONDS = 5.0


class Rater(Protocol):
    """What the processes do with a state."""

    def rate(self, state: State) -> Rating:
        """Rate one state."""
        ...


class Pool:
    """``processes`` that rate states of one problem; with 1, the calling process does it.

    Use it as a context manager: leaving it ends the processes. Raises ``ValueError`` when the
    problem cannot be sent to processes, or their number is out of range.
    """

    def __init__(self, problem: Rater, processes: int = 1) -> None:
        if not 1 <= processes <= MOST_PROCESSES:
            raise ValueError(f"a pool has 1 to {MOST_PROCESSES} processes, not {processes}")
        self._problem = problem
        self._alone = processes == 1
        self._members: dict[Connection, subprocess.Popen[bytes]] = {}
        if self._alone:
            return
        try:
            sent = pickle.dumps(problem)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise ValueError(f"the problem cannot be sent to processes: {error}") from error
        try:
            for _ in range(processes):
                self._start()
            # All are started before the first one is waited for.
            for connection in self._members:
                connection.send_bytes(sent)
            for connection in self._members:
                self._accepted(connection)
        except BaseException:
            self.close()
            raise

    def rate(
        self, states: Sequence[State], check_cancel: CancelCheck | None = None
    ) -> list[Rating]:
        """Rate states, the answers in their order.

        ``check_cancel`` is called between and may raise. Raises what the problem raises, and
        ``RuntimeError`` when a process is gone.
        """
        check = check_cancel or (lambda: None)
        if self._alone:
            ratings = []
            for state in states:
                check()
                ratings.append(self._problem.rate(state))
            return ratings
        if not self._members:
            raise RuntimeError("the pool is closed")
        try:
            return self._shared_out(states, check)
        except BaseException:
            # What is still being rated would be taken for the answers to the next call.
            self.close()
            raise

    def _shared_out(self, states: Sequence[State], check: CancelCheck) -> list[Rating]:
        answers: dict[int, Rating] = {}
        waiting = list(enumerate(states))[::-1]
        idle = list(self._members)
        while len(answers) < len(states):
            while idle and waiting:
                self._send(idle.pop(), waiting.pop())
            check()
            busy = [connection for connection in self._members if connection not in idle]
            readable = wait(busy, LOOK_SECONDS)
            for connection in [one for one in busy if one in readable]:
                number, answer = self._received(connection)
                if isinstance(answer, Exception):
                    raise answer
                answers[number] = answer
                idle.append(connection)
        return [answers[number] for number in range(len(states))]

    def close(self) -> None:
        """End the processes and wait for them."""
        members, self._members = self._members, {}
        for connection, process in members.items():
            connection.close()
            process.terminate()
        for process in members.values():
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            # One core each, whatever a placing function computes with.
            environment = os.environ | {
                "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                "OMP_NUM_THREADS": "1",
            }
            process = subprocess.Popen(  # noqa: S603 - ourselves
                [sys.executable, "-m", "services.worker.masks.hog.process", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=environment,
            )
        self._members[Connection(ours.detach())] = process

    @staticmethod
    def _send(connection: Connection, task: tuple[int, State]) -> None:
        try:
            connection.send(task)
        except OSError as error:
            raise RuntimeError("a process of the pool is gone") from error

    def _accepted(self, connection: Connection) -> None:
        refusal = self._received(connection)
        if refusal is not None:
            raise refusal

    @staticmethod
    def _received(connection: Connection) -> Any:
        try:
            return connection.recv()
        except (EOFError, OSError) as error:
            raise RuntimeError("a process of the pool is gone") from error
