"""The compose file's own commands, run as processes against real servers, do a job over HTTP."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from services.demo.photos import encoded, portrait
from shared.objects import ObjectStore
from shared.settings import load_settings
from tests.fixtures.process import HOST, free_port, wait_until
from tests.fixtures.servers import PostgresServer, RedisServer, S3Server

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(400)]

ROOT = Path(__file__).resolve().parents[2]
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())[
    "services"
]
SECRETS = ("postgres", "database", "redis", "s3")
LONG_RUNNING = ("api", "worker", "worker-interactive", "keeper")
HEALTH_FILE_CHECK = re.compile(r"HEALTHCHECK.*?CMD (\[.*?\])$", re.DOTALL | re.MULTILINE)


def image_text(service: Mapping[str, Any]) -> str:
    """Return the last stage of the Dockerfile that a service runs."""
    dockerfile: Path = ROOT / service["build"]["dockerfile"]
    return dockerfile.read_text().rpartition("\nFROM")[2]


def image_environment(service: Mapping[str, Any]) -> dict[str, str]:
    """Return the ``ENV`` of a service's image."""
    text = image_text(service).replace("\\\n", " ")
    lines = re.findall(r"^ENV (.*)$", text, re.MULTILINE)
    pairs = [part.split("=", 1) for line in lines for part in line.split()]
    return {name: value for name, value in pairs if name != "PATH"}


@dataclass
class Deployment:
    """Maps the containers' addresses and paths to this test's, and changes nothing else."""

    folder: Path
    substitutions: Mapping[str, str]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def here(self, text: str) -> str:
        """Return a text of the compose file with this test's addresses and paths."""
        text = re.sub(r"\$\{\w+:-(.*?)\}", r"\1", text).replace("$$", "$")
        theirs = "|".join(map(re.escape, self.substitutions))
        return re.sub(theirs, lambda found: self.substitutions[found.group()], text)

    def command(self, name: str) -> list[str]:
        """Return what a service's container would run."""
        service = SERVICES[name]
        words = [*service.get("entrypoint", ["bauta"]), *service.get("command", [])]
        return [self.here(str(word)) for word in words]

    def environment(self, name: str) -> dict[str, str]:
        """Return exactly the variables that the container would have, but one thread a process."""
        service = SERVICES[name]
        values = {**image_environment(service), **service.get("environment", {})}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        here = {key: self.here(str(value)) for key, value in values.items()}
        return {"PATH": path, **here, "OMP_NUM_THREADS": "1", "BAUTA_THREADS": "1"}

    def run(self, name: str) -> str:
        """Run a one-shot to its end; returns what it printed."""
        done = subprocess.run(
            self.command(name),
            check=False,
            cwd=self.folder,
            env=self.environment(name),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, name: str) -> None:
        """Start a service."""
        health = str(self.folder / f"{name}.health")
        command = [
            health if word == self.here("/tmp/health") else word for word in self.command(name)
        ]
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environment(name),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def is_healthy(self, name: str) -> bool:
        """Run the service's own health check."""
        service = SERVICES[name]
        if "healthcheck" in service:
            check = service["healthcheck"]["test"][1:]
        else:
            (text,) = HEALTH_FILE_CHECK.findall(image_text(service))
            check = yaml.safe_load(text)
        health = str(self.folder / f"{name}.health")
        words = [self.here(word).replace(self.here("/tmp/health"), health) for word in check]
        process = self.processes[name]
        assert process.poll() is None, self.log(name)
        done = subprocess.run(words, check=False, env=self.environment(name), capture_output=True)
        return done.returncode == 0

    def log(self, name: str) -> str:
        """Return the end of a service's log."""
        return (self.folder / f"{name}.log").read_text()[-4000:]

    def stop(self) -> dict[str, int]:
        """Stop everything as Docker does; returns the exit codes."""
        for process in self.processes.values():
            process.terminate()
        end = time.monotonic() + 60
        codes = {}
        for name, process in self.processes.items():
            try:
                codes[name] = process.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                codes[name] = -signal.SIGKILL
        self.processes.clear()
        return codes


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    """All servers, with the secrets that the compose file makes, a database and a bucket."""
    vault, models = tmp_path / "vault", tmp_path / "models"
    for folder in (*(vault / name for name in SECRETS), models, tmp_path / "redis"):
        folder.mkdir(parents=True)
    (script,) = SERVICES["secrets"]["command"]
    script = script.replace("$$", "$").replace("cd /secrets", f"cd '{vault}'")
    subprocess.run(["sh", "-euc", script], check=True, stdout=subprocess.DEVNULL)

    program, *arguments = SERVICES["redis"]["command"]
    assert program == "redis-server"
    arguments = [word.replace("/secrets", str(vault)) for word in arguments]
    password = (vault / "postgres" / "password").read_text().strip()
    postgres = PostgresServer(password=password)
    redis = RedisServer(tmp_path / "redis", arguments=arguments)
    s3 = S3Server(tmp_path)
    port = free_port()
    deployment = Deployment(
        tmp_path,
        {
            "/secrets/": f"{vault}/",
            "@postgres:5432": f"@{HOST}:{postgres.port}",
            "redis://redis:6379": f"redis://{HOST}:{redis.port}",
            "http://s3:8333": s3.endpoint,
            "8000": str(port),
            "/tmp": str(tmp_path / "tmp"),
            "/models": str(models),
        },
    )
    try:
        postgres.start()
        postgres.create_database(SERVICES["postgres"]["environment"]["POSTGRES_DB"])
        redis.start()
        s3.start()
        s3.create_bucket("bauta")
        yield deployment
    finally:
        deployment.stop()
        s3.stop()
        redis.stop()
        postgres.remove()


def test_a_photo_is_classified_by_what_the_compose_file_runs(deployment: Deployment) -> None:
    (deployment.folder / "tmp").mkdir()
    deployment.run("migrate")
    deployment.run("migrate")  # as every later start does
    key = deployment.run("keys").strip()
    assert key
    assert "there are keys already" in deployment.run("keys")

    for name in LONG_RUNNING:
        deployment.start(name)
    for name in LONG_RUNNING:
        wait_until(partial(deployment.is_healthy, name), seconds=180, what=f"{name} to be healthy")

    url = f"http://{HOST}:{deployment.environment('api')['BAUTA_PORT']}"
    photo = encoded(portrait())
    with httpx.Client(base_url=url, timeout=120) as client:
        files = {"image": ("me.jpg", photo, "image/jpeg")}
        assert client.post("/v1/jobs/classify", files=files).status_code == 401
        client.headers["Authorization"] = f"Bearer {key}"
        answer = client.post("/v1/jobs/classify", files=files, headers={"Prefer": "wait=60"})
        assert answer.status_code == 201, answer.text + deployment.log("worker")
        job = answer.json()
        assert job["state"] == "succeeded"
        assert job["result"]["counts"]["without_mask"] == 1
        picture = client.get(f"/v1/jobs/{job['id']}/artifacts/{job['artifacts'][0]['name']}")
        assert picture.headers["content-type"].startswith("image/")
        assert len(list(objects_of(deployment).keys("default/"))) >= 2
        assert client.delete(f"/v1/jobs/{job['id']}").status_code in {202, 204}
        wait_until(
            lambda: not list(objects_of(deployment).keys("default/")), what="the bytes to go"
        )

    assert set(deployment.stop().values()) <= {0, -signal.SIGTERM}


def objects_of(deployment: Deployment) -> ObjectStore:
    """Open the bucket with the credentials of the deployment."""
    environment = deployment.environment("api")
    vault = deployment.folder / "vault" / "s3"
    settings = load_settings(
        objects_url=environment["BAUTA_OBJECTS_URL"],
        s3_endpoint=environment["BAUTA_S3_ENDPOINT"],
        s3_access_key_id=(vault / "access-key-id").read_text().strip(),
        s3_secret_access_key=(vault / "secret-access-key").read_text().strip(),
    )
    return ObjectStore.from_settings(settings)
