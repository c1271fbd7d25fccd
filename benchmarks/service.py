"""What durability costs: classify through HTTP against a bare model and against LitServe.

``python -m benchmarks.service`` prints ratios measured in one run; ``docs/benchmarks.md`` keeps
them. The three candidates see the same photos and run the same face finder and classifier, in two
processes of one thread each. Bauta stores every photo, job and result; nothing of its durability
is weakened for the run. LitServe keeps nothing.
"""

import argparse
import base64
import io
import json
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import numpy as np
from PIL import Image
from skimage import data

from benchmarks.servers import STACKS, litserve, serve

PHOTOS = 208
RAMP_SECONDS = 2.0
WINDOW_SECONDS = 16.0
CLIENTS = 8
PHOTOS_A_JOB = 8
DIRECT_BATCHES = (1, 4, 8, 16)


def photos() -> list[bytes]:
    """Return distinct JPEG photos of 256x256 pixels with one face each."""
    face = Image.fromarray(data.astronaut()).crop((100, 0, 400, 300)).resize((256, 256))
    random = np.random.default_rng(0)
    made = []
    for _ in range(PHOTOS):
        x, y = (int(value) for value in random.integers(0, 16, 2))
        encoded = io.BytesIO()
        face.crop((x, y, x + 240, y + 240)).resize((256, 256)).save(encoded, "JPEG", quality=90)
        made.append(encoded.getvalue())
    return made


def rate(send: Callable[[list[bytes]], None], batches: list[list[bytes]]) -> float:
    """Return photos a second that ``CLIENTS`` clients get answered, sending batch after batch.

    Sustained: what is answered in ``WINDOW_SECONDS`` after ``RAMP_SECONDS``, so that neither the
    start nor the last batch, when one worker has nothing left to do, counts.
    """
    answered: list[tuple[float, int]] = []
    began = time.perf_counter()
    end = began + RAMP_SECONDS + WINDOW_SECONDS

    def client(number: int) -> None:
        turn = number
        while time.perf_counter() < end:
            batch = batches[turn % len(batches)]
            send(batch)
            answered.append((time.perf_counter(), len(batch)))
            turn += CLIENTS

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(client, range(CLIENTS)))
    inside = sum(count for at, count in answered if began + RAMP_SECONDS <= at < end)
    return inside / WINDOW_SECONDS


def batched(images: list[bytes], size: int) -> list[list[bytes]]:
    """Split photos into batches."""
    return [images[start : start + size] for start in range(0, len(images), size)]


def post_job(
    client: httpx.Client, images: list[bytes], *, faces: str = "auto"
) -> dict[str, object]:
    """Classify photos in one job and wait for the result."""
    files = [("image", (f"{n}.jpg", image, "image/jpeg")) for n, image in enumerate(images)]
    answer = client.post(
        "/v1/jobs/classify",
        files=files,
        data={"annotate": "false", "faces": faces},
        headers={"Prefer": "wait=60"},
    )
    job: dict[str, object] = answer.raise_for_status().json()
    if job["state"] != "succeeded":
        raise RuntimeError(f"the job did not succeed: {job}")
    return job


def post_litserve(client: httpx.Client, images: list[bytes]) -> None:
    """Classify photos with LitServe, which takes one a request."""
    for image in images:
        body = {"image": base64.b64encode(image).decode()}
        client.post("/predict", json=body).raise_for_status()


@contextmanager
def connected(url: str) -> Iterator[httpx.Client]:
    """Open a client with enough connections."""
    limits = httpx.Limits(max_connections=CLIENTS * 2)
    with httpx.Client(base_url=url, timeout=120, limits=limits) as client:
        yield client


def direct_rate(images: list[bytes]) -> dict[str, float]:
    """Return photos a second of the bare functions in two processes, at their best batch."""
    from benchmarks.pipeline import direct_in_processes

    by_batch = {
        batch: direct_in_processes(images, processes=2, batch=batch) for batch in DIRECT_BATCHES
    }
    print("  direct, by batch:", {batch: round(value, 1) for batch, value in by_batch.items()})
    return {"direct": max(by_batch.values())}


def litserve_rate(images: list[bytes]) -> dict[str, float]:
    """Return photos a second of LitServe."""
    with litserve() as url, connected(url) as client:
        for start in range(0, 32, 8):
            post_litserve(client, images[start : start + 8])
        return {"LitServe": rate(lambda batch: post_litserve(client, batch), batched(images, 1))}


def bauta_rates(images: list[bytes], stack: str, folder: Path) -> dict[str, float]:
    """Return photos a second of Bauta on a stack, with several photos a job and with one."""
    found = {}
    with serve(stack, folder) as url, connected(url) as client:
        for pair in batched(images[:16], 2):
            post_job(client, pair)
        for size in (PHOTOS_A_JOB, 1):
            name = f"Bauta {stack}, {size} photo{'s' * (size > 1)} a job"
            found[name] = rate(
                lambda batch: post_job(client, batch) and None, batched(images, size)
            )
    return found


def spread(values: list[float]) -> str:
    """Show a median with its range."""
    return f"{statistics.median(values):.2f} [{min(values):.2f}, {max(values):.2f}]"


def throughput(images: list[bytes], rounds: int, folder: Path) -> dict[str, list[float]]:
    """Measure all candidates in turn, ``rounds`` times, each alone on the machine.

    Every round begins with another candidate: a machine that slows down favors nobody.
    """
    candidates: list[Callable[[int], dict[str, float]]] = [
        lambda _: direct_rate(images),
        lambda _: litserve_rate(images),
        lambda number: bauta_rates(images, STACKS[0], folder / f"0-{number}"),
        lambda number: bauta_rates(images, STACKS[1], folder / f"1-{number}"),
    ]
    found: dict[str, list[float]] = {}
    for number in range(rounds):
        first = number % len(candidates)
        for measure in candidates[first:] + candidates[:first]:
            for name, value in measure(number).items():
                found.setdefault(name, []).append(value)
        print({name: [round(v, 1) for v in values] for name, values in found.items()}, flush=True)
    return found


def latency(images: list[bytes], folder: Path) -> dict[str, list[float]]:
    """Measure what the service adds to one job of one photo, in milliseconds."""
    found: dict[str, list[float]] = {}
    for stack in STACKS:
        with serve(stack, folder / f"latency-{stack}") as url, connected(url) as client:
            for image in images[:10]:
                post_job(client, [image], faces="whole")
            added = []
            for image in images:
                began = time.perf_counter()
                job = post_job(client, [image], faces="whole")
                whole = time.perf_counter() - began
                timing = job["result"]["timing"]  # type: ignore[index]
                added.append(1000 * (whole - timing["total"]))
            found[stack] = added
    return found


def jobs_a_second(images: list[bytes], folder: Path, *, jobs: int) -> dict[str, float]:
    """Measure how many one-photo jobs a second go through the whole queue."""
    found = {}
    for stack in STACKS:
        with serve(stack, folder / f"jobs-{stack}") as url, connected(url) as client:
            post_job(client, images[:1], faces="whole")
            image_id = (
                client.post("/v1/images", content=images[0], headers={"Content-Type": "image/jpeg"})
                .raise_for_status()
                .json()["id"]
            )
            send = partial(
                _create_job, client, {"images": [image_id], "faces": "whole", "annotate": False}
            )
            began = time.perf_counter()
            with ThreadPoolExecutor(CLIENTS) as pool:
                list(pool.map(send, range(jobs)))
            while _unfinished(client):
                time.sleep(0.05)
            found[stack] = jobs / (time.perf_counter() - began)
    return found


def _create_job(client: httpx.Client, spec: dict[str, object], number: int) -> None:
    del number
    client.post("/v1/jobs/classify", json=spec).raise_for_status()


def _unfinished(client: httpx.Client) -> bool:
    return any(
        client.get("/v1/jobs", params={"state": state, "page_size": 1}).json()["jobs"]
        for state in ("queued", "running")
    )


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=300)
    arguments = parser.parse_args()
    # Stopped from outside, it still stops what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    images = photos()
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        rates = throughput(images, arguments.rounds, folder)
        added = latency(images, folder)
        queue = jobs_a_second(images, folder, jobs=arguments.jobs)
    print(
        f"photos a second, median [range] of {arguments.rounds} rounds; "
        "ratio to LitServe; ratio to direct"
    )
    for name, values in rates.items():
        ratios = [
            spread([value / peer for value, peer in zip(values, rates[peers], strict=True)])
            for peers in ("LitServe", "direct")
        ]
        print(f"  {name:40} {spread(values):24} {ratios[0]:20} {ratios[1]}")
    print("latency added to one job of one photo, milliseconds")
    for name, values in added.items():
        print(
            f"  {name:32} median {statistics.median(values):.1f}, "
            f"90 % within {statistics.quantiles(values, n=10)[-1]:.1f}"
        )
    print("jobs of one photo a second through the queue")
    for name, value in queue.items():
        print(f"  {name:32} {value:.1f}")
    print(json.dumps({"rates": rates, "latency_ms": added, "jobs_a_second": queue}))


if __name__ == "__main__":
    main()
