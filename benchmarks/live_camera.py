"""The console's live camera from end to end, against the same frames without a browser.

``python -m benchmarks.live_camera`` starts the embedded service, plays a film of one face to
Chromium's fake camera, and reads the figures that the page shows: pictures a second and the time
from frame to picture. Then it sends the same frames to the service directly, as many at a time, and
prints the ratio: what the browser costs. Both share the machine's cores with the workers.
"""

import argparse
import io
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from benchmarks.servers import serve
from services.demo.photos import portrait
from tests.fixtures.browser import browsing

IN_FLIGHT = 3
WIDTH = 320
SHIFTS = range(0, 60, 6)  # the face moves from side to side


def frames(size: tuple[int, int]) -> list[bytes]:
    """Return a film of the portrait as JPEG frames."""
    film = []
    for shift in (*SHIFTS, *reversed(SHIFTS)):
        picture = portrait().crop((20 + shift, 0, 420 + shift, 300)).resize(size)
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=85)
        film.append(buffer.getvalue())
    return film


def through_the_page(base: str, film: Path, seconds: float) -> list[tuple[float, float, float]]:
    """Return (pictures a second, median and 95th percentile in ms), as the page shows them."""
    arguments = (
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={film}",
    )
    read = (
        "return [...document.querySelectorAll('.meters dd')].slice(0, 3)"
        ".map(one => parseFloat(one.textContent.replaceAll(',', '')))"
    )
    figures = []
    with browsing(base, arguments=arguments) as browser:
        browser.open("/live")
        browser.click("Start the camera")
        browser.says("no mask")
        time.sleep(6)  # the page averages over 5 seconds
        for _ in range(max(1, round(seconds / 5))):
            time.sleep(5)
            first, second, third = browser.run(read)
            figures.append((float(first), float(second), float(third)))
    return figures


def directly(base: str, film: Sequence[bytes], seconds: float) -> tuple[float, list[float]]:
    """Send the frames as the page does, without it: (frames a second, milliseconds of each)."""
    ends = time.perf_counter() + seconds

    def send(start: int) -> list[float]:
        took = []
        with httpx.Client(base_url=base, timeout=30) as client:
            for number in range(start, sys.maxsize, IN_FLIGHT):
                began = time.perf_counter()
                if began > ends:
                    return took
                answer = client.post(
                    "/v1/jobs/classify?keep=false",
                    files={"image": film[number % len(film)]},
                    data={"spec": '{"annotate": false}'},
                    headers={"Prefer": "wait=5"},
                )
                answer.raise_for_status()
                took.append(1000 * (time.perf_counter() - began))
        return took

    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        times = sorted(ms for part in pool.map(send, range(IN_FLIGHT)) for ms in part)
    return len(times) / seconds, times


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each of the two")
    seconds = parser.parse_args().seconds
    with TemporaryDirectory() as name, serve("embedded", Path(name) / "served") as base:
        film = Path(name) / "camera.mjpeg"
        film.write_bytes(b"".join(frames((640, 480))))
        small = frames((WIDTH, WIDTH * 3 // 4))
        directly(base, small, 3)  # the models are loaded by then
        shown = through_the_page(base, film, seconds)
        rate, times = directly(base, small, seconds)
    page = statistics.median(one[0] for one in shown)
    for a_second, median, high in shown:
        print(f"page: {a_second:.1f} pictures a second; {median:.0f} ms, 95 % in {high:.0f} ms")
    high = times[int(0.95 * len(times))]
    print(f"direct: {rate:.1f} a second; {statistics.median(times):.0f} ms, 95 % in {high:.0f} ms")
    print(f"page / direct: {page / rate:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
