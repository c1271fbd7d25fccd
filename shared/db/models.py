"""Queries on the models that tenants trained or uploaded."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, delete, or_, select, update

from shared.db.datasets import is_held
from shared.db.disk import frees_space
from shared.db.queries import Queries
from shared.db.statements import DEFAULT_MODEL
from shared.db.tables import Model, Sweep
from shared.problems import Problem


@dataclass(frozen=True, kw_only=True)
class NewModel:
    """A model whose weights are already in the object store, announced under ``sweep_id``."""

    id: str
    task: str
    card: dict[str, Any]
    size: int
    sha256: str
    object_key: str
    sweep_id: int
    keep_seconds: float | None = None  # ``None``: until it is deleted


class ModelQueries(Queries):
    """Registered models."""

    def create(self, tenant_id: str, new: NewModel, *, job_id: str, fence: int) -> Model | None:
        """Record a model that a job made; ``None`` when that job is not held any more.

        What an earlier claim of the same job recorded is replaced. Raises ``model-exists``.
        """
        with self._write() as session:
            if not is_held(session, job_id, fence):
                return None
            earlier = session.get(Model, (tenant_id, new.id), with_for_update=True)
            if earlier is not None:
                if earlier.job_id != job_id:
                    raise Problem("model-exists", f"There is a model {new.id!r} already.")
                self._sweep(session, tenant_id, earlier.object_key.rpartition("/")[0] + "/")
                session.delete(earlier)
                session.flush()
            now, keep = self._now(session), new.keep_seconds
            row = Model(
                tenant_id=tenant_id,
                id=new.id,
                task=new.task,
                default=False,
                card=new.card,
                size=new.size,
                sha256=new.sha256,
                object_key=new.object_key,
                job_id=job_id,
                created_at=now,
                expires_at=None if keep is None else now + keep,
            )
            session.add(row)
            session.execute(delete(Sweep).where(Sweep.id == new.sweep_id))
            return row

    def get(self, tenant_id: str, model_id: str, *, past: bool = False) -> Model | None:
        """Return a model, or ``None`` for a missing, expired or foreign one.

        ``past``: one past its time, too, which a job that named it in time still finds.
        """
        with self._read() as session:
            query = _of(tenant_id) if past else _visible(tenant_id, self._now(session))
            return session.scalar(query.where(Model.id == model_id))

    def all(self, tenant_id: str, *, task: str | None = None) -> list[Model]:
        """Return a tenant's models by id."""
        with self._read() as session:
            query = _visible(tenant_id, self._now(session)).order_by(Model.id)
            if task is not None:
                query = query.where(Model.task == task)
            return list(session.scalars(query))

    def default(self, tenant_id: str, task: str) -> Model | None:
        """Return the model that a tenant chose to serve a task, if it did."""
        with self._read() as session:
            return session.scalar(DEFAULT_MODEL, {"tenant": tenant_id, "task": task})

    def set_default(self, tenant_id: str, task: str, model_id: str | None) -> bool:
        """Let a model serve its task for its tenant; ``None``: the shipped one again.

        It is kept from then on: a default that expired would change what later jobs answer.
        """
        with self._write() as session:
            row = None
            if model_id is not None:
                row = session.get(Model, (tenant_id, model_id), with_for_update=True)
                if row is None or row.task != task:
                    return False
            session.execute(
                update(Model)
                .where(Model.tenant_id == tenant_id, Model.task == task)
                .values(default=False)
                .execution_options(synchronize_session=False)
            )
            if row is not None:
                session.refresh(row)
                row.default, row.expires_at = True, None
            return True

    def keep(self, tenant_id: str, model_id: str, *, seconds: float | None) -> Model | None:
        """Let a model expire after ``seconds`` from now; ``None``: keep it until it is deleted.

        One that is a default is kept in any case. Returns the model, ``None`` for a missing one.
        """
        with self._write() as session:
            now = self._now(session)
            query = _visible(tenant_id, now).where(Model.id == model_id)
            row = session.scalar(query.with_for_update())
            if row is not None:
                row.expires_at = None if seconds is None or row.default else now + seconds
            return row

    @frees_space
    def delete(self, tenant_id: str, model_id: str) -> bool:
        """Delete a model; raises ``model-in-use`` while a live job names it."""
        with self._write() as session:
            row = session.get(Model, (tenant_id, model_id), with_for_update=True)
            if row is None:
                return False
            live = self._live_job_that(session, tenant_id, lambda spec: model_id in spec.model_ids)
            if live is not None:
                raise Problem("model-in-use", f"Job {live} still uses this model.", job=live)
            self._sweep(session, tenant_id, row.object_key.rpartition("/")[0] + "/")
            session.delete(row)
            return True


def _of(tenant_id: str) -> Select[Model]:
    return select(Model).where(Model.tenant_id == tenant_id)


def _visible(tenant_id: str, now: float) -> Select[Model]:
    return _of(tenant_id).where(or_(Model.expires_at.is_(None), Model.expires_at > now))
