"""CPU time a photo of Bauta and of LitServe, both at work at once on one machine.

``python -m benchmarks.service_cpu`` is for machines that do other work, too: what slows one side
down slows down the other, so that the ratio holds where rates one after the other would not. All
processes of a side count, with its Redis and Postgres and without its clients.
"""

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from benchmarks.servers import STACKS, litserve, serve
from benchmarks.service import (
    CLIENTS,
    PHOTOS_A_JOB,
    batched,
    connected,
    photos,
    post_job,
    post_litserve,
    spread,
)


def seconds_of(trees: list[psutil.Process]) -> float:
    """Return the CPU seconds that processes and what they started have taken so far."""
    total = 0.0
    for root in trees:
        for process in (root, *root.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):  # a connection's process that has just ended
                total += sum(process.cpu_times()[:2])
    return total


def sent_until(
    end: float, send: Callable[[list[bytes]], object], batches: list[list[bytes]]
) -> int:
    """Send batch after batch from ``CLIENTS`` clients; returns the number of photos answered."""

    def client(number: int) -> int:
        turn, answered = number, 0
        while time.perf_counter() < end:
            batch = batches[turn % len(batches)]
            send(batch)
            answered += len(batch)
            turn += CLIENTS
        return answered

    with ThreadPoolExecutor(CLIENTS) as pool:
        return sum(pool.map(client, range(CLIENTS)))


def milliseconds(
    images: list[bytes], stack: str, folder: Path, *, rounds: int, seconds: float
) -> tuple[list[float], list[float]]:
    """Return the milliseconds of CPU a photo of LitServe and of Bauta, in each round."""
    ours = psutil.Process()
    theirs_took, ours_took = [], []
    with litserve() as peer_url, connected(peer_url) as peer:
        peer_tree = ours.children()
        with serve(stack, folder) as url, connected(url) as client, ThreadPoolExecutor(2) as pool:
            tree = [process for process in ours.children() if process not in peer_tree]
            for batch in batched(images[: 2 * PHOTOS_A_JOB], PHOTOS_A_JOB):
                post_job(client, batch)
                post_litserve(peer, batch)
            for _ in range(rounds):
                before = seconds_of(peer_tree), seconds_of(tree)
                end = time.perf_counter() + seconds
                single, several = batched(images, 1), batched(images, PHOTOS_A_JOB)
                theirs = pool.submit(
                    sent_until, end, lambda batch: post_litserve(peer, batch), single
                )
                own = pool.submit(sent_until, end, lambda batch: post_job(client, batch), several)
                answered = theirs.result(), own.result()
                theirs_took.append(1000 * (seconds_of(peer_tree) - before[0]) / answered[0])
                ours_took.append(1000 * (seconds_of(tree) - before[1]) / answered[1])
    return theirs_took, ours_took


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=40.0)
    arguments = parser.parse_args()
    images = photos()
    print(f"CPU milliseconds a photo, {PHOTOS_A_JOB} photos a job; ratio: LitServe's to Bauta's")
    with TemporaryDirectory() as temporary:
        for number, stack in enumerate(STACKS):
            peer, own = milliseconds(
                images,
                stack,
                Path(temporary) / str(number),
                rounds=arguments.rounds,
                seconds=arguments.seconds,
            )
            ratios = [a / b for a, b in zip(peer, own, strict=True)]
            print(f"  beside {stack:18} LitServe {spread(peer)}  Bauta {spread(own)}", end="  ")
            print(f"ratio {spread(ratios)}", flush=True)


if __name__ == "__main__":
    main()
