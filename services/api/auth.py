"""Authentication: API keys, and keyless use from this machine only."""

import time
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool

from services.api.front.addresses import account, client_address, parse_address
from services.api.resources import Resources, get_resources
from services.api.wrong_keys import WrongKeys
from shared.db.keys import DEFAULT_TENANT, hash_secret
from shared.problems import Problem

REMEMBER_SECONDS = 2.0
_PROXY_HEADERS = (
    "forwarded",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-forwarded-server",
    "x-real-ip",
    "cf-connecting-ip",
    "true-client-ip",
)
_LOOPBACK_NAMES = {"localhost", "127.0.0.1", "::1"}

_bearer = HTTPBearer(auto_error=False, description="an API key, from `bauta keys create`")


class KeyRing:
    """Remembers for a moment whose key is whose; a revoked key stops working within seconds."""

    def __init__(self) -> None:
        self._tenants: dict[str, tuple[float, str]] = {}

    def is_familiar(self, secret: str) -> bool:
        """Whether this key was valid when it was last seen."""
        return hash_secret(secret) in self._tenants

    def tenant(self, resources: Resources, secret: str) -> str | None:
        """Return the key's tenant."""
        digest, now = hash_secret(secret), time.monotonic()
        known = self._tenants.get(digest)
        if known is not None and now < known[0]:
            return known[1]
        found = resources.repository.keys.tenant_of(secret)
        if found is None:
            self._tenants.pop(digest, None)
        else:
            if len(self._tenants) > 10_000:
                self._tenants.clear()
            self._tenants[digest] = (now + REMEMBER_SECONDS, found)
        return found


def current_tenant(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    resources: Annotated[Resources, Depends(get_resources)],
) -> str:
    """Dependency: the tenant this request acts for.

    Raises the problems ``unauthorized`` and ``too-many-wrong-keys``, and on a keyless bind
    ``forbidden-origin`` and ``proxy-without-keys``.
    """
    if credentials is not None:
        tenant = _tenant_of(request, resources, credentials.credentials)
        if tenant is None:
            raise _unauthorized("This API key is not known, or has been revoked.")
        request.state.api_key = credentials.credentials
        return tenant
    if "authorization" in request.headers or resources.settings.keys_required:
        raise _unauthorized("Send an API key: `Authorization: Bearer …`.")
    _refuse_proxies(request)
    _refuse_foreign_pages(request)
    return DEFAULT_TENANT


def _tenant_of(request: Request, resources: Resources, secret: str) -> str | None:
    """Return the key's tenant; wrong keys of an address are slowed down, valid ones are not."""
    ring: KeyRing = request.app.state.key_ring
    wrong: WrongKeys = request.app.state.wrong_keys
    sender = account(client_address(request, resources.settings.proxies))
    if not ring.is_familiar(secret):
        wrong.refuse(sender)
    tenant = ring.tenant(resources, secret)
    if tenant is None:
        wrong.count(sender)
    return tenant


def may_look_inside(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    resources: Annotated[Resources, Depends(get_resources)],
) -> bool:
    """Dependency: whether metrics and the state of servers are this client's to read.

    They are for any key, and for this machine itself when no proxy stands between.
    """
    if credentials is not None:
        return _tenant_of(request, resources, credentials.credentials) is not None
    peer = parse_address(request.client.host if request.client else None)
    return peer is not None and peer.is_loopback and not _is_proxied(request)


async def refuse_revoked(request: Request, resources: Resources) -> None:
    """Raise ``unauthorized`` when the key of a request that lasts has been revoked since."""
    secret = getattr(request.state, "api_key", None)
    ring: KeyRing = request.app.state.key_ring
    if secret and await run_in_threadpool(ring.tenant, resources, secret) is None:
        raise _unauthorized("This API key has been revoked.")


def _unauthorized(detail: str) -> Problem:
    return Problem("unauthorized", detail).with_headers(WWW_Authenticate="Bearer")


def _is_proxied(request: Request) -> bool:
    """Whether a proxy says that it is one, or speaks as nginx does unless told otherwise.

    nginx passes no header of its own and the address of this service as Host, but HTTP/1.0, which
    no browser and no current client library speaks. A proxy that hides even that is not seen.
    """
    return request.scope.get("http_version") == "1.0" or any(
        name in request.headers for name in _PROXY_HEADERS
    )


def _refuse_proxies(request: Request) -> None:
    """Keep a keyless service from being published by a proxy on this machine."""
    if _is_proxied(request):
        detail = "Behind a proxy, keys are needed: set BAUTA_REQUIRE_KEYS=true and create one."
        raise Problem("proxy-without-keys", detail)


def _refuse_foreign_pages(request: Request) -> None:
    """Keep web pages of other origins from using a keyless service through the user's browser."""
    host, origin = request.headers.get("host", ""), request.headers.get("origin")
    foreign = (
        _name(host) not in _LOOPBACK_NAMES  # a foreign name that resolves to this machine
        or (origin is not None and origin != f"{request.url.scheme}://{host}")
        or request.headers.get("sec-fetch-site", "none") not in ("same-origin", "none")
    )
    if foreign:
        raise Problem("forbidden-origin", "Without API keys, only pages served here are allowed.")


def _name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


Tenant = Annotated[str, Depends(current_tenant)]
MayLookInside = Annotated[bool, Depends(may_look_inside)]
Shared = Annotated[Resources, Depends(get_resources)]
