"""Small jobs on the embedded default: ``python -m benchmarks.doorbell``.

One client sends classify jobs one after another, then eight send at once, each waiting for its
answer; printed are latencies, deaths of processes, and what the workers take while nothing happens.
"""

import argparse
import re
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from benchmarks.servers import serve
from benchmarks.service import connected, photos, post_job

CLIENTS = 8
IDLE_SECONDS = 30.0
DIED = re.compile(r"ended with code|hangs:|Unrecoverable|unreadable message")


def timed(url: str, images: list[bytes], *, jobs: int, clients: int) -> list[float]:
    """Send so many jobs; returns seconds from request to answer of each, sorted."""

    def send(number: int) -> float:
        began = time.perf_counter()
        post_job(client, [images[number % len(images)]], faces="whole")
        return time.perf_counter() - began

    with connected(url) as client, ThreadPoolExecutor(clients) as pool:
        return sorted(pool.map(send, range(jobs)))


def idle_share(log: Path) -> list[float]:
    """Return the share of a core that each worker takes while nothing happens."""
    folder = str(log.parent)
    workers = [
        process
        for process in psutil.process_iter(["cmdline", "environ"])
        if "--supervised" in (process.info["cmdline"] or ())
        and (process.info["environ"] or {}).get("BAUTA_DATA_DIR", "").startswith(folder)
    ]
    before = [sum(worker.cpu_times()[:2]) for worker in workers]
    time.sleep(IDLE_SECONDS)
    after = [sum(worker.cpu_times()[:2]) for worker in workers]
    return [(now - then) / IDLE_SECONDS for now, then in zip(after, before, strict=True)]


def show(name: str, took: list[float]) -> None:
    """Print what a user waits."""
    p99 = took[int(0.99 * (len(took) - 1))]
    print(
        f"{name}: {len(took)} jobs, median {1000 * statistics.median(took):.0f} ms, "
        f"p99 {1000 * p99:.0f} ms, max {1000 * took[-1]:.0f} ms, "
        f"over 1 s: {sum(one > 1 for one in took)}",
        flush=True,
    )


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sequential", type=int, default=2500)
    parser.add_argument("--together", type=int, default=2500)
    arguments = parser.parse_args()
    images = photos()
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / "service"
        with serve("embedded", folder) as url:
            timed(url, images, jobs=20, clients=2)
            show("one client", timed(url, images, jobs=arguments.sequential, clients=1))
            show("eight at once", timed(url, images, jobs=arguments.together, clients=CLIENTS))
            time.sleep(3)
            idle = idle_share(folder / "serve.log")
            print("idle workers, share of a core:", [f"{100 * one:.2f} %" for one in idle])
            lines = (folder / "serve.log").read_text().splitlines()
            bad = [line for line in lines if DIED.search(line)]
            print(f"deaths, hangs, unreadable messages: {len(bad)}", *bad[:10], sep="\n")


if __name__ == "__main__":
    main()
