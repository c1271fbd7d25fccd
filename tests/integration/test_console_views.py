"""Every view of the console: axe-core, narrow windows, light and dark, the keyboard."""

from pathlib import Path

import httpx
import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from shared.specs import SPECS
from tests.fixtures.browser import Browser
from tests.integration.test_runtime_serve import Serve

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

FORMS = [f"/new/{kind}" for kind, spec in SPECS.items() if spec.endpoint is None]
VIEWS = ["/", "/new", *FORMS, "/jobs", "/models", "/datasets", "/live", "/service", "/nothing"]
LOOKS = [(width, dark) for width in (360, 1280) for dark in (False, True)]


def is_fine(browser: Browser) -> None:
    """Check the page as it is at both widths, light and dark."""
    for width, dark in LOOKS:
        browser.resize(width, dark=dark)
        assert browser.accessibility() == [], (width, dark)
        assert browser.overflow() <= 0, (width, dark)


@pytest.mark.parametrize("view", VIEWS)
def test_nothing_is_wrong_with_any_view(browser: Browser, view: str) -> None:
    browser.open(view)
    assert browser.text("h1")
    for details in browser.all("details:not([open]) > summary"):
        browser.run("arguments[0].parentElement.open = true", details)
    is_fine(browser)


@pytest.fixture(scope="module")
def jobs(console_service: Serve, photos: dict[str, Path]) -> dict[str, str]:
    """A finished job of each kind that works on photos; their addresses in the console."""
    base = f"http://127.0.0.1:{console_service.port}"
    specs = {
        "classify": "{}",
        "attack": '{"attack": {"name": "fgsm"}}',
        "defend": '{"defenses": [{"name": "median"}]}',
        "encrypt": '{"preset": "live"}',
    }
    found = {}
    with httpx.Client(base_url=base, timeout=120) as client:
        image = client.post(
            "/v1/images",
            content=photos["group"].read_bytes(),
            headers={"Content-Type": "image/jpeg"},
        ).json()["id"]
        for kind, spec in specs.items():
            body = {"images": [image], **httpx.Response(200, text=spec).json()}
            job = client.post(f"/v1/jobs/{kind}", json=body, headers={"Prefer": "wait=100"}).json()
            assert job["state"] == "succeeded", job
            found[kind] = f"/jobs/{job['id']}"
    return found


@pytest.mark.parametrize("kind", ["classify", "attack", "defend", "encrypt"])
def test_nothing_is_wrong_with_results(browser: Browser, jobs: dict[str, str], kind: str) -> None:
    browser.open(jobs[kind])
    browser.run("document.querySelectorAll('details').forEach(one => (one.open = true))")
    browser.find(".photo-card img")
    browser.says("as ZIP")
    is_fine(browser)


def test_a_model_and_its_card(browser: Browser) -> None:
    browser.open("/models")
    browser.find("main table a").click()
    browser.says("sha256")
    is_fine(browser)


def test_the_keyboard_alone_protects_a_photo_and_draws_its_box(
    browser: Browser, photos: dict[str, Path]
) -> None:
    browser.open("/")

    def press(key: str) -> None:
        ActionChains(browser.driver).send_keys(key).perform()

    def tab_to(words: str) -> None:
        for _ in range(60):
            press(Keys.TAB)
            focused = browser.driver.switch_to.active_element
            name = focused.accessible_name or focused.text
            if name.startswith(words):
                return
        raise AssertionError(f"{words!r} cannot be reached")

    press(Keys.TAB)
    assert browser.driver.switch_to.active_element.text == "Skip to the content"
    press(Keys.ENTER)
    tab_to("Who wears a mask?")
    press(Keys.ENTER)
    browser.says("Photos to look at")
    browser.settled()
    assert browser.run("return document.activeElement.tagName") == "H1"
    tab_to("Choose files")
    browser.choose([photos["portrait"]])
    tab_to("find them for me")
    press(Keys.ARROW_UP)  # from the first round to the last: boxes drawn by hand
    tab_to("Add a box")
    press(Keys.ENTER)
    before = browser.driver.switch_to.active_element.accessible_name
    press(Keys.ARROW_LEFT)
    press(Keys.SHIFT + Keys.ARROW_DOWN)
    press(Keys.NULL)
    after = browser.driver.switch_to.active_element.accessible_name
    assert before.startswith("Box 1")
    assert after.startswith("Box 1")
    assert before != after
    tab_to("Start")
    press(Keys.ENTER)
    assert browser.ended() == "Done"
    assert browser.says("Face 1")
