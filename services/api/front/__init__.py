"""Between the socket and the application: bounds on connections, request heads and time."""

from services.api.front.addresses import Networks, client_address
from services.api.front.connections import Bounds, Connections
from services.api.front.server import build_config

__all__ = ["Bounds", "Connections", "Networks", "build_config", "client_address"]
