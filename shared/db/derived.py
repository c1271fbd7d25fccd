"""Deletes what finished jobs made of an image or a data set, when that is deleted."""

from sqlalchemy import ColumnElement, Select, Text, cast, delete, or_, select, true
from sqlalchemy.orm import Session

from shared.db.queries import Queries
from shared.db.tables import FINAL_STATES, STATES, Artifact, Event, Job, JobImage
from shared.specs import parse_spec

RESULT_ARTIFACT = "result.json"  # a large result: figures, which stay with the job's row
KEPT_EVENTS = (*STATES, "progress")  # others may show pictures


class DerivedQueries(Queries):
    """Base of the queries that delete something which jobs have read."""

    def _delete_derived_of_image(self, session: Session, image_id: str) -> None:
        """Delete what finished jobs made of an image; what they made of others alone stays."""
        readers = select(JobImage.job_id).where(JobImage.image_id == image_id)
        made_of_it = or_(Artifact.image_id.is_(None), Artifact.image_id == image_id)
        for job in session.scalars(_ended(select(Job).where(Job.id.in_(readers)))).all():
            self._delete_derived(session, job, made_of_it, {"image": image_id})

    def _delete_derived_of_dataset(
        self, session: Session, tenant_id: str, dataset_id: str, *, made_by: str | None
    ) -> None:
        """Delete what finished jobs made of a data set, and what the job showed that made it."""
        # Its id is found in the spec's text wherever a kind keeps it; then the spec is asked.
        candidates = select(Job).where(
            Job.tenant_id == tenant_id,
            or_(Job.id == made_by, cast(Job.spec, Text).contains(dataset_id, autoescape=True)),
        )
        for job in session.scalars(_ended(candidates)).all():
            if job.spec is None:
                continue
            if job.id == made_by or dataset_id in parse_spec(job.spec).dataset_ids:
                self._delete_derived(session, job, true(), {"dataset": dataset_id})

    def _delete_derived(
        self, session: Session, job: Job, which: ColumnElement[bool], why: dict[str, str]
    ) -> None:
        gone = session.execute(
            delete(Artifact)
            .where(Artifact.job_id == job.id, Artifact.name != RESULT_ARTIFACT, which)
            .returning(Artifact.name, Artifact.object_key)
            .execution_options(synchronize_session=False)
        ).all()
        session.execute(delete(Event).where(Event.job_id == job.id, Event.type.not_in(KEPT_EVENTS)))
        for _, key in gone:
            self._sweep(session, job.tenant_id, key)
        if gone:
            data = {**why, "artifacts": sorted(name for name, _ in gone)}
            self._event(session, job, "artifacts-deleted", data)


def _ended(jobs: Select[Job]) -> Select[Job]:
    return jobs.where(Job.state.in_(FINAL_STATES), Job.deleted_at.is_(None))
