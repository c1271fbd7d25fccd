"""The two deployments: embedded, and Redis with Postgres and an S3 peer."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from shared.specs import catalog
from tests.failure.stack import Stack, fresh_name
from tests.fixtures.process import free_port, wait_until
from tests.fixtures.s3 import REGION
from tests.fixtures.servers import PostgresServer, RedisServer, S3Server


def production_environment(
    tmp_path: Path, redis: RedisServer, postgres: PostgresServer, s3: S3Server
) -> dict[str, str]:
    """Name a fresh database and a fresh bucket in these servers."""
    return {
        "BAUTA_DATA_DIR": str(tmp_path / "data"),
        "BAUTA_BROKER_URL": redis.url,
        "BAUTA_DATABASE_URL": postgres.create_database(fresh_name()),
        "BAUTA_OBJECTS_URL": s3.create_bucket(fresh_name()),
        "BAUTA_S3_ENDPOINT": s3.endpoint,
        "BAUTA_S3_REGION": REGION,
        "BAUTA_S3_ACCESS_KEY_ID": s3.access_key_id,
        "BAUTA_S3_SECRET_ACCESS_KEY": s3.secret_access_key,
    }


@pytest.fixture(autouse=True)
def _no_trial_kind_afterwards() -> Iterator[None]:
    """Leave the job kinds to later tests as they were: a stack adds one of its own."""
    any_spec = catalog.ANY_SPEC
    yield
    catalog.ANY_SPEC = any_spec
    cast(dict[str, Any], catalog.SPECS).pop("trial", None)


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Stack]:
    """SQLite, a filesystem broker, a folder of objects."""
    stack = Stack({"BAUTA_DATA_DIR": str(tmp_path / "data")}, tmp_path)
    yield stack
    stack.close()


@pytest.fixture
def production(
    tmp_path: Path,
    redis_server: RedisServer,
    postgres_server: PostgresServer,
    s3_server: S3Server,
) -> Iterator[Stack]:
    """Redis, Postgres and the S3 peer, shared by the tests, which must not stop them."""
    environment = production_environment(tmp_path, redis_server, postgres_server, s3_server)
    stack = Stack(environment, tmp_path)
    yield stack
    stack.close()


@pytest.fixture(params=["embedded", "production"])
def stack(request: pytest.FixtureRequest) -> Stack:
    """Each deployment in turn."""
    found: Stack = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx.Client]:
    """A client of an API on this stack."""
    port = free_port()
    stack.start(("-m", "services.cli", "api", "--port", str(port)))
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=70) as client:

        def answers() -> bool:
            try:
                return client.get("/livez").status_code == 200
            except httpx.TransportError:
                return False

        wait_until(answers, seconds=60, what="the API")
        yield client
