"""The console's data sets and models: brought, looked at, trained on and measured."""

import io
import re
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.common.action_chains import ActionChains

from tests.archives import zipped
from tests.fixtures.browser import Browser
from tests.integration.test_runtime_serve import Serve
from tests.unit.api.service import picture

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


def archive() -> bytes:
    """Return two classes that differ in how bright they are: a ZIP with a folder for each."""
    files = {"notes.txt": b"no picture"}
    noise = np.random.default_rng(0)
    for split, number in (("train", 12), ("val", 6), ("test", 6)):
        for label, base in (("with_mask", 40), ("without_mask", 180)):
            for index in range(number):
                pixels = base + noise.integers(0, 40, (40, 40, 3), dtype=np.uint8)
                buffer = io.BytesIO()
                Image.fromarray(pixels.astype(np.uint8)).save(buffer, "PNG")
                files[f"{split}/{label}/{index}.png"] = buffer.getvalue()
    return zipped(files)


def fill(browser: Browser, label: str, value: str) -> None:
    """Type into, or choose in, the field of this name."""
    browser.until(
        lambda: browser.run(
            "const [name, value] = arguments;"
            "const label = [...document.querySelectorAll('label')].find(one =>"
            " one.textContent.replace(' (needed)', '') === name && one.checkVisibility());"
            "const field = document.getElementById(label.htmlFor);"
            "if (field.tagName === 'SELECT') {"
            "  const at = [...field.options].findIndex(one => one.text.includes(value));"
            "  if (at < 0) return false;"
            "  field.selectedIndex = at; field.dispatchEvent(new Event('change'));"
            "} else { field.value = value; field.dispatchEvent(new Event('input')); }"
            "return true",
            label,
            value,
        ),
        what=f"{value!r} in {label!r}",
    )


def test_a_data_set_is_brought_a_model_trained_and_measured(
    browser: Browser, tmp_path: Path
) -> None:
    upload = tmp_path / "bright.zip"
    upload.write_bytes(archive())
    browser.open("/datasets")
    browser.click("Add a data set")
    browser.click("Upload")
    browser.says("Choose a file.")
    browser.find("input[type=file]").send_keys(str(upload))
    browser.click("Upload")
    assert "needed" in browser.text("main")
    wrong = browser.find("[aria-invalid=true]")
    assert wrong.accessible_name.startswith("Name")
    assert len(browser.errors()) == 1  # the refusal
    fill(browser, "Name", "Bright & <b>dark</b>")
    browser.click("Upload")
    assert browser.ended() == "Done"
    browser.click("look at it")
    browser.says("Bright & <b>dark</b>")
    browser.says("1 file and 0 boxes left out")
    assert browser.find(".result-picture").get_property("naturalWidth") > 100
    assert browser.accessibility() == []

    browser.click("Train on it")
    browser.says("Teach a new mask classifier")
    browser.settled()
    browser.click("Add to data sets")
    browser.until(
        lambda: browser.run(
            "const select = document.querySelector('.growing select');"
            "if (select.options.length < 2) return false; select.selectedIndex = 1;"
            "select.dispatchEvent(new Event('change')); return true"
        ),
        what="the data set in the list",
    )
    fill(browser, "Name of the new model", "bright")
    browser.click("More settings")
    fill(browser, "Architecture", "cnn")
    browser.click("Training settings")
    fill(browser, "Epochs", "3")
    browser.click("Show as curl, Python, JSON")
    browser.click("JSON")
    sent = browser.until(
        lambda: browser.run("return JSON.parse(document.querySelector('pre.code').textContent)")
    )
    assert set(sent) == {"datasets", "model_id", "architecture", "hyperparameters"}
    assert sent["hyperparameters"] == {"epochs": 3}
    browser.click("Start")
    assert browser.ended(seconds=200) == "Done", browser.text("main")
    browser.says("is ready")
    assert len(browser.all(".curve polyline")) >= 4
    browser.click("bright", "main .lead")
    browser.says("Yours")

    browser.open("/new/evaluate")
    browser.find("#main .optional input[type=checkbox]").click()
    browser.until(
        lambda: browser.run(
            "const select = document.querySelector('.optional select');"
            "if (select.options.length < 2) return false; select.selectedIndex = 1;"
            "select.dispatchEvent(new Event('change')); return true"
        ),
        what="the data set in the list",
    )
    browser.click("Add to models")
    fill_last = (
        "const select = [...document.querySelectorAll('.growing select')].at(-1);"
        "const at = [...select.options].findIndex(one => one.value === 'bright');"
        "if (at < 0) return false; select.selectedIndex = at;"
        "select.dispatchEvent(new Event('change')); return true"
    )
    browser.until(lambda: browser.run(fill_last), what="the model in the list")
    browser.click("Start")
    assert browser.ended(seconds=200) == "Done", browser.text("main")
    rows = browser.all("main table")
    assert rows
    browser.find("th .sort").click()
    assert browser.find("th[aria-sort=ascending]")
    browser.run("document.querySelectorAll('details').forEach(one => (one.open = true))")
    assert browser.accessibility() == []


def test_boxes_are_drawn_with_the_mouse_and_photos_pasted_and_dropped(browser: Browser) -> None:
    browser.open("/new/classify")
    for event in ("paste", "drop"):
        browser.run(
            "const [bytes, event] = arguments;"
            "const data = new DataTransfer();"
            "const file = new File([new Uint8Array(bytes)], event + '.png', {type: 'image/png'});"
            "data.items.add(file);"
            "if (event === 'paste') document.dispatchEvent(new ClipboardEvent('paste',"
            "  {clipboardData: data, bubbles: true}));"
            "else document.querySelector('.drop').dispatchEvent(new DragEvent('drop',"
            "  {dataTransfer: data, bubbles: true}))",
            list(picture(200, 100)),
            event,
        )
    browser.says("paste.png", ".thumbs")
    browser.says("drop.png", ".thumbs")
    browser.find("input[type=radio][value=boxes]").click()
    stages = browser.until(
        lambda: len(browser.all(".box-stage")) == 2 and browser.all(".box-stage")
    )
    browser.until(lambda: browser.run("return document.querySelector('.box-stage img').complete"))
    browser.run("arguments[0].scrollIntoView({block: 'center'})", stages[0])
    width = stages[0].size["width"]
    step = width // 4
    actions = ActionChains(browser.driver)
    actions.move_to_element(stages[0]).click_and_hold().move_by_offset(step, step // 2)
    actions.release().perform()
    (box,) = browser.all(".box")
    name = box.accessible_name
    found = re.fullmatch(r"Box 1: left (\d+), top (\d+), (\d+) by (\d+) pixels", name)
    assert found is not None, name
    figures = [int(figure) for figure in found.groups()]
    assert figures == pytest.approx([100, 50, 50, 25], abs=2), "in the pixels of the photo"
    browser.click("Show as curl, Python, JSON")
    browser.click("JSON")
    faces = browser.until(
        lambda: browser.run(
            "return JSON.parse(document.querySelector('pre.code').textContent).faces"
        )
    )
    assert [len(boxes) for boxes in faces] == [1, 0]


def test_a_model_is_brought_with_its_card(
    browser: Browser, console_service: Serve, tmp_path: Path
) -> None:
    base = f"http://127.0.0.1:{console_service.port}"
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(httpx.get(f"{base}/v1/models/mask-cnn-32/weights").content)
    card = httpx.get(f"{base}/v1/models/mask-cnn-32").json()
    browser.open("/models")
    browser.click("Add a model")
    browser.find("input[type=file]").send_keys(str(weights))
    fill(browser, "Name", "again")
    fill(browser, "Architecture", card["architecture"])
    fill(browser, "Input size", str(card["input_size"][0]))
    for label in card["classes"]:
        browser.click("Add to classes")
        browser.run(
            "const field = [...document.querySelectorAll('.growing input')].at(-1);"
            "field.value = arguments[0]; field.dispatchEvent(new Event('input'))",
            label,
        )
    browser.click("Show as curl, Python, JSON")
    browser.says("-F file=@'weights.safetensors'", "pre.code")
    browser.click("Upload")
    assert browser.ended() == "Done", browser.text("main")
    browser.click("again", "main .lead")
    browser.says("Yours")
    browser.click("Delete")
    browser.click("Delete", "dialog")
    browser.says("Add a model")
    assert "again" not in browser.text("main")
