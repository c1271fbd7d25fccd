"""Hundreds of waiting clients of a real API process, on both databases."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from sqlalchemy import text

from shared.db import Repository, create_database_engine
from shared.db.jobs import NewJob
from shared.db.migrate import upgrade
from shared.db.queries import new_id
from shared.settings import Settings
from shared.specs import parse_spec
from tests.claiming import claim
from tests.fixtures.process import free_port, wait_until
from tests.fixtures.servers import PostgresServer

pytestmark = pytest.mark.integration

WAITERS = 500
ROOT = Path(__file__).resolve().parents[2]


class Api:
    """An API process, its port, and its database seen from outside."""

    def __init__(self, folder: Path, database_url: str = "", **variables: str) -> None:
        self.port = free_port()
        self.folder = folder
        settings = Settings(data_dir=folder, database_url=database_url)
        self.engine = create_database_engine(settings.database)
        self.repository = Repository(self.engine)
        self._environment = {
            **os.environ,
            "BAUTA_DATA_DIR": str(folder),
            "BAUTA_DATABASE_URL": database_url,
            "BAUTA_PORT": str(self.port),
            **variables,
        }

    def start(self) -> None:
        """Start the process and wait until it answers."""
        with (self.folder / "api.log").open("ab") as log:
            self.process = subprocess.Popen(
                # Fewer open files than there will be waiters: the API must ask for more itself.
                ["sh", "-c", f"ulimit -Sn 256; exec {sys.executable} -m services.cli api"],
                cwd=ROOT,
                env=self._environment,
                stdout=log,
                stderr=log,
            )
        wait_until(self._is_up, what="the API to answer")

    def _is_up(self) -> bool:
        assert self.process.poll() is None, (self.folder / "api.log").read_text()[-3000:]
        try:
            return self.get("/livez").status_code == 200
        except httpx.TransportError:
            return False

    def get(self, path: str, **headers: str) -> httpx.Response:
        """Ask it."""
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", headers=headers, timeout=40)

    def create(self) -> str:
        """Commit a job, without any photo."""
        spec = parse_spec({"kind": "classify", "images": [new_id("img")]})
        job_id = new_id("job")
        new = NewJob(id=job_id, tenant_id="default", spec=spec)
        repository = self.repository
        repository.jobs._refuse_unknown_images = lambda *_, **__: None  # type: ignore[method-assign]
        repository.jobs.create(new, max_queued=100, retention_seconds=3600, ring_again_seconds=60)
        return job_id

    def finish(self, job_id: str) -> None:
        """Run the job to its end, as a worker does."""
        job = claim(self.repository, job_id)
        assert job is not None
        assert self.repository.claims.finish(
            job_id, job.fence, state="succeeded", retention_seconds=3600, result={}
        )

    def waiting(self) -> int:
        """Return how many requests it says are waiting."""
        found = re.search(r"^bauta_waiting_requests (\d+)", self.get("/metrics").text, re.M)
        assert found
        return int(found[1])

    def ask(self, path: str, header: str) -> "asyncio.Task[bytes]":
        """Send a request on a connection of its own; the task returns the whole answer."""
        return asyncio.create_task(self._ask(path, header))

    async def _ask(self, path: str, header: str) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        lines = [f"GET {path} HTTP/1.1", "Host: localhost", "Connection: close", header, "", ""]
        writer.write("\r\n".join(lines).encode())
        answer = await reader.read()
        writer.close()
        return answer

    def close(self) -> None:
        """End the process."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self.engine.dispose()


@contextmanager
def running(folder: Path, database_url: str = "", **variables: str) -> Iterator[Api]:
    """Run an API process on an up-to-date database."""
    api = Api(folder, database_url, **variables)
    upgrade(api.engine)
    api.start()
    try:
        yield api
    finally:
        api.close()


@pytest.fixture(params=["sqlite", "postgres"])
def api(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Api]:
    """An API process on each database."""
    url = request.getfixturevalue("fresh_database") if request.param == "postgres" else ""
    with running(tmp_path, url) as started:
        yield started


async def _wait_for(api: Api, number: int) -> None:
    for _ in range(600):
        if await asyncio.to_thread(api.waiting) == number:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{api.waiting()} of {number} requests are waiting")


def test_500_waiters_hold_neither_threads_nor_connections_and_all_wake(api: Api) -> None:
    job_id = api.create()

    async def crowd() -> list[bytes]:
        path = f"/v1/jobs/{job_id}"
        tasks = [
            api.ask(path, "Prefer: wait=60") if n % 2 else api.ask(f"{path}/events", "A: b")
            for n in range(WAITERS)
        ]
        await _wait_for(api, WAITERS)
        process = psutil.Process(api.process.pid)
        assert process.num_threads() < 50
        if api.engine.dialect.name == "postgresql":
            query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            with api.engine.connect() as connection:
                assert connection.execute(text(query)).scalar_one() < 25
        else:
            opened = [file.path for file in process.open_files()]
            assert sum(path.endswith("bauta.db") for path in opened) < 25
        assert api.get("/v1/jobs").status_code == 200
        await asyncio.to_thread(api.finish, job_id)
        return await asyncio.gather(*tasks)

    answers = asyncio.run(crowd())
    assert len(answers) == WAITERS
    assert sum(b'"state":"succeeded"' in answer for answer in answers) == WAITERS
    assert sum(b"event: succeeded" in answer for answer in answers) == WAITERS // 2
    wait_until(lambda: api.waiting() == 0, what="nobody to wait")


def test_stopping_ends_long_polls_and_streams(tmp_path: Path) -> None:
    api = Api(tmp_path)
    upgrade(api.engine)
    api.start()
    job_id = api.create()

    async def scene() -> list[bytes]:
        tasks = [
            api.ask(f"/v1/jobs/{job_id}", "Prefer: wait=60"),
            api.ask(f"/v1/jobs/{job_id}/events", "A: b"),
        ]
        await _wait_for(api, 2)
        await asyncio.to_thread(api.close)
        return await asyncio.gather(*tasks)

    poll, stream = asyncio.run(scene())
    assert poll.startswith(b"HTTP/1.1 200")
    assert b'"state":"queued"' in poll
    assert stream.endswith(b"0\r\n\r\n")  # ended, not broken off
    assert api.process.returncode in (0, -signal.SIGTERM)


def test_waiters_outlive_a_restart_of_the_database(tmp_path: Path) -> None:
    server = PostgresServer()
    try:
        server.start()
        with running(tmp_path, server.create_database("bauta_test")) as api:
            job_id = api.create()

            async def scene() -> bytes:
                task = api.ask(f"/v1/jobs/{job_id}", "Prefer: wait=60")
                await _wait_for(api, 1)
                await asyncio.to_thread(server.stop)
                down = await asyncio.to_thread(api.get, f"/v1/jobs/{job_id}")
                assert down.status_code == 503
                assert down.headers["content-type"] == "application/problem+json"
                assert down.json()["type"] == "/problems/database-unavailable"
                assert int(down.headers["retry-after"]) > 0
                ready = await asyncio.to_thread(api.get, "/readyz")
                assert (ready.status_code, ready.json()["type"]) == (503, "/problems/not-ready")
                assert (
                    "bauta_database_up 0.0" in (await asyncio.to_thread(api.get, "/metrics")).text
                )
                assert (await asyncio.to_thread(api.get, "/livez")).status_code == 200
                await asyncio.to_thread(server.start)
                api.engine.dispose()
                await asyncio.to_thread(api.finish, job_id)
                return await task

            answer = asyncio.run(scene())
            assert answer.startswith(b"HTTP/1.1 200")
            assert b'"state":"succeeded"' in answer
    finally:
        server.remove()


def test_the_api_starts_before_its_database(tmp_path: Path) -> None:
    server = PostgresServer()
    try:
        api = Api(tmp_path, server.url)
        api.start()
        try:
            assert api.get("/v1/jobs").json()["type"] == "/problems/database-unavailable"
            server.start()
            wait_until(lambda: api.get("/v1/jobs").status_code == 503, what="an answer")
            assert api.get("/v1/jobs").json()["type"] == "/problems/not-ready"
            assert "bauta db upgrade" in api.get("/readyz").text
            upgrade(api.engine)
            assert api.get("/v1/jobs").status_code == 200
        finally:
            api.close()
    finally:
        server.remove()


def test_a_public_bind_without_any_key_is_refused(tmp_path: Path) -> None:
    environment = {**os.environ, "BAUTA_DATA_DIR": str(tmp_path), "BAUTA_HOST": "0.0.0.0"}
    ended = subprocess.run(
        [sys.executable, "-m", "services.cli", "api"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert "bauta keys create" in ended.stdout + ended.stderr
