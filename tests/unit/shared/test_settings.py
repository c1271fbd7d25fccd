"""Settings: where they come from, and which combinations are refused."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from shared.settings import load_settings


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith("BAUTA_"):
            monkeypatch.delenv(name)


def test_default_is_embedded_and_keyless_on_loopback(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path)
    assert settings.database.get_backend_name() == "sqlite"
    assert Path(str(settings.database.database)) == tmp_path / "bauta.db"
    assert settings.objects_location == (tmp_path / "objects").as_uri()
    assert settings.broker.startswith("filesystem:")
    assert not settings.keys_required


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.7", False),
        ("example.org", False),
    ],
)
def test_keys_are_required_off_loopback(host: str, loopback: bool) -> None:
    settings = load_settings(host=host)
    assert settings.is_loopback is loopback
    assert settings.keys_required is not loopback


def test_value_from_environment_and_from_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "password"
    secret.write_text("s3cr3t-p@ss/word\n")
    monkeypatch.setenv("BAUTA_DATABASE_URL", "postgresql://bauta@db/bauta")
    monkeypatch.setenv("BAUTA_DATABASE_PASSWORD_FILE", str(secret))
    monkeypatch.setenv("BAUTA_BROKER_URL", "redis://redis:6379/0")
    monkeypatch.setenv("BAUTA_BROKER_PASSWORD", "br@ker/key")
    monkeypatch.setenv("BAUTA_QUEUES", "interactive")
    settings = load_settings()
    assert settings.database.drivername == "postgresql+psycopg"
    assert settings.database.password == "s3cr3t-p@ss/word"
    assert "s3cr3t" not in repr(settings)
    assert settings.queues == ("interactive",)
    # A password with reserved characters must survive the URL that Redis' client parses again.
    from redis.connection import parse_url

    assert parse_url(settings.broker).get("password") == "br@ker/key"


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ({"host": "0.0.0.0", "require_keys": False}, "BAUTA_REQUIRE_KEYS"),
        ({"lease_seconds": 5, "heartbeat_seconds": 3}, "raise the lease"),
        ({"queues": "interactive,fast"}, "BAUTA_QUEUES"),
        ({"queues": ()}, "BAUTA_QUEUES"),
        ({"broker_url": "amqp://broker"}, "BAUTA_BROKER_URL"),
        ({"database_url": "sqlite:///:memory:"}, "name a file"),
        ({"database_url": "mysql://x/y"}, "BAUTA_DATABASE_URL"),
        ({"objects_url": "memory://"}, "BAUTA_OBJECTS_URL"),
        ({"objects_url": "s3://bucket"}, "BAUTA_S3_SECRET_ACCESS_KEY"),
        (
            {"database_url": "postgresql://u@h/d", "database_password": "changeme"},
            "BAUTA_DATABASE_PASSWORD",
        ),
        (
            {
                "objects_url": "s3://bucket",
                "s3_access_key_id": "minioadmin",
                "s3_secret_access_key": "minioadmin",
            },
            "BAUTA_S3_SECRET_ACCESS_KEY",
        ),
        ({"device": "gpu"}, "device"),
        ({"port": 70000}, "port"),
    ],
)
def test_unsafe_or_wrong_settings_are_refused_with_advice(
    given: dict[str, object], advice: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        load_settings(**given)
    assert advice in str(refused.value)
