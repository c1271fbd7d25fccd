"""The object store: bytes under keys, in a local folder or in S3."""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlsplit

import obstore
from obstore import exceptions
from obstore.store import LocalStore, S3Store

from shared.settings import Settings

CHUNK = 256 * 1024
_FULL = ("no space left", "disk quota", "os error 28", "os error 122", "file too large")


class ObjectMissingError(Exception):
    """There is no object under this key."""


class ObjectStoreFullError(Exception):
    """The store has no space left."""


class ObjectStoreUnavailableError(Exception):
    """The store does not answer, or not as a store does."""


@dataclass(frozen=True)
class ObjectInfo:
    """An object's size in bytes."""

    size: int


class ObjectStore:
    """Objects by key, such as ``tenant/jobs/id/1/name``. Safe to use from many threads.

    Writes to the local folder go to a temporary file that is then renamed: a reader sees a whole
    object or none. Errors are ``ObjectMissingError``, ``ObjectStoreFullError`` and
    ``ObjectStoreUnavailableError``, whatever the store; a dead S3 server is given up on within
    seconds.
    """

    def __init__(self, store: LocalStore | S3Store, *, root: Path | None = None) -> None:
        self._store = store
        self.root = root  # the local folder, whose free space the API watches

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Open the store that the settings name."""
        location = urlsplit(settings.objects_location)
        if location.scheme == "file":
            root = Path(unquote(location.path))
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
            return cls(LocalStore(root, automatic_cleanup=True), root=root)
        secret = settings.s3_secret_access_key
        store = S3Store(
            location.netloc,
            prefix=location.path.strip("/") or None,
            endpoint=settings.s3_endpoint,
            region=settings.s3_region,
            access_key_id=settings.s3_access_key_id,
            secret_access_key=secret.get_secret_value() if secret else None,
            virtual_hosted_style_request=False,
            client_options={
                "allow_http": True,
                "connect_timeout": timedelta(seconds=2),
                "timeout": timedelta(seconds=30),
            },
            retry_config={
                "max_retries": 2,
                "retry_timeout": timedelta(seconds=5),
                "backoff": {
                    "init_backoff": timedelta(milliseconds=50),
                    "max_backoff": timedelta(seconds=1),
                    "base": 2,
                },
            },
        )
        return cls(store)

    def put(self, key: str, data: bytes) -> None:
        """Store ``data`` under ``key``, replacing what was there."""
        with _errors(key):
            obstore.put(self._store, _checked(key), data)

    def get(self, key: str) -> bytes:
        """Return a whole object."""
        with _errors(key):
            return bytes(obstore.get(self._store, _checked(key)).bytes())

    def head(self, key: str) -> ObjectInfo:
        """Return what is known of an object without its bytes."""
        with _errors(key):
            return ObjectInfo(size=obstore.head(self._store, _checked(key))["size"])

    async def stream(self, key: str, start: int, end: int) -> AsyncIterator[bytes]:
        """Yield the bytes ``start`` to ``end`` (exclusive) in pieces."""
        for position in range(start, end, CHUNK):
            with _errors(key):
                piece = await obstore.get_range_async(
                    self._store, _checked(key), start=position, end=min(position + CHUNK, end)
                )
            yield bytes(piece)

    def delete(self, key: str) -> None:
        """Delete an object; a missing one is fine."""
        try:
            with _errors(key):
                obstore.delete(self._store, _checked(key))
        except ObjectMissingError:
            return

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield the keys under a prefix that ends in a slash."""
        if not prefix.endswith("/"):
            raise ValueError(f"a prefix ends in a slash: {prefix!r}")
        with _errors(prefix):
            for batch in obstore.list(self._store, prefix=_checked(prefix.rstrip("/")) + "/"):
                yield from (item["path"] for item in batch)

    def delete_prefix(self, prefix: str) -> int:
        """Delete all objects under a prefix; returns how many there were."""
        keys = list(self.keys(prefix))
        for key in keys:
            self.delete(key)
        return len(keys)

    def check(self) -> None:
        """Raise ``ObjectStoreUnavailableError`` when the store does not answer."""
        if self.root is not None:
            if not self.root.is_dir():
                raise ObjectStoreUnavailableError("the folder of the object store is gone")
            return
        try:
            self.head("bauta-check")
        except ObjectMissingError:
            return

    def put_with_patience(self, key: str, data: bytes, *, seconds: float) -> None:
        """Like ``put``, but try again for a while when the store does not answer."""
        give_up = time.monotonic() + seconds
        wait = 0.1
        while True:
            try:
                self.put(key, data)
            except ObjectStoreUnavailableError:
                if time.monotonic() + wait > give_up:
                    raise
            else:
                return
            time.sleep(wait)
            wait = min(2 * wait, 2.0)


def _checked(key: str) -> str:
    parts = key.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\\" in key or "\0" in key:
        raise ValueError(f"not a key of the object store: {key!r}")
    return key


@contextmanager
def _errors(key: str) -> Iterator[None]:
    try:
        yield
    except (exceptions.NotFoundError, FileNotFoundError) as error:
        raise ObjectMissingError(key) from error
    except (exceptions.BaseError, OSError) as error:
        message = str(error)
        if any(sign in message.lower() for sign in _FULL) or "<Code>QuotaExceeded" in message:
            raise ObjectStoreFullError("the object store is full") from error
        raise ObjectStoreUnavailableError(message.splitlines()[0][:300]) from error
