"""Fixtures that every test may use."""

import os
from pathlib import Path

import pytest

pytest_plugins = ["tests.fixtures.servers"]

ROOT = Path(__file__).resolve().parent.parent

if "PYTEST_XDIST_WORKER" in os.environ:
    # Test processes that share the cores must not start a thread a core each.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say which tests run one after the other when several processes share the suite.

    Those that start servers wait for time-outs and leases: no two of them at once. The others stay
    together by file, so that what a module prepares is prepared once.
    """
    for item in items:
        serves = item.get_closest_marker("integration") is not None
        item.add_marker(pytest.mark.xdist_group("servers" if serves else str(item.path)))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real photos beside the checkout; CI has it and may not skip."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"CI must have the photos: {folder} is missing")
        pytest.skip(f"the photos are not here: {folder}")
    return folder
