"""Statements that every job is asked for, built once.

To build one costs SQLAlchemy as much as it costs Postgres to answer it, and a job waits for ten.
They are of tables and not of objects, whose bookkeeping costs as much again.
"""

from functools import cache
from typing import Any

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Executable,
    Select,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from shared.db.engine import db_now
from shared.db.tables import HELD_STATES, Artifact, Base, Event, Job, Model, Sweep, table_of

CHANNEL = "bauta_jobs"  # hears ``job_… number event`` of every event, when it is committed
COMPANY = "has_company"

_jobs = table_of(Job)
_job = _jobs.c


class _has_company(FunctionElement[bool]):
    """Whether others wait that could share a batch with a job: mostly none do, and nobody asks.

    SQLite cannot tell here, and to ask it costs no round trip.
    """

    type = Boolean()
    inherit_cache = True


@compiles(_has_company, "postgresql")
def _company_postgres(element: Any, compiler: Any, **options: Any) -> str:
    del element, compiler, options
    return (
        "EXISTS (SELECT 1 FROM jobs AS other WHERE other.state = 'queued'"
        " AND other.queue = jobs.queue AND other.batch_key = jobs.batch_key"
        " AND other.id <> jobs.id)"
    )


@compiles(_has_company, "sqlite")
def _company_sqlite(element: Any, compiler: Any, **options: Any) -> str:
    del element, compiler, options
    return "1"


def while_held(job_id: Any, fence: Any) -> tuple[ColumnElement[bool], ...]:
    """Say that a job is held by this claim."""
    return _job.id == job_id, _job.fence == fence, _job.state.in_(HELD_STATES)


def _claim(which: Select[Any]) -> Executable:
    """Claim what ``which`` finds and is free; needs ``claimer`` and ``lease_seconds``.

    One statement, and the locked rows are a table expression of their own, so that Postgres looks
    for them once and locks no others.
    """
    free = which.where(_job.state == "queued").with_for_update(skip_locked=True).cte("free")
    return (
        update(_jobs)
        .where(_job.id.in_(select(free.c.id)), _job.state == "queued")
        .values(
            state="running",
            owner=bindparam("claimer"),
            fence=_job.fence + 1,
            claimed_at=db_now(),
            started_at=func.coalesce(_job.started_at, db_now()),
            lease_expires_at=db_now() + bindparam("lease_seconds"),
            event_seq=_job.event_seq + 1,
        )
        .returning(*_job, _has_company().label(COMPANY))
    )


_in_queues = select(_job.id).where(_job.queue.in_(bindparam("queues", expanding=True)))
_oldest = _in_queues.order_by(_job.queued_at, _job.id).limit(bindparam("most"))

# All need ``queues``, too.
CLAIM_NAMED = _claim(_in_queues.where(_job.id == bindparam("named")))
CLAIM_OLDEST = _claim(_oldest)  # at ``most`` so many
CLAIM_ALIKE = _claim(_oldest.where(_job.batch_key == bindparam("alike"), _job.losses == 0))

_waiting = select(func.count()).where(_job.state == "queued").scalar_subquery()
NOW_AND_QUEUED = select(db_now(), _waiting)


@cache
def change_held(names: frozenset[str], *, ends: bool = False) -> Executable:
    """Set columns of ``held_job`` while it is held at ``held_fence``, and count its ``events``.

    A column's value is the parameter of its name after ``new_``. With ``ends`` the job ends now and
    is kept for ``kept_seconds``. Returns the short part of its row, without spec and result.
    """
    values: dict[str, Any] = {name: bindparam(f"new_{name}") for name in names}
    if ends:
        values["finished_at"] = db_now()
        values["lease_expires_at"] = None
        values["expires_at"] = db_now() + bindparam("kept_seconds")
    return (
        update(_jobs)
        .where(*while_held(bindparam("held_job"), bindparam("held_fence")))
        .values(event_seq=_job.event_seq + bindparam("events"), **values)
        .returning(
            _job.id,
            _job.tenant_id,
            _job.kind,
            _job.state,
            _job.fence,
            _job.event_seq,
            _job.finished_at,
        )
    )


def _event(*, notify: bool) -> Executable:
    row = insert(table_of(Event)).values(created_at=db_now())
    if not notify:
        return row
    # In the same round trip; who listens hears it when the transaction commits.
    return row.returning(func.pg_notify(CHANNEL, bindparam("news")))


# Both need the columns of the event but its time; the second, of Postgres, ``news``, too.
EVENT = _event(notify=False)
EVENT_WITH_NEWS = _event(notify=True)

_sweeps = table_of(Sweep)
SWEEP_NOW = insert(_sweeps).values(due_at=db_now())
SWEEPS_LATER = (  # needs ``within_seconds``; returns id and prefix of each
    insert(_sweeps)
    .values(due_at=db_now() + bindparam("within_seconds"))
    .returning(_sweeps.c.id, _sweeps.c.prefix)
)
CALL_OFF = delete(_sweeps).where(_sweeps.c.id.in_(bindparam("sweeps", expanding=True)))


@cache
def insertion(entity: type[Base]) -> Executable:
    """Insert rows of an entity's table."""
    return insert(table_of(entity))


JOB = select(Job).where(  # of ``tenant``, with the id ``job``
    Job.tenant_id == bindparam("tenant"), Job.deleted_at.is_(None), Job.id == bindparam("job")
)
JOB_WITH_ARTIFACTS = (  # a row for each of them, or one without
    JOB.add_columns(Artifact)
    .outerjoin(Artifact, Artifact.job_id == Job.id)
    .order_by(Artifact.position)
)
DEFAULT_MODEL = select(Model).where(  # of ``tenant`` for ``task``
    Model.tenant_id == bindparam("tenant"),
    Model.task == bindparam("task"),
    Model.default.is_(True),  # and so it is kept
)
