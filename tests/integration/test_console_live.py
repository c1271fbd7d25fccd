"""The live camera of the console, with Chromium's fake camera playing a face."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.fixtures.browser import Browser, browsing
from tests.integration.test_runtime_serve import Serve

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def film(photos: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The portrait as the film of a camera: a few equal frames, as Motion JPEG."""
    frame = tmp_path_factory.mktemp("film") / "camera.mjpeg"
    with Image.open(photos["portrait"]) as picture:
        picture.crop((60, 0, 460, 300)).resize((640, 480)).save(frame, "JPEG", quality=90)
    frame.write_bytes(frame.read_bytes() * 10)
    return frame


@pytest.fixture
def camera(console_service: Serve, film: Path) -> Iterator[Browser]:
    """A browser with a camera that it need not be asked for."""
    arguments = (
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={film}",
    )
    with browsing(f"http://127.0.0.1:{console_service.port}", arguments=arguments) as browser:
        yield browser


def test_the_camera_is_answered_and_nothing_of_it_is_kept(
    camera: Browser, console_service: Serve
) -> None:
    camera.open("/live")
    camera.click("Start the camera")
    camera.says("1 × no mask")
    camera.until(
        lambda: float(camera.text(".meters dd")) > 0, what="the figures of the camera's speed"
    )
    assert camera.accessibility() == []
    camera.resize(360, dark=True)
    assert camera.overflow() <= 0
    assert camera.accessibility() == []
    camera.click("Stop")
    base = f"http://127.0.0.1:{console_service.port}"
    camera.until(lambda: httpx.get(f"{base}/v1/jobs").json()["jobs"] == [], what="no job left")
    store = console_service.log.parent / "data" / "objects"
    camera.until(
        lambda: not [path for path in store.rglob("*") if path.is_file()], what="no byte left"
    )
    assert camera.errors() == []


def test_an_attack_is_shown_beside_the_camera(camera: Browser) -> None:
    camera.open("/live")
    camera.run(
        "const mode = document.getElementById('live-mode');"
        "mode.selectedIndex = 1; mode.dispatchEvent(new Event('change'))"
    )
    camera.click("Start the camera")
    width = "return document.querySelector('.live-attack img').naturalWidth"
    assert camera.until(lambda: camera.run(width), what="the attacked faces") > 100
    camera.click("Stop")


def test_a_refused_camera_is_said_and_can_be_tried_again(
    browser: Browser, console_service: Serve
) -> None:
    browser.driver.execute_cdp_cmd(
        "Browser.setPermission",
        {
            "permission": {"name": "camera"},
            "setting": "denied",
            "origin": f"http://127.0.0.1:{console_service.port}",
        },
    )
    browser.open("/live")
    browser.click("Start the camera")
    said = browser.text(".problem")
    assert "camera" in said
    assert browser.find("button.primary").is_displayed()
    assert browser.accessibility() == []
