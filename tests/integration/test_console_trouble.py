"""The console when something breaks in the middle: keys, connections, many photos, two windows."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.problems import Problem
from tests.fixtures.browser import Browser, browsing
from tests.unit.api.service import Service, picture, serving
from tests.unit.api.test_models import register

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """An API without workers: tests end its jobs when it suits them."""
    with serving(tmp_path_factory.mktemp("api"), max_queued_jobs=100) as running:
        yield running


@pytest.fixture(scope="module")
def window(service: Service) -> Iterator[Browser]:
    """A browser on that API."""
    with browsing(str(service.client.base_url)) as browser:
        yield browser


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A picture on the disk."""
    path = tmp_path / "me.png"
    path.write_bytes(picture(60, 40))
    return path


def start(browser: Browser, photo: Path) -> str:
    """Start a job from the form; returns its id."""
    browser.open("/new/classify")
    browser.choose([photo])
    browser.click("Start")
    browser.until(lambda: "/jobs/job_" in browser.driver.current_url, what="the job's view")
    return browser.driver.current_url.rsplit("/", 1)[1]


def test_sixty_photos_at_once(window: Browser, service: Service, tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.jpg" for number in range(60)]
    for number, path in enumerate(paths):
        path.write_bytes(picture(40 + number, 30, file_format="JPEG"))
    window.open("/new/classify")
    window.choose(paths)
    assert len(window.all(".thumbs li")) == 60
    window.click("Start")
    window.until(lambda: "/jobs/job_" in window.driver.current_url, what="the job's view")
    job_id = window.driver.current_url.rsplit("/", 1)[1]
    spec = service.client.get(f"/v1/jobs/{job_id}").json()["spec"]
    widths = [service.client.get(f"/v1/images/{image}").json()["width"] for image in spec["images"]]
    assert widths == [40 + number for number in range(60)], "in the order they were chosen"
    service.client.delete(f"/v1/jobs/{job_id}")


def test_a_key_that_ends_in_the_middle_is_asked_for_and_nothing_is_lost(
    tmp_path: Path, photo: Path
) -> None:
    with serving(tmp_path / "keys", require_keys=True) as service:
        keys = service.resources.repository.keys
        first, secret = keys.create("ours")
        with browsing(str(service.client.base_url)) as browser:
            browser.driver.get(f"{browser.base}/#/new/classify")
            browser.until(lambda: browser.find("#key").is_displayed(), what="the question")
            browser.find("#key").send_keys(secret)
            assert browser.accessibility() == []
            browser.click("Use this key", "dialog")
            browser.settled()
            browser.choose([photo])
            browser.find("input[type=radio][value=whole]").click()
            keys.revoke(first.id)
            time.sleep(2.5)  # for so long a key is remembered
            browser.click("Start")
            _, other = keys.create("ours")
            browser.until(lambda: browser.find("#key").is_displayed(), what="the question")
            assert "revoked" in browser.text("dialog")
            browser.find("#key").send_keys(other)
            browser.click("Use this key", "dialog")
            browser.until(lambda: "/jobs/job_" in browser.driver.current_url, what="the job")
            auth = {"Authorization": f"Bearer {other}"}
            (job,) = service.client.get("/v1/jobs", headers=auth).json()["jobs"]
            spec = service.client.get(job["url"], headers=auth).json()["spec"]
            assert spec["faces"] == "whole"
            stored = browser.run("return [localStorage.length, location.href]")
            assert stored[0] == 0
            assert other not in stored[1]
            browser.open("/service")
            browser.says("not open to the keys")


def test_a_connection_that_drops_in_the_middle_is_taken_up_again(
    window: Browser, service: Service, photo: Path
) -> None:
    job_id = start(window, photo)
    job = service.claim(job_id)
    claims = service.resources.repository.claims
    claims.progress(job_id, job.fence, {"done": 1, "total": 4, "message": "one of four"})
    window.says("one of four")
    window.driver.execute_cdp_cmd("Network.enable", {})
    away = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    window.driver.execute_cdp_cmd("Network.emulateNetworkConditions", away)
    # Going offline does not end a stream that is open, so end it as a proxy would.
    service.resources.watcher.release()
    window.says("cannot be reached", "#offline")
    claims.progress(job_id, job.fence, {"done": 3, "total": 4, "message": "three of four"})
    service.resources.watcher._stopped.clear()
    window.driver.execute_cdp_cmd("Network.emulateNetworkConditions", {**away, "offline": False})
    window.says("three of four")
    assert not window.find("#offline").is_displayed()
    claims.finish(
        job_id,
        job.fence,
        state="failed",
        retention_seconds=60,
        problem=Problem("invalid-input", "Nobody is there."),
    )
    window.says("Nobody is there.")
    service.client.delete(f"/v1/jobs/{job_id}")
    window.errors()


def test_two_windows_see_the_same_history_live(
    window: Browser, service: Service, photo: Path
) -> None:
    window.open("/jobs")
    first = window.driver.current_window_handle
    window.driver.switch_to.new_window("tab")
    try:
        job_id = start(window, photo)
        second = window.driver.current_window_handle
        window.driver.switch_to.window(first)
        row = f'[data-job="{job_id}"]'
        window.says("Waiting", row)
        job = service.claim(job_id)
        service.resources.repository.claims.progress(
            job_id, job.fence, {"done": 1, "total": 2, "message": "half of it"}
        )
        window.says("half of it", row)
        window.click("Cancel", row)
        window.driver.switch_to.window(second)
        window.says("Stopping")
        service.resources.repository.claims.finish(
            job_id, job.fence, state="cancelled", retention_seconds=60
        )
        assert window.ended() == "Canceled"
        window.click("Delete with its photos")
        window.click("Delete", "dialog")
        window.says("History")
        window.driver.switch_to.window(first)
        window.until(lambda: not window.all(row), what="the row to go in the other window")
        assert service.client.get("/v1/jobs").json()["jobs"] == []
    finally:
        for handle in window.driver.window_handles:
            if handle != first:
                window.driver.switch_to.window(handle)
                window.driver.close()
        window.driver.switch_to.window(first)


def test_history_filters_and_its_address_keeps_them(window: Browser, service: Service) -> None:
    done, waiting = service.create(), service.create()
    service.finish(done, artifacts=[("out.png", "image/png", picture())])
    window.open("/jobs?state=succeeded")
    window.until(lambda: window.all(f'[data-job="{done}"]'), what="the finished one")
    assert window.all(f'[data-job="{waiting}"]') == []
    late = service.create()
    service.finish(late)
    window.until(lambda: window.all(f'[data-job="{late}"]'), what="one that ends meanwhile")
    for job_id in (done, waiting, late):
        service.client.delete(f"/v1/jobs/{job_id}")
    window.until(lambda: not window.all("[data-job]"), what="an empty list")


def test_a_full_queue_is_said_and_the_photos_stay(
    window: Browser, service: Service, photo: Path
) -> None:
    jobs = [service.create() for _ in range(100)]
    window.open("/new/classify")
    window.choose([photo])
    window.click("Start")
    window.says("The queue is full")
    assert len(window.all(".thumbs li")) == 1
    thread = threading.Thread(
        target=lambda: [service.client.delete(f"/v1/jobs/{job}") for job in jobs]
    )
    thread.start()
    thread.join()
    window.click("Start")
    window.until(lambda: "/jobs/job_" in window.driver.current_url, what="the job's view")
    service.client.delete(f"/v1/jobs/{window.driver.current_url.rsplit('/', 1)[1]}")
    window.errors()


def test_a_card_with_markup_is_text(window: Browser, service: Service) -> None:
    register(
        service, model_id="evil", license_text="<img src=x onerror='window.hacked=1'><b>no</b>"
    )
    window.errors()
    window.open("/models/evil")
    window.says("<img src=x onerror=")
    assert window.all("main b") == []
    assert window.run("return window.hacked === undefined")
    assert window.errors() == []
