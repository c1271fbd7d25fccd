"""uvicorn's configuration, with our protocol in it."""

import functools
from asyncio import Protocol
from typing import Any, cast

import uvicorn
from fastapi import FastAPI

from services.api.front.connections import Bounds, Connections
from services.api.front.protocol import BoundedProtocol


def build_config(app: FastAPI, bounds: Bounds, **options: Any) -> uvicorn.Config:
    """Return how uvicorn serves the app; ``options`` are those of ``uvicorn.Config``."""
    house = Connections(bounds, on_refusal=app.state.metrics.count_refusal)
    protocol = functools.partial(BoundedProtocol, house=house)
    return uvicorn.Config(
        app,
        http=cast("type[Protocol]", protocol),
        ws="none",
        # The client's address is the peer's: who is to be believed about another is our setting.
        proxy_headers=False,
        server_header=False,
        access_log=False,
        backlog=2048,
        **options,
    )
