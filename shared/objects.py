"""The object store: bytes under keys, in a local folder or in S3."""

import os
import re
import shutil
import time
from asyncio import to_thread
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import IO, Self
from urllib.parse import unquote, urlsplit

import obstore
from obstore import exceptions
from obstore.store import LocalStore, S3Store

from shared.settings import Settings

CHUNK = 256 * 1024
_FULL = (
    *("no space left", "disk quota", "os error 28", "os error 122", "file too large"),
    # what S3 servers answer: their error codes, or Garage's sentence
    *("quotaexceeded", "storagefull", "insufficient storage", "quota is reached"),
)
# One request up to this size: parts of an upload that died are invisible to listing and deleting.
_ONE_REQUEST = 32 * 2**20
_PART = 8 * 2**20
_NOT_IN_KEYS = re.compile(r"[\x00-\x1f\x7f\\]|#\d+$")
_MAX_KEY_BYTES = 1024  # of S3


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

    Writes to the local folder go to a temporary file that is then renamed, and are flushed to the
    disk before ``put`` returns: a reader sees a whole object or none, and a power cut takes nothing
    that was stored. Errors are ``ObjectMissingError``, ``ObjectStoreFullError`` and
    ``ObjectStoreUnavailableError``, whatever the store, and ``ValueError`` for a key that no store
    should get; a dead S3 server is given up on within seconds, one that hangs within ten.
    """

    def __init__(
        self,
        store: LocalStore | S3Store,
        *,
        root: Path | None = None,
        probe: S3Store | None = None,
    ) -> None:
        self._store = store
        self._probe = probe or store  # the same store, for ``check``: impatient
        self.root = root  # the local folder, whose free space the API watches

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Open the store that the settings name."""
        location = urlsplit(settings.objects_location)
        if location.scheme == "file":
            root = Path(unquote(location.path))
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
            return cls(LocalStore(root), root=root)
        return cls(
            _s3_store(settings, patience=timedelta(seconds=10), retries=2),
            probe=_s3_store(settings, patience=timedelta(seconds=3), retries=0),
        )

    def put(self, key: str, data: bytes) -> None:
        """Store ``data`` under ``key``, replacing what was there."""
        self.put_all({key: data})

    def put_all(self, objects: Mapping[str, bytes]) -> None:
        """Store several objects; after an error some may be stored, and any may be lost.

        Sooner than one after the other: the folders above them are flushed once.
        """
        for key, data in objects.items():
            with self._errors(key):
                obstore.put(self._store, _checked(key), data, chunk_size=_ONE_REQUEST)
        if self.root is not None:
            with self._errors("the local folder"):
                _flush(self.root, objects)

    async def put_stream(self, key: str, pieces: AsyncIterator[bytes]) -> None:
        """Store what an iterator yields, in parts: memory does not grow with its size.

        What the iterator raises passes through, and nothing is stored then.
        """
        broken: list[BaseException] = []

        async def guarded() -> AsyncIterator[bytes]:
            # The library would wrap the iterator's own errors in errors of its own.
            try:
                async for piece in pieces:
                    yield piece
            except BaseException as error:
                broken.append(error)
                raise

        try:
            with self._errors(key):
                await obstore.put_async(
                    self._store, _checked(key), guarded(), chunk_size=_PART, max_concurrency=2
                )
        except (ObjectStoreFullError, ObjectStoreUnavailableError):
            if broken:
                raise broken[0] from None
            raise
        if self.root is not None:
            await to_thread(_flush, self.root, [key])

    def read_into(self, key: str, file: IO[bytes]) -> None:
        """Write a whole object to a file, in pieces."""
        with self._errors(key):
            for piece in obstore.get(self._store, _checked(key)).stream(min_chunk_size=CHUNK):
                file.write(piece)

    def get(self, key: str) -> bytes:
        """Return a whole object."""
        with self._errors(key):
            return bytes(obstore.get(self._store, _checked(key)).bytes())

    def head(self, key: str) -> ObjectInfo:
        """Return what is known of an object without its bytes."""
        with self._errors(key):
            return ObjectInfo(size=obstore.head(self._store, _checked(key))["size"])

    async def stream(self, key: str, start: int, end: int) -> AsyncIterator[bytes]:
        """Yield the bytes ``start`` to ``end`` (exclusive) in pieces."""
        for position in range(start, end, CHUNK):
            with self._errors(key):
                piece = await obstore.get_range_async(
                    self._store, _checked(key), start=position, end=min(position + CHUNK, end)
                )
            yield bytes(piece)

    def delete(self, key: str) -> None:
        """Delete an object; a missing one is fine."""
        with suppress(ObjectMissingError), self._errors(key):
            obstore.delete(self._store, _checked(key))
        if self.root is not None:
            _remove_halves(self.root / key)

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield the keys under a prefix that ends in a slash."""
        if not prefix.endswith("/"):
            raise ValueError(f"a prefix ends in a slash: {prefix!r}")
        with self._errors(prefix):
            for batch in obstore.list(self._store, prefix=_checked(prefix.rstrip("/")) + "/"):
                yield from (item["path"] for item in batch)

    def delete_prefix(self, prefix: str) -> int:
        """Delete all objects under a prefix; returns how many there were."""
        keys = list(self.keys(prefix))
        for key in keys:
            self.delete(key)
        if self.root is not None:
            # Not the folders above: another writer may be about to create a file there.
            shutil.rmtree(self.root / prefix, ignore_errors=True)
        return len(keys)

    def check(self) -> None:
        """Raise ``ObjectStoreUnavailableError`` when the store does not answer."""
        if self.root is not None:
            if not self.root.is_dir():
                raise ObjectStoreUnavailableError("the folder of the object store is gone")
            return
        # Listing nothing: unlike asking for one object, it fails when the bucket is missing.
        with self._errors("the bucket"):
            try:
                next(iter(obstore.list(self._probe, prefix="bauta-check")), None)
            except FileNotFoundError as error:
                raise ObjectStoreUnavailableError("the bucket is not there") from error

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

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        try:
            yield
        except (exceptions.BaseError, OSError) as error:
            message = str(error)
            if isinstance(error, FileNotFoundError) and not self._is_gone(message):
                raise ObjectMissingError(key) from error
            if any(sign in message.lower() for sign in _FULL):
                raise ObjectStoreFullError("the object store is full") from error
            raise ObjectStoreUnavailableError(message.partition("\n")[0][:300]) from error

    def _is_gone(self, message: str) -> bool:
        """Whether it is the store that is missing, not just one object."""
        return not self.root.is_dir() if self.root else "NoSuchBucket" in message


def _s3_store(settings: Settings, *, patience: timedelta, retries: int) -> S3Store:
    location = urlsplit(settings.objects_location)
    secret = settings.s3_secret_access_key
    return S3Store(
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
            "read_timeout": patience,
            "timeout": timedelta(seconds=120),  # of a whole transfer that does move
        },
        retry_config={
            "max_retries": retries,
            "retry_timeout": timedelta(seconds=5),
            "backoff": {
                "init_backoff": timedelta(milliseconds=50),
                "max_backoff": timedelta(seconds=1),
                "base": 2,
            },
        },
    )


def _checked(key: str) -> str:
    if (
        any(part in ("", ".", "..") for part in key.split("/"))
        or _NOT_IN_KEYS.search(key)
        or len(key.encode()) > _MAX_KEY_BYTES
    ):
        raise ValueError(f"not a key of the object store: {key!r}")
    return key


def _flush(root: Path, keys: Iterable[str]) -> None:
    """Write objects and the folders that lead to them to the disk; obstore leaves that out."""
    places: dict[Path, None] = {root: None}
    for key in keys:
        path = root / key
        places |= dict.fromkeys((path, *path.parents[: key.count("/")]))
    # What is in a folder before the folder: a name on the disk stands for bytes on the disk.
    for place in sorted(places, key=lambda place: -len(place.parts)):
        with suppress(FileNotFoundError):  # deleted meanwhile
            descriptor = os.open(place, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _remove_halves(path: Path) -> None:
    """Remove what writers that were killed left of an object: ``name#1``, hidden from listing."""
    with suppress(FileNotFoundError):
        for entry in path.parent.iterdir():
            if re.fullmatch(re.escape(path.name) + r"#\d+", entry.name):
                entry.unlink(missing_ok=True)
