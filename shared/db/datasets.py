"""Queries on data sets."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, delete, or_, select
from sqlalchemy.orm import Session

from shared.db.derived import DerivedQueries
from shared.db.disk import frees_space
from shared.db.listing import ListedDataset, listed_datasets
from shared.db.queries import dataset_prefix
from shared.db.tables import HELD_STATES, Dataset, Job, Sweep
from shared.problems import Problem


@dataclass(frozen=True, kw_only=True)
class NewDataset:
    """A data set whose pack is already in the object store, announced under ``sweep_id``."""

    id: str
    name: str
    layout: str
    classes: Sequence[str]
    summary: dict[str, Any]
    images: int
    size: int
    sha256: str
    object_key: str
    sweep_id: int
    keep_seconds: float | None = None


class DatasetQueries(DerivedQueries):
    """Data sets."""

    def create(self, tenant_id: str, new: NewDataset, *, job_id: str, fence: int) -> Dataset | None:
        """Record a data set that a job made; ``None`` when that job is not held any more.

        What an earlier claim of the same job recorded is deleted.
        """
        with self._write() as session:
            if not is_held(session, job_id, fence):
                return None
            earlier = session.scalars(
                delete(Dataset).where(Dataset.job_id == job_id).returning(Dataset.id)
            ).all()
            for dataset_id in earlier:
                self._sweep(session, tenant_id, dataset_prefix(tenant_id, dataset_id))
            now = self._now(session)
            keep = new.keep_seconds
            row = Dataset(
                id=new.id,
                tenant_id=tenant_id,
                name=new.name,
                layout=new.layout,
                classes=list(new.classes),
                summary=new.summary,
                images=new.images,
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

    def get(self, tenant_id: str, dataset_id: str, *, past: bool = False) -> Dataset | None:
        """Return a data set, or ``None`` for a missing, expired or foreign one.

        ``past``: one past its time, too, which a job that named it in time still finds.
        """
        with self._read() as session:
            query = self._of(tenant_id) if past else self._visible(tenant_id, self._now(session))
            return session.scalar(query.where(Dataset.id == dataset_id))

    def keep(self, tenant_id: str, dataset_id: str, *, seconds: float | None) -> Dataset | None:
        """Let a data set expire after ``seconds`` from now; ``None``: keep it until it is deleted.

        Returns the data set, ``None`` for a missing one.
        """
        with self._write() as session:
            now = self._now(session)
            query = self._visible(tenant_id, now).where(Dataset.id == dataset_id)
            row = session.scalar(query.with_for_update())
            if row is not None:
                row.expires_at = None if seconds is None else now + seconds
            return row

    def page(
        self, tenant_id: str, *, limit: int, before: tuple[float, str] | None = None
    ) -> list[ListedDataset]:
        """Return data sets, newest first, those before ``(created_at, id)``."""
        with self._read() as session:
            query = listed_datasets(tenant_id, now=self._now(session), limit=limit, before=before)
            return [ListedDataset(**row) for row in session.execute(query).mappings()]

    @frees_space
    def delete(self, tenant_id: str, dataset_id: str) -> bool:
        """Delete a data set and what finished jobs show of it; its models stay.

        Raises ``dataset-in-use`` while a live job reads it.
        """
        with self._write() as session:
            row = session.scalar(
                select(Dataset)
                .where(Dataset.id == dataset_id, Dataset.tenant_id == tenant_id)
                .with_for_update()
            )
            if row is None:
                return False
            live = self._live_job_that(
                session, tenant_id, lambda spec: dataset_id in spec.dataset_ids
            )
            if live is not None:
                raise Problem("dataset-in-use", f"Job {live} still reads this data set.", job=live)
            self._delete_derived_of_dataset(session, tenant_id, dataset_id, made_by=row.job_id)
            session.delete(row)
            self._sweep(session, tenant_id, dataset_prefix(tenant_id, dataset_id))
            return True

    @staticmethod
    def _of(tenant_id: str) -> Select[Dataset]:
        return select(Dataset).where(Dataset.tenant_id == tenant_id)

    @classmethod
    def _visible(cls, tenant_id: str, now: float) -> Select[Dataset]:
        return cls._of(tenant_id).where(or_(Dataset.expires_at.is_(None), Dataset.expires_at > now))


def is_held(session: Session, job_id: str, fence: int) -> bool:
    """Whether this claim of the job is in force; locks the job's row until the commit."""
    held = (
        select(Job.id)
        .where(Job.id == job_id, Job.fence == fence, Job.state.in_(HELD_STATES))
        .with_for_update()
    )
    return session.scalar(held) is not None
