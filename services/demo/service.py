"""Runs the embedded service for the demo, and speaks to it."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

START_SECONDS = 180
Json = dict[str, Any]


class Client:
    """Enough of an HTTP client for the demo, from the standard library."""

    def __init__(self, url: str) -> None:
        self._url = url

    def get(self, path: str) -> bytes:
        """Return the body of a GET."""
        with urlopen(self._url + path, timeout=90) as answer:  # noqa: S310 - our own service
            data: bytes = answer.read()
            return data

    def post_photos(self, path: str, photos: Mapping[str, bytes], **fields: str) -> Json:
        """Post photos and fields as one form and wait for the job."""
        boundary = secrets.token_hex(16)
        parts = []
        for name, value in fields.items():
            head = f'Content-Disposition: form-data; name="{name}"'
            parts.append(f"--{boundary}\r\n{head}\r\n\r\n{value}\r\n".encode())
        for name, data in photos.items():
            head = f'Content-Disposition: form-data; name="image"; filename="{name}"'
            parts.append(f"--{boundary}\r\n{head}\r\nContent-Type: image/jpeg\r\n\r\n".encode())
            parts.append(data + b"\r\n")
        body = b"".join([*parts, f"--{boundary}--\r\n".encode()])
        return self._post(path, body, f"multipart/form-data; boundary={boundary}")

    def post_file(self, path: str, data: bytes, media_type: str, **fields: str) -> Json:
        """Post a file as the body, with fields in the query, and wait for the job."""
        return self._post(f"{path}?{urlencode(fields)}", data, media_type)

    def post_json(self, path: str, document: Json) -> Json:
        """Post a document and wait for the job."""
        return self._post(path, json.dumps(document).encode(), "application/json")

    def _post(self, path: str, body: bytes, media_type: str) -> Json:
        headers = {"Content-Type": media_type, "Prefer": "wait=60"}
        request = Request(self._url + path, body, headers)  # noqa: S310 - our own service
        try:
            with urlopen(request, timeout=90) as answer:  # noqa: S310
                job: Json = json.loads(answer.read())
        except HTTPError as error:
            raise RuntimeError(error.read().decode()) from error
        return job


@contextmanager
def service() -> Iterator[Client]:
    """Run `bauta serve` on a free port with data that is deleted afterwards."""
    with tempfile.TemporaryDirectory(prefix="bauta-demo-") as folder:
        log = Path(folder) / "serve.log"
        port = _free_port()
        environment = {
            **os.environ,
            "BAUTA_DATA_DIR": str(Path(folder) / "data"),
            "BAUTA_PORT": str(port),
        }
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "services.cli", "serve"],
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            try:
                client = Client(f"http://127.0.0.1:{port}")
                _wait(client, process, log)
                yield client
            finally:
                process.send_signal(signal.SIGINT)
                process.wait(60)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(client: Client, process: subprocess.Popen[bytes], log: Path) -> None:
    give_up = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < give_up:
        try:
            client.get("/readyz")
        except (URLError, OSError):
            time.sleep(0.2)
        else:
            return
    raise RuntimeError(f"the service did not start:\n{log.read_text()[-3000:]}")
