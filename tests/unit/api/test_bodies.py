"""Bodies on their way in: encodings, the spool, large specs, forms as browsers send them."""

import gzip
import io
import json
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from services.api import spool as spool_module
from services.api.spec_check import FEW_VALUES, MAX_JSON_BYTES, MAX_VALUES
from tests.unit.api.service import NOBODY, Service, assert_problem, picture

JSON = {"Content-Type": "application/json"}
PNG = {"Content-Type": "image/png"}
UPLOADS = """
import sys, httpx
from concurrent.futures import ThreadPoolExecutor
data, url = sys.stdin.buffer.read(), sys.argv[1] + "/v1/images"
def upload(_):
    return httpx.post(url, content=data, headers={"Content-Type": "image/png"}, timeout=60)
with ThreadPoolExecutor(100) as pool:
    sys.exit(any(answer.status_code != 201 for answer in pool.map(upload, range(100))))
"""
BOX = {"x": 1, "y": 2, "width": 3, "height": 4}


def raw_deflate(data: bytes) -> bytes:
    """Deflate without zlib's header, which some clients send as `deflate`."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [
        ("gzip", gzip.compress),
        ("x-gzip", gzip.compress),
        ("GZIP", lambda data: gzip.compress(data[:50]) + gzip.compress(data[50:])),
        ("deflate", zlib.compress),
        ("deflate", raw_deflate),
        ("identity", bytes),
        ("", bytes),
    ],
)
def test_bodies_may_be_compressed(
    service: Service, encoding: str, encode: Callable[[bytes], bytes]
) -> None:
    data = picture(64, 64, compress_level=0)
    headers = {**PNG, "Content-Encoding": encoding}
    answer = service.client.post("/v1/images", content=encode(data), headers=headers)
    assert answer.status_code == 201, answer.text
    plain = service.client.post("/v1/images", content=data, headers=PNG)
    assert answer.json()["sha256"] == plain.json()["sha256"]
    spec = encode(json.dumps({"images": [answer.json()["id"]]}).encode())
    job = service.client.post(
        "/v1/jobs/classify", content=spec, headers={**JSON, "Content-Encoding": encoding}
    )
    assert job.status_code == 202, job.text


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "compress", "aes128gcm"])
def test_other_encodings_are_refused_by_name(service: Service, encoding: str) -> None:
    headers = {**PNG, "Content-Encoding": encoding}
    answer = service.client.post("/v1/images", content=picture(), headers=headers)
    assert_problem(answer, 415, "unsupported-encoding")
    assert answer.headers["accept-encoding"] == "gzip, deflate, identity"


@pytest.mark.parametrize(
    "body",
    [
        b"not compressed",
        gzip.compress(picture())[:-20],
        gzip.compress(picture()) + b"garbage",
        gzip.compress(picture())[:20] + b"\0" * 100,
    ],
    ids=["plain", "cut", "trailing", "damaged"],
)
def test_a_body_that_is_not_encoded_as_declared_is_refused(service: Service, body: bytes) -> None:
    headers = {**PNG, "Content-Encoding": "gzip"}
    answer = service.client.post("/v1/images", content=body, headers=headers)
    assert_problem(answer, 400, "malformed-encoding")
    assert service.stored_files() == []


def test_a_small_body_that_unpacks_to_a_large_one_meets_its_caps(
    serve: Callable[..., Service],
) -> None:
    """100 KB that would become 100 MB; memory grows by no more than a few pieces."""
    service = serve(max_request_bytes=5_000_000)
    bomb = gzip.compress(bytes(100_000_000), 9)
    assert len(bomb) < 100_000
    before = psutil.Process().memory_info().rss
    for path, headers in (
        ("/v1/images", PNG),
        ("/v1/jobs/classify", JSON),
        ("/v1/jobs/classify", {"Content-Type": "multipart/form-data; boundary=x"}),
    ):
        answer = service.client.post(
            path, content=bomb, headers={**headers, "Content-Encoding": "gzip"}
        )
        assert answer.status_code in (400, 413), answer.text
    assert psutil.Process().memory_info().rss - before < 60_000_000


def test_uploads_wait_on_disk_and_nothing_is_left_there(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While its turn to be decoded has not come, a file larger than 64 KiB is not in memory."""
    data = picture(300, 300, compress_level=0)
    rolled = []
    monkeypatch.setattr(
        spool_module.Spool,
        "new_file",
        lambda spool, make=spool_module.Spool.new_file: rolled.append(make(spool)) or rolled[-1],
    )
    for _ in range(2):
        assert service.client.post("/v1/images", content=data, headers=PNG).status_code == 201
    form = service.client.post("/v1/jobs/classify", files=[("image", data), ("image", data)])
    assert form.status_code == 202
    refused = service.client.post("/v1/jobs/classify", files=[("image", data), ("photo", data)])
    assert refused.status_code == 422
    assert len(rolled) >= 8
    assert all(file._rolled and file.closed for file in rolled)
    assert list((tmp_path / "spool").iterdir()) == []


def test_many_uploads_at_once_are_bounded_in_memory(service: Service) -> None:
    """A hundred uploads of 2 MB are 200 MB in flight; held in memory twice they would be 400.

    The clients are a process of their own: what they hold is not the service's.
    """
    data = picture(900, 800, compress_level=0)
    assert len(data) > 2_000_000
    service.upload(data)
    before = psutil.Process().memory_info().rss
    peak = before
    clients = subprocess.Popen(
        [sys.executable, "-c", UPLOADS, str(service.client.base_url)], stdin=subprocess.PIPE
    )
    assert clients.stdin is not None
    clients.stdin.write(data)
    clients.stdin.close()
    while clients.poll() is None:
        peak = max(peak, psutil.Process().memory_info().rss)
        time.sleep(0.005)
    assert clients.returncode == 0, "an upload was not answered with 201"
    assert peak - before < 200_000_000


def test_a_full_spool_is_answered_with_507(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = spool_module.shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(spool_module.shutil, "disk_usage", lambda folder: usage)
    data = picture(300, 300, compress_level=0)
    assert_problem(
        service.client.post("/v1/images", content=data, headers=PNG), 507, "storage-full"
    )


def test_a_large_spec_is_checked_and_runs(service: Service) -> None:
    boxes = [BOX] * (2 * FEW_VALUES // 4)
    spec = {"images": [service.upload()], "faces": boxes}
    answer = service.client.post("/v1/jobs/classify", json=spec)
    assert answer.status_code == 202, answer.text
    assert len(answer.json()["spec"]["faces"]) == len(boxes)


def test_mistakes_in_a_large_spec_are_named_as_in_a_small_one(service: Service) -> None:
    boxes = [BOX] * (2 * FEW_VALUES // 4)
    spec = {"images": [NOBODY], "faces": [*boxes, {**BOX, "width": -1}]}
    problem = assert_problem(
        service.client.post("/v1/jobs/classify", json=spec), 422, "invalid-request"
    )
    assert f"/faces/{len(boxes)}/width" in [error["pointer"] for error in problem["errors"]]


def test_a_spec_of_nothing_but_mistakes_silences_nobody(service: Service) -> None:
    """The process that looks for the mistakes is not this one: others are answered meanwhile."""
    spec = {"images": [NOBODY], "faces": [1] * 10_000}
    answers = []
    thread = threading.Thread(
        target=lambda: answers.append(
            service.client.post("/v1/jobs/classify", json=spec, timeout=120)
        )
    )
    thread.start()
    while not service.resources.checking.borrowed_tokens and thread.is_alive():
        time.sleep(0.002)
    meanwhile = 0
    while thread.is_alive():
        assert service.client.get("/livez").status_code == 200
        meanwhile += 1
    thread.join()
    assert meanwhile > 0
    assert len(assert_problem(answers[0], 422, "invalid-request")["errors"]) == 100


@pytest.mark.parametrize(
    "body",
    [
        b'{"images": ["' + b"a" * MAX_JSON_BYTES + b'"]}',
        b'{"images": [' + b"1," * (MAX_VALUES + 1) + b"1]}",
    ],
    ids=["bytes", "values"],
)
def test_a_spec_over_the_caps_is_refused(service: Service, body: bytes) -> None:
    answer = service.client.post("/v1/jobs/classify", content=body, headers=JSON)
    assert_problem(answer, 413, "content-too-large")


def test_the_fields_of_a_form_are_bounded_together(service: Service) -> None:
    fields = {f"field{number}": "a" * 100_000 for number in range(20)}
    answer = service.client.post("/v1/jobs/classify", data=fields, files={"image": picture()})
    assert_problem(answer, 413, "content-too-large")


def test_an_empty_file_field_as_browsers_send_it_is_ignored(service: Service) -> None:
    files = [
        ("image", ("", b"", "application/octet-stream")),
        ("image", ("me.png", picture())),
        ("images", ("", b"", "application/octet-stream")),
    ]
    body, boundary = io.BytesIO(), b"x"
    for name, (filename, data, *_) in files:
        body.write(b'--x\r\nContent-Disposition: form-data; name="%s"; ' % name.encode())
        body.write(b'filename="%s"\r\n\r\n%s\r\n' % (filename.encode(), data))
    body.write(b"--x--\r\n")
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary.decode()}"}
    answer = service.client.post("/v1/jobs/classify", content=body.getvalue(), headers=headers)
    assert answer.status_code == 202, answer.text
    assert len(answer.json()["spec"]["images"]) == 1
    chosen = service.client.post("/v1/jobs/classify", files={"image": ("me.png", b"")})
    assert_problem(chosen, 422, "empty-image")


@pytest.mark.parametrize(
    ("kind", "spec", "pointer"),
    [
        ("attack", {"images": [NOBODY], "attack": {"name": "pgd", "eps": -1}}, "/attack/eps"),
        ("attack", {"images": [NOBODY], "attack": {"name": "pgd", "hop": 1}}, "/attack/hop"),
        (
            "encrypt",
            {"images": [NOBODY], "target": {"towards": "photos", "images": [NOBODY]}},
            "/target/consent",
        ),
        ("classify", {"images": [NOBODY], "faces": [[{**BOX, "x": "a"}]]}, "/faces/0/0/x"),
    ],
)
def test_pointers_lead_through_the_callers_own_document(
    service: Service, kind: str, spec: dict[str, object], pointer: str
) -> None:
    answer = service.client.post(f"/v1/jobs/{kind}", json=spec)
    problem = assert_problem(answer, 422, "invalid-request")
    assert pointer in [error["pointer"] for error in problem["errors"]], problem


@pytest.mark.parametrize(
    ("kind", "spec", "pointer", "says"),
    [
        ("classify", {"images": ["data:image/png;base64,AAAA"]}, "/images/0", "form field `image`"),
        ("classify", {"images": "data:image/png;base64,AAAA"}, "/images", "form field `image`"),
        ("classify", {"images": ["iVBORw0KGgo" * 30]}, "/images/0", "form field `image`"),
        ("classify", {"images": ["https://example.com/a.jpg"]}, "/images/0", "not fetched"),
        (
            "encrypt",
            {"images": [NOBODY], "other_photos": ["data:image/jpeg;base64,AA"]},
            "/other_photos/0",
            "/v1/images",
        ),
    ],
)
def test_a_picture_in_json_is_answered_with_what_to_do_instead(
    service: Service, kind: str, spec: dict[str, object], pointer: str, says: str
) -> None:
    answer = service.client.post(f"/v1/jobs/{kind}", json=spec)
    problem = assert_problem(answer, 422, "invalid-request")
    details = {error["pointer"]: error["detail"] for error in problem["errors"]}
    assert says in details[pointer]
    assert len(answer.text) < 3_000
