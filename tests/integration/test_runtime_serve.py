"""``bauta serve``: one command, real processes, a real photo."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import psutil
import pytest
from PIL import Image
from skimage import data

from tests.fixtures.process import free_port, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 150.0


class Serve:
    """A running ``bauta serve``."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.log = folder / "serve.log"
        self.environment = {
            **os.environ,
            "BAUTA_DATA_DIR": str(folder / "data"),
            "BAUTA_PORT": str(self.port),
            "BAUTA_DRAIN_SECONDS": "3",
            "OMP_NUM_THREADS": "1",
        }
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "services.cli", "serve"],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def children(self) -> dict[str, psutil.Process]:
        """Return the processes under the supervisor by what they do."""
        found = {}
        for child in psutil.Process(self.process.pid).children():
            try:
                words = child.cmdline()
            except psutil.NoSuchProcess:  # a zombie, until the supervisor looks
                continue
            if "services.cli" in words:
                rest = words[words.index("services.cli") + 1 :]
                found[" ".join(rest[:3] if rest[0] == "worker" else rest[:1])] = child
        return found

    def classify(self) -> dict[str, object]:
        """Post the public-domain portrait and wait for the result."""
        picture = BytesIO()
        Image.fromarray(data.astronaut()).save(picture, "JPEG")
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/v1/jobs/classify",
            data=b"--b\r\nContent-Disposition: form-data; name=image; filename=a.jpg\r\n"
            b"Content-Type: image/jpeg\r\n\r\n" + picture.getvalue() + b"\r\n--b--\r\n",
            headers={"Content-Type": "multipart/form-data; boundary=b", "Prefer": "wait=60"},
        )
        with urllib.request.urlopen(request, timeout=90) as answer:
            job: dict[str, object] = json.loads(answer.read())
            return job

    def wait_until_ready(self, times: int = 1) -> None:
        def is_ready() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            return self.log.read_text().count("Bauta answers at") >= times

        wait_until(is_ready, seconds=START_SECONDS, what="the service")


@contextmanager
def serving(folder: Path) -> Iterator[Serve]:
    serve = Serve(folder)
    family: list[psutil.Process] = []
    try:
        serve.wait_until_ready()
        family = psutil.Process(serve.process.pid).children(recursive=True)
        yield serve
    finally:
        if serve.process.poll() is None:
            family += psutil.Process(serve.process.pid).children(recursive=True)
            serve.process.kill()
            serve.process.wait()
        for process in family:
            if process.is_running():
                process.kill()


def test_serves_restarts_what_dies_and_stops_on_ctrl_c(tmp_path: Path) -> None:
    with serving(tmp_path) as serve:
        job = serve.classify()
        assert job["state"] == "succeeded"
        result = job["result"]
        assert isinstance(result, dict)
        assert result["counts"] == {"with_mask": 0, "without_mask": 1}

        again = serve.start()
        assert again.wait(60) == 1, "two may not serve from one folder"
        assert "stop it first" in serve.log.read_text()

        before = serve.children()
        assert {"api", "keeper"} < set(before)
        assert len(before) == 4
        for child in before.values():
            child.kill()
        wait_until(
            lambda: (
                len(serve.children()) == 4
                and not set(serve.children().values()) & set(before.values())
            ),
            what="new processes",
        )
        wait_until(lambda: _answers(serve), what="the API")
        assert serve.classify()["state"] == "succeeded"

        family = psutil.Process(serve.process.pid).children(recursive=True)
        serve.process.send_signal(signal.SIGINT)
        assert serve.process.wait(60) == 0
        assert not [process for process in family if process.is_running()]


def test_a_killed_supervisor_leaves_no_process_behind(tmp_path: Path) -> None:
    with serving(tmp_path) as serve:
        family = psutil.Process(serve.process.pid).children(recursive=True)
        assert len(family) >= 4
        serve.process.kill()
        serve.process.wait()

        _, alive = psutil.wait_procs(family, timeout=30)

        assert alive == []


def _answers(serve: Serve) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{serve.port}/livez", timeout=2):
            return True
    except OSError:
        return False
