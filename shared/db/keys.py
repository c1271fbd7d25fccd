"""API keys: shown once, kept as a hash."""

import hashlib
import re
import secrets

from sqlalchemy import select, update

from shared.db.disk import frees_space
from shared.db.engine import db_now
from shared.db.queries import Queries, new_id
from shared.db.tables import ApiKey

DEFAULT_TENANT = "default"
TENANT_PATTERN = r"[a-z0-9][a-z0-9-]{0,62}"
MAX_NAME = 200  # characters


def hash_secret(secret: str) -> str:
    """Hash a key. It has 256 random bits, so a plain hash cannot be searched backwards."""
    return hashlib.sha256(secret.encode()).hexdigest()


class KeyQueries(Queries):
    """API keys."""

    def create(self, tenant_id: str, *, name: str = "") -> tuple[ApiKey, str]:
        """Create a key and return its row with the secret, which cannot be read again.

        Raises ``ValueError`` for a tenant that could not be one: its name is part of paths.
        """
        if not re.fullmatch(TENANT_PATTERN, tenant_id):
            raise ValueError("a tenant has lower-case letters, digits and dashes, at most 63")
        if len(name) > MAX_NAME or not name.isprintable():
            raise ValueError(f"a key's name has at most {MAX_NAME} printable characters")
        secret = f"bauta_{secrets.token_urlsafe(32)}"
        with self._write() as session:
            key = ApiKey(
                id=new_id("key"),
                tenant_id=tenant_id,
                name=name,
                secret_sha256=hash_secret(secret),
                created_at=self._now(session),
                revoked_at=None,
            )
            session.add(key)
        return key, secret

    def all(self) -> list[ApiKey]:
        """Return all keys, oldest first."""
        with self._read() as session:
            return list(session.scalars(select(ApiKey).order_by(ApiKey.created_at, ApiKey.id)))

    @frees_space
    def revoke(self, key_id: str) -> bool:
        """Revoke a key; false when there is no such key in force."""
        with self._write() as session:
            revoked = session.execute(
                update(ApiKey)
                .where(ApiKey.id == key_id, ApiKey.revoked_at.is_(None))
                .values(revoked_at=db_now())
                .returning(ApiKey.id)
            )
            return revoked.first() is not None

    def tenant_of(self, secret: str) -> str | None:
        """Return the tenant whose key in force this is."""
        with self._read() as session:
            return session.scalar(
                select(ApiKey.tenant_id).where(
                    ApiKey.secret_sha256 == hash_secret(secret), ApiKey.revoked_at.is_(None)
                )
            )

    def any_in_force(self) -> bool:
        """Whether at least one key works."""
        with self._read() as session:
            found = session.scalar(select(ApiKey.id).where(ApiKey.revoked_at.is_(None)).limit(1))
            return found is not None
