"""Settings of every process, read from ``BAUTA_*`` variables, or files that they name.

Each setting ``BAUTA_X`` may instead be given as ``BAUTA_X_FILE``, the path of a file that holds
the value (the form in which container secrets arrive). Combinations that would be unsafe are
refused when the settings are read, with a sentence that says what to change.
"""

import ipaddress
import os
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from sqlalchemy.engine import URL, make_url

PREFIX = "BAUTA_"
QUEUES = ("interactive", "batch")
BROKERS = ("filesystem", "redis", "rediss")
DEFAULT_SECRETS = frozenset({"bauta", "changeme", "change-me", "minioadmin", "password", "secret"})


class _FileSource(PydanticBaseSettingsSource):
    """Reads ``BAUTA_X_FILE`` for a setting ``x``."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        del field
        path = os.environ.get(f"{PREFIX}{field_name.upper()}_FILE")
        value = Path(path).read_text(encoding="utf-8").strip() if path else None
        return value, field_name, False

    def __call__(self) -> dict[str, Any]:
        fields = self.settings_cls.model_fields
        found = {name: self.get_field_value(field, name)[0] for name, field in fields.items()}
        return {name: value for name, value in found.items() if value is not None}


class Settings(BaseSettings):
    """All settings, with the embedded default: SQLite, a local folder, a filesystem broker."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    data_dir: Path = Field(Path(".bauta"), description="where the embedded default keeps its state")
    database_url: str = Field("", description="SQLAlchemy URL; empty: SQLite in data_dir")
    database_password: SecretStr | None = None
    broker_url: str = Field("", description="redis://…, rediss://…; empty: a folder in data_dir")
    broker_password: SecretStr | None = None
    objects_url: str = Field("", description="file:///… or s3://bucket/prefix; empty: data_dir")
    s3_endpoint: str | None = None
    s3_region: str = "us-east-1"
    s3_access_key_id: str | None = None
    s3_secret_access_key: SecretStr | None = None

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    require_keys: bool | None = Field(None, description="default: only off loopback")
    max_image_bytes: int = Field(20 * 2**20, ge=1024)
    max_image_pixels: int = Field(40_000_000, ge=1024)
    max_request_bytes: int = Field(256 * 2**20, ge=1024)
    max_images_per_job: int = Field(256, ge=1, le=10_000)
    max_archive_bytes: int = Field(512 * 2**20, ge=1024, description="of an uploaded data set")
    max_dataset_bytes: int = Field(512 * 2**20, ge=1024, description="of its images, unpacked")
    max_dataset_images: int = Field(50_000, ge=1)
    import_memory_bytes: int = Field(
        2 * 2**30, ge=256 * 2**20, description="of the process that takes an upload in"
    )
    max_model_bytes: int = Field(256 * 2**20, ge=1024, description="of an uploaded model")
    max_queued_jobs: int = Field(10_000, ge=1)
    max_wait_seconds: float = Field(60, ge=0, le=600)
    max_connections: int = Field(4_096, ge=1, description="open at once")
    max_connections_per_address: int = Field(
        1_024, ge=1, description="neither loopback nor `proxies` are bound by it"
    )
    proxies: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = Field(
        (), description="networks of reverse proxies, whose X-Forwarded-For is believed"
    )
    max_connections_waiting: int = Field(2_000, ge=1)
    spool_dir: Path | None = Field(None, description="for uploads on their way; in data_dir")
    min_free_disk_bytes: int = Field(256 * 2**20, ge=0)
    concurrent_decodes: int = Field(2, ge=1)
    retention_seconds: float = Field(24 * 3600, gt=0, description="of images and jobs")
    dataset_retention_seconds: float = Field(30 * 24 * 3600, gt=0)
    model_retention_seconds: float = Field(30 * 24 * 3600, gt=0)

    queues: Annotated[tuple[str, ...], NoDecode] = QUEUES
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    threads: int | None = Field(None, ge=1, description="CPU threads of one worker")
    lease_seconds: float = Field(15, gt=0)
    heartbeat_seconds: float = Field(3, gt=0)
    max_losses: int = Field(3, ge=1)
    deadline_grace_seconds: float = Field(30, gt=0)
    max_deadline_seconds: float = Field(24 * 3600, gt=0, description="longest deadline of any job")
    drain_seconds: float = Field(20, ge=0)
    recycle_after_jobs: int = Field(2_000, ge=1)
    batch_jobs: int | None = Field(
        None, ge=1, description="most jobs run as one batch; default: 4 on a CPU, 16 on a GPU"
    )
    job_memory_bytes: int = Field(
        2 * 2**30, ge=2**20, description="that a job's photos and faces may need beside the models"
    )
    worker_memory_bytes: int | None = Field(
        None, ge=2**30, description="of a worker; default: 90 % of a container's, 80 % of a machine"
    )
    model_cache_bytes: int = Field(2 * 2**30, ge=0)
    models_dir: Path | None = Field(None, description="models beside the bundled ones")
    bundled_dir: Path = Field(
        Path(__file__).parents[1] / "services" / "worker" / "models" / "bundled",
        description="the models that ship",
    )
    allow_downloads: bool = Field(False, description="fetch published weights that a job names")
    targeted: Literal["off", "synthetic", "consented"] = Field(
        "synthetic",
        description="whom `encrypt` may move faces towards: nobody, a person who does not exist, "
        "or one on photos that the caller uploads and says to have the consent of",
    )
    keeper_seconds: float = Field(1, gt=0)
    hung_seconds: float = Field(60, ge=3, description="without a sign of life: killed")
    ring_again_seconds: float = Field(3, gt=0)
    interactive_workers: int = Field(1, ge=1, description="of `bauta serve`")
    batch_workers: int = Field(1, ge=0, description="of `bauta serve`, serving both queues")

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, _FileSource(settings_cls)

    @field_validator("queues", "proxies", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return tuple(part.strip() for part in value.split(",")) if value else ()

    @model_validator(mode="after")
    def _refuse_unsafe(self) -> Self:
        if unknown := set(self.queues) - set(QUEUES):
            raise ValueError(f"BAUTA_QUEUES names {sorted(unknown)}: use some of {QUEUES}")
        if not self.queues:
            raise ValueError("BAUTA_QUEUES is empty: name at least one of interactive, batch")
        if self.lease_seconds < 3 * self.heartbeat_seconds:
            raise ValueError(
                "BAUTA_LEASE_SECONDS must be at least three times BAUTA_HEARTBEAT_SECONDS, or one "
                "late heartbeat gives a running job to a second worker: raise the lease"
            )
        if self.require_keys is False and not self.is_loopback:
            raise ValueError(
                f"BAUTA_HOST={self.host} can be reached from elsewhere, so BAUTA_REQUIRE_KEYS "
                "cannot be false: leave it out, or bind 127.0.0.1"
            )
        if self.database.get_backend_name() == "sqlite" and not self._sqlite_is_a_file:
            raise ValueError(
                "an in-memory SQLite database is not shared between API, worker and keeper: "
                "name a file in BAUTA_DATABASE_URL"
            )
        if self.database.get_backend_name() not in ("sqlite", "postgresql"):
            raise ValueError("BAUTA_DATABASE_URL must be sqlite:///… or postgresql+psycopg://…")
        if self.broker.partition(":")[0] not in BROKERS:
            raise ValueError(
                "BAUTA_BROKER_URL must be redis://…, rediss://…, or empty for a folder"
            )
        if not self.objects_location.startswith(("file://", "s3://")):
            raise ValueError("BAUTA_OBJECTS_URL must be file:///… or s3://bucket: others lose data")
        if self.objects_location.startswith("s3://") and not self.s3_secret_access_key:
            raise ValueError(
                "BAUTA_OBJECTS_URL is an S3 bucket: set BAUTA_S3_ACCESS_KEY_ID and "
                "BAUTA_S3_SECRET_ACCESS_KEY (or …_FILE)"
            )
        self._refuse_default_secrets()
        return self

    def _refuse_default_secrets(self) -> None:
        secrets = {
            "BAUTA_DATABASE_PASSWORD": self.database.password,
            "BAUTA_BROKER_PASSWORD": self.broker_password
            and self.broker_password.get_secret_value(),
            "BAUTA_S3_SECRET_ACCESS_KEY": (
                self.s3_secret_access_key and self.s3_secret_access_key.get_secret_value()
            ),
        }
        for name, secret in secrets.items():
            if secret and secret.lower() in DEFAULT_SECRETS:
                raise ValueError(f"{name} is a well-known default: generate one, e.g. with openssl")

    @property
    def _sqlite_is_a_file(self) -> bool:
        return bool(self.database.database) and self.database.database != ":memory:"

    @property
    def is_loopback(self) -> bool:
        """Whether the API's bind address can be reached from this machine only."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def keys_required(self) -> bool:
        """Whether a request without an API key is refused."""
        return not self.is_loopback if self.require_keys is None else self.require_keys

    @cached_property
    def database(self) -> URL:
        """The database's URL, its password filled in."""
        if not self.database_url:
            return make_url(f"sqlite:///{self.data_dir.resolve() / 'bauta.db'}")
        url = make_url(self.database_url)
        if url.drivername == "postgresql":
            url = url.set(drivername="postgresql+psycopg")
        if self.database_password:
            url = url.set(password=self.database_password.get_secret_value())
        return url

    @cached_property
    def broker(self) -> str:
        """The broker's URL, its password filled in."""
        if not self.broker_url:
            return "filesystem://"
        if not self.broker_password:
            return self.broker_url
        url = make_url(self.broker_url)
        # A URL without a user name would be rendered without its password; Redis calls it so.
        url = url.set(
            username=url.username or "default", password=self.broker_password.get_secret_value()
        )
        return url.render_as_string(hide_password=False)

    @property
    def spool_folder(self) -> Path:
        """Where the API keeps bodies while they arrive."""
        return self.spool_dir or self.data_dir.resolve() / "spool"

    @property
    def objects_location(self) -> str:
        """The object store's URL."""
        return self.objects_url or (self.data_dir.resolve() / "objects").as_uri()

    @property
    def registry_dir(self) -> Path:
        """The folder of models that this deployment added."""
        return self.models_dir or self.data_dir.resolve() / "models"

    @property
    def model_dirs(self) -> tuple[Path, Path]:
        """The folders of models, those that this deployment added first."""
        return self.registry_dir, self.bundled_dir


def load_settings(**overrides: Any) -> Settings:
    """Read the settings from the environment; keyword arguments win."""
    return Settings(**overrides)
