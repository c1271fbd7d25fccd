"""``/v1/datasets``: labeled pictures to train and to judge on."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from services.api.auth import Shared, Tenant
from services.api.content import content_etag, serve
from services.api.create_job import create
from services.api.dataset_report import PAGE_HEADERS, report_page
from services.api.documentation import file_body, job_answers, job_headers, problems
from services.api.file_jobs import read_file_request
from services.api.paging import next_link, page_token, read_page_token
from services.api.resources import Resources
from services.api.schemas import JobView, is_id, moment
from shared.dataset_card import CONTACT_SHEET_FILE
from shared.db.listing import ListedDataset
from shared.db.queries import dataset_prefix
from shared.db.tables import Dataset
from shared.objects import ObjectMissingError
from shared.problems import Problem
from shared.results.import_dataset import DatasetReport
from shared.specs.import_dataset import ImportDatasetSpec

router = APIRouter(prefix="/v1/datasets", tags=["datasets"])
DatasetId = Annotated[str, Path(description="the data set's id")]


class DatasetView(BaseModel):
    """A data set."""

    id: str
    name: str
    layout: str
    classes: list[str]
    images: int
    size: int = Field(description="in bytes, as stored")
    sha256: str
    counts: dict[str, dict[str, int]] = Field(description="examples by split and class")
    balance: float | None = Field(description="rarest class, as a share of the most frequent one")
    duplicates: int
    near_duplicates: int
    leaks: int
    left_out_total: int
    job: str | None = Field(description="that took it in")
    created_at: datetime
    expires_at: datetime | None = Field(description="when it is deleted; null: it is kept")
    keep: bool = Field(description="whether it stays until you delete it")
    url: str
    contact_sheet_url: str

    @classmethod
    def of(cls, row: Dataset) -> "DatasetView":
        """View a row."""
        url = f"/v1/datasets/{row.id}"
        return cls.model_validate(
            {
                "id": row.id,
                "name": row.name,
                "layout": row.layout,
                "classes": row.classes,
                "images": row.images,
                "size": row.size,
                "sha256": row.sha256,
                "job": row.job_id,
                "created_at": moment(row.created_at),
                "expires_at": moment(row.expires_at),
                "keep": row.expires_at is None,
                "url": url,
                "contact_sheet_url": f"{url}/contact-sheet",
                **row.summary,
            }
        )


class DatasetDetail(DatasetView):
    """A data set, and what became of the files and boxes that were sent."""

    report: DatasetReport | None = Field(
        default=None, description="none of data sets that were taken in before there were any"
    )
    report_url: str = Field(description="the report as a page")

    @classmethod
    def of(cls, row: Dataset) -> "DatasetDetail":
        """View a row."""
        view = DatasetView.of(row).model_dump()
        report = row.summary.get("report")
        return cls.model_validate({**view, "report": report, "report_url": f"{view['url']}/report"})


class DatasetSummary(BaseModel):
    """A data set in a list: without its classes and counts, which the data set itself has."""

    id: str
    name: str
    layout: str
    class_count: int
    images: int
    size: int = Field(description="in bytes, as stored")
    sha256: str
    job: str | None = Field(description="that took it in")
    created_at: datetime
    expires_at: datetime | None = Field(description="when it is deleted; null: it is kept")
    keep: bool = Field(description="whether it stays until you delete it")
    url: str

    @classmethod
    def of(cls, row: ListedDataset) -> "DatasetSummary":
        """View a row."""
        return cls(
            id=row.id,
            name=row.name,
            layout=row.layout,
            class_count=row.class_count,
            images=row.images,
            size=row.size,
            sha256=row.sha256,
            job=row.job_id,
            created_at=moment(row.created_at),
            expires_at=moment(row.expires_at),
            keep=row.expires_at is None,
            url=f"/v1/datasets/{row.id}",
        )


class DatasetPage(BaseModel):
    """Some data sets, newest first."""

    datasets: list[DatasetSummary]
    next_page_token: str | None = Field(description="null on the last page")


@router.post(
    "",
    status_code=202,
    response_model=JobView,
    responses={k: v for k, v in job_answers().items() if k not in (200, 406)},
    openapi_extra={**file_body(ImportDatasetSpec), **job_headers()},
)
async def upload_dataset(request: Request, tenant: Tenant, resources: Shared) -> Response:
    """Upload a ZIP or TAR archive of labeled pictures, or a short video.

    As a form with the file in `file`, or as the raw body with the fields in the query. Answers with
    the job that checks it and takes it in; its result names the data set.
    """
    most = resources.settings.max_archive_bytes
    body = read_file_request(request, resources, ImportDatasetSpec, most=most)
    return await create(request, tenant, resources, body)


@router.get("", response_model=DatasetPage, responses=problems(400, 401, 422, 503))
def list_datasets(
    tenant: Tenant,
    resources: Shared,
    page_size: Annotated[int, Query(ge=1, le=200)] = 50,
    page_token_: Annotated[str | None, Query(alias="page_token", max_length=500)] = None,
) -> Response:
    """List data sets, newest first."""
    before = read_page_token(page_token_, "ds") if page_token_ else None
    rows = resources.repository.datasets.page(tenant, limit=page_size + 1, before=before)
    shown, more = rows[:page_size], len(rows) > page_size
    token = page_token(shown[-1].created_at, shown[-1].id) if more else None
    page = DatasetPage(datasets=[DatasetSummary.of(row) for row in shown], next_page_token=token)
    headers = {"Cache-Control": "no-store"}
    if token is not None:
        headers["Link"] = next_link("/v1/datasets", page_size=page_size, page_token=token)
    return JSONResponse(page.model_dump(mode="json"), headers=headers)


@router.get("/{dataset_id}", response_model=DatasetDetail, responses=problems(401, 404, 503))
def get_dataset(dataset_id: DatasetId, tenant: Tenant, resources: Shared) -> Response:
    """Return a data set."""
    row = _found(resources, tenant, dataset_id)
    headers = {"ETag": content_etag(row.sha256), "Cache-Control": "private, no-cache"}
    view: dict[str, Any] = DatasetDetail.of(row).model_dump(mode="json")
    return JSONResponse(view, headers=headers)


@router.get(
    "/{dataset_id}/contact-sheet",
    response_class=Response,
    responses=problems(401, 404, 416, 503),
)
async def get_contact_sheet(
    dataset_id: DatasetId, request: Request, tenant: Tenant, resources: Shared
) -> Response:
    """Return a picture of some examples of each class."""
    row = await run_in_threadpool(_found, resources, tenant, dataset_id)
    key = dataset_prefix(tenant, row.id) + CONTACT_SHEET_FILE
    try:
        info = await run_in_threadpool(resources.objects.head, key)
    except ObjectMissingError as error:
        raise Problem("not-found", "This data set has no contact sheet.") from error
    return await serve(
        request,
        resources,
        key=key,
        size=info.size,
        sha256=row.sha256,  # the pictures it is made of
        media_type="image/jpeg",
        filename=f"{row.id}.jpg",
    )


@router.put("/{dataset_id}/keep", response_model=DatasetView, responses=problems(401, 404, 503))
def keep_dataset(dataset_id: DatasetId, tenant: Tenant, resources: Shared) -> Response:
    """Keep a data set until you delete it: it does not expire."""
    return _kept(resources, tenant, dataset_id, None)


@router.delete("/{dataset_id}/keep", response_model=DatasetView, responses=problems(401, 404, 503))
def let_dataset_expire(dataset_id: DatasetId, tenant: Tenant, resources: Shared) -> Response:
    """Let a data set expire: after the service's retention of data sets, from now on."""
    seconds = resources.settings.dataset_retention_seconds
    return _kept(resources, tenant, dataset_id, seconds)


def _kept(resources: Resources, tenant: str, dataset_id: str, seconds: float | None) -> Response:
    known = is_id(dataset_id, "ds")
    keep = resources.repository.datasets.keep
    row = keep(tenant, dataset_id, seconds=seconds) if known else None
    if row is None:
        raise _missing(dataset_id)
    return JSONResponse(DatasetView.of(row).model_dump(mode="json"))


@router.get(
    "/{dataset_id}/report",
    response_class=HTMLResponse,
    responses=problems(401, 404, 503),
)
def get_report(dataset_id: DatasetId, tenant: Tenant, resources: Shared) -> Response:
    """Return a page that says what was taken in, and per reason what was left out."""
    row = _found(resources, tenant, dataset_id)
    return HTMLResponse(report_page(DatasetDetail.of(row).model_dump()), headers=PAGE_HEADERS)


@router.delete("/{dataset_id}", status_code=204, responses=problems(401, 404, 409, 503))
def delete_dataset(dataset_id: DatasetId, tenant: Tenant, resources: Shared) -> Response:
    """Delete a data set, its bytes, and the files that finished jobs made of it.

    Models that were trained on it stay, and so do the jobs' records and figures: delete those by
    themselves. A data set that a live job reads stays: 409.
    """
    known = is_id(dataset_id, "ds")
    if not (known and resources.repository.datasets.delete(tenant, dataset_id)):
        raise _missing(dataset_id)
    return Response(status_code=204)


def _found(resources: Resources, tenant: str, dataset_id: str) -> Dataset:
    known = is_id(dataset_id, "ds")
    row = resources.repository.datasets.get(tenant, dataset_id) if known else None
    if row is None:
        raise _missing(dataset_id)
    return row


def _missing(dataset_id: str) -> Problem:
    return Problem("not-found", f"There is no data set {dataset_id[:60]!r}.")
