"""The console with real workers: photos go in, results come out, and nothing is lost between."""

import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.fixtures.browser import Browser
from tests.integration.test_runtime_serve import Serve

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


@pytest.fixture
def client(console_service: Serve) -> Iterator[httpx.Client]:
    """The same service, asked directly."""
    with httpx.Client(base_url=f"http://127.0.0.1:{console_service.port}", timeout=60) as client:
        yield client


def test_photos_go_in_and_boxes_with_labels_come_out(
    browser: Browser, photos: dict[str, Path], client: httpx.Client, tmp_path: Path
) -> None:
    browser.driver.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)}
    )
    browser.open("/new/classify")
    browser.choose([photos["group"], photos["masked"]])
    assert len(browser.all(".thumbs li")) == 2
    browser.click("Start")
    assert browser.ended() == "Done"
    boxes = browser.until(lambda: browser.all(".face-box"))
    assert len(boxes) == 5
    assert browser.says("wears a mask 9")
    browser.find("#label-0").click()
    browser.until(lambda: len(browser.all(".face-box")) in (2, 3), what="the filter")
    browser.driver.refresh()
    browser.settled()
    assert browser.ended() == "Done"
    browser.click("Download 2 files as ZIP")
    (archive,) = browser.until(lambda: list(tmp_path.glob("*.zip")), what="the archive")
    assert zipfile.ZipFile(archive).namelist() == ["annotated-0.jpg", "annotated-1.jpg"]
    browser.click("Delete with its photos")
    browser.click("Delete", "dialog")
    browser.says("History")
    assert client.get("/v1/jobs").json()["jobs"] == []


def test_what_is_wrong_stands_beside_its_field_and_nothing_is_lost(
    browser: Browser, photos: dict[str, Path], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image at all")
    seed = (
        "const field = [...document.querySelectorAll('label')]"
        ".find(one => one.textContent === 'Random seed').parentElement.querySelector('input');"
        "field.value = arguments[0]; field.dispatchEvent(new Event('input'))"
    )
    browser.open("/new/encrypt")
    browser.choose([photos["portrait"], broken])
    browser.click("More settings")
    browser.run(seed, -5)
    browser.click("Start")
    wrong = browser.find("input[aria-invalid=true]")
    assert wrong.get_attribute("value") == "-5"
    assert "greater than or equal to 0" in browser.text("main")
    assert browser.all(".thumbs li.wrong") == [], "no photo went up yet"
    browser.run(seed, 5)
    browser.click("Start")
    said = browser.until(
        lambda: browser.find(".thumbs li.wrong .field-error").text, what="the broken photo's error"
    )
    assert "image" in said
    assert browser.all("input[aria-invalid=true]") == []
    browser.find(f'button[aria-label="Remove {broken.name}"]').click()
    assert len(browser.all(".thumbs li")) == 1
    assert browser.find("#main input[placeholder='0']").get_attribute("value") == "5"
    assert len(browser.errors()) == 2  # both refusals


def test_only_what_was_changed_is_sent(
    browser: Browser, photos: dict[str, Path], client: httpx.Client
) -> None:
    browser.open("/new/attack")
    browser.choose([photos["portrait"]])
    browser.click("Show as curl, Python, JSON")
    browser.click("JSON")
    browser.says("{}", "pre.code")
    browser.run(
        "const select = document.querySelector('fieldset select');"
        "select.selectedIndex = [...select.options].findIndex(o => o.text.includes('FGSM'));"
        "select.dispatchEvent(new Event('change'));"
        "const eps = document.querySelector('.branch input[type=number]');"
        "eps.value = 6; eps.dispatchEvent(new Event('input'))"
    )
    assert browser.run("return JSON.parse(document.querySelector('pre.code').textContent)") == {
        "attack": {"name": "fgsm", "eps": 6}
    }
    browser.click("curl")
    browser.says("-F image=@'portrait.jpg'", "pre.code")
    browser.click("Start")
    assert browser.ended() == "Done"
    (job,) = client.get("/v1/jobs?kind=attack&page_size=1").json()["jobs"]
    spec = client.get(job["url"]).json()["spec"]
    assert (spec["attack"]["name"], spec["attack"]["eps"], spec["at"]) == ("fgsm", 6, "model")


def test_a_photo_is_protected_and_compared(browser: Browser, photos: dict[str, Path]) -> None:
    browser.open("/new/encrypt")
    browser.choose([photos["portrait"]])
    browser.run(
        "const preset = [...document.querySelectorAll('select')]"
        ".find(one => [...one.options].some(o => o.text.startsWith('live')));"
        "preset.selectedIndex = [...preset.options].findIndex(o => o.text.startsWith('live'));"
        "preset.dispatchEvent(new Event('change'))"
    )
    browser.click("Start")
    assert browser.ended(seconds=120) == "Done"
    slider = browser.find(".compare input[type=range]")
    clip = "return document.querySelector('.compare-after').style.clipPath"
    before = browser.run(clip)
    browser.run("arguments[0].value = 10; arguments[0].dispatchEvent(new Event('input'))", slider)
    assert browser.run(clip) != before
    browser.click("Look at it")
    assert float(browser.all(".compare input[type=range]")[1].get_attribute("value") or 1) > 1
    assert browser.says("recognizer")


def test_run_again_keeps_the_photos_and_the_settings(
    browser: Browser, photos: dict[str, Path]
) -> None:
    browser.open("/new/classify")
    browser.choose([photos["masked"]])
    browser.find("input[type=radio][value=whole]").click()
    browser.click("Start")
    browser.ended()
    browser.click("Run again with changes")
    browser.says("Filled in from")
    assert browser.find("input[type=radio][value=whole]").is_selected()
    assert browser.all(".thumbs li")
    browser.find("input[type=radio][value=auto]").click()
    browser.click("Start")
    assert browser.ended() == "Done"


def test_a_hostile_name_and_a_card_with_markup_are_text(
    browser: Browser, photos: dict[str, Path], tmp_path: Path, console_service: Serve
) -> None:
    evil = tmp_path / "<img src=x onerror=window.hacked=1>'$(touch x)'.jpg"
    shutil.copy(photos["portrait"], evil)
    browser.open("/new/classify")
    browser.choose([evil])
    assert "<img src=x" in browser.text(".thumbs")
    browser.click("Show as curl, Python, JSON")
    browser.says("'\\''$(touch x)'\\''", "pre.code")
    browser.click("Start")
    browser.ended()
    assert browser.run("return window.hacked === undefined")
