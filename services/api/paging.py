"""Page tokens: where the next page of a listing by time starts."""

import base64
import binascii
import json
from math import isfinite
from typing import Any
from urllib.parse import urlencode

from services.api.schemas import is_id
from shared.problems import Problem


def page_token(created_at: float, row_id: str) -> str:
    """Return the token of the page after this row."""
    return base64.urlsafe_b64encode(json.dumps([created_at, row_id]).encode()).decode()


def read_page_token(token: str, prefix: str) -> tuple[float, str]:
    """Read a token; raises the problem ``invalid-page-token``."""
    try:
        value: Any = json.loads(base64.urlsafe_b64decode(token.encode()))
        created_at, row_id = value
        if isinstance(created_at, float) and isfinite(created_at) and is_id(row_id, prefix):
            return created_at, row_id
    except (binascii.Error, ValueError, TypeError, RecursionError):
        pass
    raise Problem("invalid-page-token", "Use a token from `next_page_token`.")


def next_link(path: str, **given: Any) -> str:
    """Return the ``Link`` header to the next page."""
    query = urlencode({name: value for name, value in given.items() if value is not None})
    return f'<{path}?{query}>; rel="next"'
