"""Authentication: API keys, and keyless use from this machine only."""

import time
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool

from services.api.resources import Resources, get_resources
from shared.db.keys import DEFAULT_TENANT, hash_secret
from shared.problems import Problem

REMEMBER_SECONDS = 2.0
_LOOPBACK_NAMES = {"localhost", "127.0.0.1", "::1"}

_bearer = HTTPBearer(auto_error=False, description="an API key, from `bauta keys create`")


class KeyRing:
    """Remembers for a moment whose key is whose; a revoked key stops working within seconds."""

    def __init__(self) -> None:
        self._tenants: dict[str, tuple[float, str]] = {}

    def tenant(self, resources: Resources, secret: str) -> str | None:
        """Return the key's tenant."""
        digest, now = hash_secret(secret), time.monotonic()
        known = self._tenants.get(digest)
        if known is not None and now < known[0]:
            return known[1]
        found = resources.repository.keys.tenant_of(secret)
        if found is not None:
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

    Raises the problems ``unauthorized`` and, on a keyless bind, ``forbidden-origin``.
    """
    if credentials is not None:
        ring: KeyRing = request.app.state.key_ring
        tenant = ring.tenant(resources, credentials.credentials)
        if tenant is None:
            raise _unauthorized("This API key is not known, or has been revoked.")
        request.state.api_key = credentials.credentials
        return tenant
    if "authorization" in request.headers or resources.settings.keys_required:
        raise _unauthorized("Send an API key: `Authorization: Bearer …`.")
    _refuse_foreign_pages(request)
    return DEFAULT_TENANT


async def refuse_revoked(request: Request, resources: Resources) -> None:
    """Raise ``unauthorized`` when the key of a request that lasts has been revoked since."""
    secret = getattr(request.state, "api_key", None)
    ring: KeyRing = request.app.state.key_ring
    if secret and await run_in_threadpool(ring.tenant, resources, secret) is None:
        raise _unauthorized("This API key has been revoked.")


def _unauthorized(detail: str) -> Problem:
    return Problem("unauthorized", detail).with_headers(WWW_Authenticate="Bearer")


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
Shared = Annotated[Resources, Depends(get_resources)]
