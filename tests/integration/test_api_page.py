"""The page at ``/`` in a real browser."""

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from shared.problems import Problem
from tests.fixtures.process import find_binary
from tests.unit.api.service import Service, picture, serving

pytestmark = pytest.mark.integration

PATIENCE = 30


@pytest.fixture
def browser() -> Iterator[webdriver.Chrome]:
    """Chromium without a window, as wide as a phone."""
    options = webdriver.ChromeOptions()
    options.binary_location = find_binary("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.add_argument("--window-size=390,844")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=find_binary("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


def _open(browser: webdriver.Chrome, service: Service) -> None:
    browser.get(str(service.client.base_url))


def _loaded(browser: webdriver.Chrome) -> None:
    WebDriverWait(browser, PATIENCE).until(
        lambda page: page.find_element(By.ID, "summary").text != ""
    )


def _choose_and_start(browser: webdriver.Chrome, photo: Path) -> None:
    field = browser.find_element(By.ID, "photos")
    field.clear()  # what is typed into a file field is added to what it has
    field.send_keys(str(photo))
    browser.find_element(By.ID, "start").click()


def _work(service: Service, tenant: str, **end: object) -> threading.Thread:
    def run() -> None:
        find = service.resources.repository.jobs.page
        while not (found := find(tenant, limit=1, state="queued")):
            time.sleep(0.02)
        service.finish(found[0].id, **end)  # type: ignore[arg-type]

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def _text_of(browser: webdriver.Chrome, name: str) -> str:
    return WebDriverWait(browser, PATIENCE).until(lambda page: page.find_element(By.ID, name).text)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A photo on the disk."""
    path = tmp_path / "me.png"
    path.write_bytes(picture(60, 40))
    return path


def test_a_photo_goes_in_and_its_picture_comes_out(
    browser: webdriver.Chrome, tmp_path: Path, photo: Path
) -> None:
    with serving(tmp_path) as service:
        _open(browser, service)
        _loaded(browser)
        worker = _work(service, "default", artifacts=[("out.png", "image/png", picture(60, 40))])
        _choose_and_start(browser, photo)
        assert "main_artifact" in _text_of(browser, "json")
        worker.join()
        image = browser.find_element(By.CSS_SELECTOR, "#pictures img")
        WebDriverWait(browser, PATIENCE).until(lambda _: image.get_property("naturalWidth") == 60)
        assert image.get_attribute("alt")
        assert browser.find_element(By.ID, "files").text.startswith("out.png")
        width = browser.execute_script("return document.documentElement.scrollWidth")
        assert width <= browser.execute_script("return window.innerWidth")
        browser.find_element(By.ID, "delete").click()
        WebDriverWait(browser, PATIENCE).until(
            lambda page: page.find_element(By.ID, "status").text == "Deleted."
        )
        assert service.client.get("/v1/jobs").json()["jobs"] == []
        assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_what_went_wrong_is_said(browser: webdriver.Chrome, tmp_path: Path, photo: Path) -> None:
    with serving(tmp_path) as service:
        _open(browser, service)
        _loaded(browser)
        broken = shutil.copy(photo, tmp_path / "broken.png")
        broken.write_bytes(b"no image at all")
        _choose_and_start(browser, broken)
        assert "/images/0" in _text_of(browser, "error")
        worker = _work(service, "default", problem=Problem("invalid-input", "Nobody is there."))
        _choose_and_start(browser, photo)
        WebDriverWait(browser, PATIENCE).until(
            lambda page: "Nobody is there." in page.find_element(By.ID, "error").text
        )
        worker.join()


def test_a_key_is_asked_for_and_used(
    browser: webdriver.Chrome, tmp_path: Path, photo: Path
) -> None:
    with serving(tmp_path, require_keys=True) as service:
        _, secret = service.resources.repository.keys.create("ours")
        _open(browser, service)
        field = browser.find_element(By.ID, "key")
        WebDriverWait(browser, PATIENCE).until(lambda _: field.is_displayed())
        field.send_keys(secret)
        browser.find_element(By.CSS_SELECTOR, "#key-form button").click()
        _loaded(browser)
        worker = _work(service, "ours", artifacts=[("out.png", "image/png", picture())])
        _choose_and_start(browser, photo)
        assert "main_artifact" in _text_of(browser, "json")
        worker.join()
        assert browser.execute_script("return localStorage.length") == 0
