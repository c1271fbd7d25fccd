"""Fixtures of the API's tests."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.unit.api.service import Service, serving


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """An API with the default settings."""
    with serving(tmp_path) as running:
        yield running


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Starts an API with other settings."""
    with ExitStack() as stack:

        def start(**overrides: Any) -> Service:
            return stack.enter_context(serving(tmp_path, **overrides))

        yield start
