"""Starts the servers that are compared, each alone, and stops them."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx

from tests.fixtures.servers import PostgresServer, RedisServer

STACKS = ("embedded", "Redis + Postgres")
READY_SECONDS = 120
WORKERS = 2


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(arguments: list[str], environment: dict[str, str], log: Path) -> Iterator[None]:
    """Run a process group until the block ends."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            arguments,
            env={**os.environ, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(60)
            # LitServe leaves its workers behind, busily waiting: they would slow down the next one.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for(url: str, log: Path) -> None:
    """Wait until a URL answers with success."""
    give_up = time.monotonic() + READY_SECONDS
    while time.monotonic() < give_up:
        try:
            if httpx.get(url, timeout=2).is_success:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"{url} does not answer; its log ends: {log.read_text()[-2000:]}")


@contextmanager
def serve(stack: str, folder: Path) -> Iterator[str]:
    """Run Bauta with two workers of one thread on the named stack; yields its URL."""
    folder.mkdir(parents=True)
    port = free_port()
    environment = {
        "BAUTA_DATA_DIR": str(folder / "data"),
        "BAUTA_PORT": str(port),
        "BAUTA_THREADS": "1",
    }
    with ExitStack() as servers:
        if stack != "embedded":
            postgres = PostgresServer(durable=True).start()
            servers.callback(postgres.remove)
            (folder / "redis").mkdir()
            redis = servers.enter_context(RedisServer(folder / "redis"))
            environment |= {
                "BAUTA_DATABASE_URL": postgres.create_database("bauta"),
                "BAUTA_BROKER_URL": redis.url,
            }
        log = folder / "serve.log"
        command = [sys.executable, "-m", "services.cli", "serve"]
        with running(command, environment, log):
            url = f"http://127.0.0.1:{port}"
            wait_for(f"{url}/readyz", log)
            _wait_for_workers(log)
            yield url


def _wait_for_workers(log: Path) -> None:
    """Both workers import torch for seconds; one that is not up yet would spoil the figures."""
    give_up = time.monotonic() + READY_SECONDS
    while log.read_text().count("worker ready") < WORKERS:
        if time.monotonic() > give_up:
            raise RuntimeError(f"the workers do not become ready: {log.read_text()[-2000:]}")
        time.sleep(0.2)


@contextmanager
def litserve() -> Iterator[str]:
    """Run LitServe with two workers of one thread and dynamic batching; yields its URL."""
    port = free_port()
    log = Path(f"/tmp/litserve-{port}.log")
    command = [sys.executable, "-m", "benchmarks.litserve_peer", str(port)]
    try:
        with running(command, {"OMP_NUM_THREADS": "1"}, log):
            url = f"http://127.0.0.1:{port}"
            wait_for(f"{url}/health", log)
            yield url
    finally:
        log.unlink(missing_ok=True)
