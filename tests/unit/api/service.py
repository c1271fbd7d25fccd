"""An API of a test's own on a free port, and the photos and workers that it needs."""

import hashlib
import io
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from PIL import Image

from services.api.app import create_app
from services.api.front import Bounds, build_config
from services.api.resources import Resources
from shared.db.claims import NewArtifact
from shared.db.queries import job_prefix
from shared.db.tables import Job
from shared.problems import Problem
from shared.settings import Settings
from tests.claiming import claim

NOBODY = "img_0123456789abcdef01234567"
QUEUES = ("interactive", "batch")


def picture(width: int = 8, height: int = 6, *, file_format: str = "PNG", **options: Any) -> bytes:
    """Return an encoded picture with a gradient."""
    image = Image.linear_gradient("L").resize((width, height)).convert("RGB")
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


@dataclass
class Service:
    """A running API, its client, and what lies below it."""

    app: FastAPI
    client: httpx.Client

    @property
    def resources(self) -> Resources:
        """What the API's requests share."""
        resources: Resources = self.app.state.resources
        return resources

    def upload(self, data: bytes | None = None) -> str:
        """Upload an image; returns its id."""
        headers = {"Content-Type": "image/png"}
        answer = self.client.post("/v1/images", content=data or picture(), headers=headers)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def create(self, **headers: str) -> str:
        """Create a classify job of one inline image; returns its id."""
        answer = self.client.post("/v1/jobs/classify", files={"image": picture()}, headers=headers)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def claim(self, job_id: str) -> Job:
        """Claim a job, as a worker does."""
        job = claim(self.resources.repository, job_id)
        assert job is not None
        return job

    def finish(
        self,
        job_id: str,
        *,
        artifacts: Sequence[tuple[str, str, bytes]] = (),
        problem: Problem | None = None,
        verdict: str | None = None,
        warnings: Sequence[str] = (),
    ) -> None:
        """Run a job to its end, as a worker does; artifacts are (name, media type, bytes)."""
        job = self.claim(job_id)
        rows = []
        for name, media_type, data in artifacts:
            key = job_prefix(job.tenant_id, job.id, job.fence) + name
            self.resources.objects.put(key, data)
            rows.append(
                NewArtifact(
                    name=name,
                    media_type=media_type,
                    size=len(data),
                    sha256=hashlib.sha256(data).hexdigest(),
                    object_key=key,
                )
            )
        main = artifacts[0][0] if artifacts else None
        assert self.resources.repository.claims.finish(
            job_id,
            job.fence,
            state="failed" if problem else "succeeded",
            retention_seconds=3600,
            result=None
            if problem
            else {
                "kind": job.kind,
                "main_artifact": main,
                "verdict": verdict,
                "warnings": list(warnings),
            },
            problem=problem,
            artifacts=rows,
        )

    def stored_files(self) -> list[Path]:
        """Return all files of the object store."""
        root = self.resources.objects.root
        assert root is not None
        return [path for path in root.rglob("*") if path.is_file()]


@contextmanager
def serving(data_dir: Path, *, bounds: Bounds | None = None, **overrides: Any) -> Iterator[Service]:
    """Start an API with its state in ``data_dir``; keyword arguments are settings."""
    app = create_app(Settings(data_dir=data_dir, **overrides))
    config = build_config(app, bounds or Bounds(), port=0, log_config=None, lifespan="on")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the API did not start"
            time.sleep(0.005)
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            yield Service(app, client)
    finally:
        server.should_exit = True
        thread.join()


def assert_problem(answer: Any, status: int, slug: str) -> dict[str, Any]:
    """Check that an answer is this problem; returns its document."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["type"] == f"/problems/{slug}"
    assert document["status"] == status
    assert document["title"]
    assert document["detail"]
    return document
