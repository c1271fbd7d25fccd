"""What the tests of the console share: one service with real workers, a browser, photos."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.demo.photos import group, masked_portrait, portrait
from tests.fixtures.browser import Browser, browsing
from tests.integration.test_runtime_serve import Serve, serving


@pytest.fixture(scope="module")
def console_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """A service with its workers, for all tests of a module."""
    with serving(tmp_path_factory.mktemp("console")) as service:
        yield service


@pytest.fixture(scope="module")
def module_browser(console_service: Serve) -> Iterator[Browser]:
    """A browser on it; use ``browser``, which also listens to its complaints."""
    with browsing(f"http://127.0.0.1:{console_service.port}") as browser:
        yield browser


@pytest.fixture
def browser(module_browser: Browser) -> Iterator[Browser]:
    """The browser, which must have nothing to complain of when the test has passed."""
    module_browser.resize(1280)
    module_browser.errors()
    yield module_browser
    assert module_browser.errors() == []


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The demo's photos as files: ``portrait``, ``masked``, ``group``."""
    folder = tmp_path_factory.mktemp("photos")
    made = {"portrait": portrait(), "masked": masked_portrait(), "group": group()}
    for name, picture in made.items():
        picture.save(folder / f"{name}.jpg", quality=92)
    return {name: folder / f"{name}.jpg" for name in made}
