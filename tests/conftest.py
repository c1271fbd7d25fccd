"""Fixtures that every test may use."""

import os
from pathlib import Path

import pytest

pytest_plugins = ["tests.fixtures.servers"]

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real photos beside the checkout; CI has it and may not skip."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"CI must have the photos: {folder} is missing")
        pytest.skip(f"the photos are not here: {folder}")
    return folder
