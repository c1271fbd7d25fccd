"""``/v1/models``: the classifiers that jobs can name."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from services.api.auth import Shared, Tenant
from services.api.content import content_etag, serve, serve_file
from services.api.create_job import create
from services.api.documentation import file_body, job_answers, job_headers, problems
from services.api.file_jobs import read_file_request
from services.api.resources import Resources
from services.api.schemas import JobView, moment
from services.api.spec_check import parse_json_object
from shared.db.tables import Model
from shared.model_card import WEIGHTS_FILE, ModelCard, list_cards
from shared.problems import Problem
from shared.specs.import_model import ImportModelSpec

router = APIRouter(prefix="/v1/models", tags=["models"])
ModelId = Annotated[str, Path(description="the model's id")]
MEDIA_TYPE = "application/octet-stream"
SHOWN_CLASSES = 20


class ModelView(ModelCard):
    """A model: its card, and where it comes from."""

    source: Literal["yours", "shipped"]
    is_default: bool = Field(description="whether it serves its task for jobs that name no model")
    job: str | None = Field(description="that trained it or took it in")
    created_at: datetime | None
    expires_at: datetime | None = Field(description="when it is deleted; null: it is kept")
    keep: bool = Field(description="whether it stays until you delete it, as shipped ones do")
    url: str
    weights_url: str


class ModelSummary(BaseModel):
    """A model in a list: without what made it and how well it does, which its card has."""

    id: str
    task: str
    architecture: str
    classes: tuple[str, ...] = Field(description=f"the first {SHOWN_CLASSES}")
    class_count: int
    input_size: tuple[int, int]
    size: int
    sha256: str
    license: str
    source: Literal["yours", "shipped"]
    is_default: bool
    job: str | None
    created_at: datetime | None
    expires_at: datetime | None
    keep: bool
    url: str
    weights_url: str

    @classmethod
    def of(cls, view: ModelView) -> "ModelSummary":
        """Take what a list shows."""
        fields = {name: getattr(view, name) for name in cls.model_fields if name != "class_count"}
        fields["classes"] = view.classes[:SHOWN_CLASSES]
        return cls(**fields, class_count=len(view.classes))


class ModelList(BaseModel):
    """All models that jobs can name."""

    models: list[ModelSummary]


@dataclass(frozen=True)
class _Known:
    """A model, the tenant's own or a shipped one."""

    card: ModelCard
    row: Model | None = None
    folder: FilePath | None = None

    def view(self, *, is_default: bool) -> ModelView:
        url = f"/v1/models/{self.card.id}"
        return ModelView(
            **self.card.model_dump(),
            source="yours" if self.row else "shipped",
            is_default=is_default,
            job=self.row.job_id if self.row else None,
            created_at=moment(self.row.created_at) if self.row else None,
            expires_at=moment(self.row.expires_at) if self.row else None,
            keep=self.row is None or self.row.expires_at is None,
            url=url,
            weights_url=f"{url}/weights",
        )


@router.post(
    "",
    status_code=202,
    response_model=JobView,
    responses={k: v for k, v in job_answers().items() if k not in (200, 406)},
    openapi_extra={**file_body(ImportModelSpec), **job_headers()},
)
async def upload_model(request: Request, tenant: Tenant, resources: Shared) -> Response:
    """Upload a classifier: a safetensors file, and its card's fields.

    As a form with the file in `file`, the fields beside it or together in `card` as JSON; or as the
    raw body with the fields in the query. Answers with the job that checks and registers it.
    """
    most = resources.settings.max_model_bytes
    body = read_file_request(request, resources, ImportModelSpec, most=most, parse=_document)
    return await create(request, tenant, resources, body)


@router.get("", response_model=ModelList, responses=problems(401, 422, 503))
def list_models(
    tenant: Tenant,
    resources: Shared,
    task: Annotated[str | None, Query(max_length=40, description="only those for it")] = None,
) -> Response:
    """List all models that jobs can name: your own and the shipped ones."""
    known = [model for model in _all(resources, tenant).values() if task in (None, model.card.task)]
    views = [model.view(is_default=_is_default(known, model)) for model in known]
    page = ModelList(models=sorted(map(ModelSummary.of, views), key=lambda view: view.id))
    return JSONResponse(page.model_dump(mode="json"), headers={"Cache-Control": "no-store"})


@router.get("/{model_id}", response_model=ModelView, responses=problems(401, 404, 503))
def get_model(model_id: ModelId, tenant: Tenant, resources: Shared) -> Response:
    """Return a model's card: classes, data, lineage, license, metrics, threat model."""
    known = _all(resources, tenant)
    model = _found(known, model_id)
    view = model.view(is_default=_is_default(list(known.values()), model))
    headers = {"ETag": content_etag(model.card.sha256), "Cache-Control": "private, no-cache"}
    return JSONResponse(view.model_dump(mode="json"), headers=headers)


@router.get(
    "/{model_id}/weights", response_class=Response, responses=problems(401, 404, 409, 416, 503)
)
async def get_weights(
    model_id: ModelId, request: Request, tenant: Tenant, resources: Shared
) -> Response:
    """Return a model's weights: a safetensors file."""
    known = await run_in_threadpool(_all, resources, tenant)
    model = _found(known, model_id)
    name = f"{model.card.id}.safetensors"
    if model.row is not None:
        return await serve(
            request,
            resources,
            key=model.row.object_key,
            size=model.row.size,
            sha256=model.row.sha256,
            media_type=MEDIA_TYPE,
            filename=name,
        )
    path = (model.folder or FilePath()) / WEIGHTS_FILE
    if not path.is_file() or path.stat().st_size != model.card.size:
        wanted = f"put the file with SHA-256 {model.card.sha256} at {path}"
        raise Problem("model-unavailable", f"The weights of {model_id!r} are not here: {wanted}.")
    return serve_file(request, path, sha256=model.card.sha256, media_type=MEDIA_TYPE, filename=name)


@router.put("/{model_id}/default", response_model=ModelView, responses=problems(401, 404, 409, 503))
def make_default(model_id: ModelId, tenant: Tenant, resources: Shared) -> Response:
    """Let a model serve its task for your jobs that name none. It is kept from then on."""
    known = _all(resources, tenant)
    model = _found(known, model_id)
    if model.row is None and not model.card.default:
        detail = "Of the shipped models, only the one that ships as default can be made it again."
        raise Problem("model-is-shipped", detail)
    own = None if model.row is None else model.card.id
    if not resources.repository.models.set_default(tenant, model.card.task, own):
        raise _missing(model_id)
    view = _found(_all(resources, tenant), model_id).view(is_default=True)
    return JSONResponse(view.model_dump(mode="json"))


@router.put("/{model_id}/keep", response_model=ModelView, responses=problems(401, 404, 409, 503))
def keep_model(model_id: ModelId, tenant: Tenant, resources: Shared) -> Response:
    """Keep a model of yours until you delete it: it does not expire."""
    return _kept(resources, tenant, model_id, None)


@router.delete("/{model_id}/keep", response_model=ModelView, responses=problems(401, 404, 409, 503))
def let_model_expire(model_id: ModelId, tenant: Tenant, resources: Shared) -> Response:
    """Let a model of yours expire: after the service's retention of models, from now on.

    One that serves as your default stays.
    """
    return _kept(resources, tenant, model_id, resources.settings.model_retention_seconds)


def _kept(resources: Resources, tenant: str, model_id: str, seconds: float | None) -> Response:
    if _found(_all(resources, tenant), model_id).row is None:
        raise Problem("model-is-shipped", f"{model_id!r} ships with the service.")
    if resources.repository.models.keep(tenant, model_id, seconds=seconds) is None:
        raise _missing(model_id)
    known = _all(resources, tenant)
    model = _found(known, model_id)
    view = model.view(is_default=_is_default(list(known.values()), model))
    return JSONResponse(view.model_dump(mode="json"))


@router.delete("/{model_id}", status_code=204, responses=problems(401, 404, 409, 503))
def delete_model(model_id: ModelId, tenant: Tenant, resources: Shared) -> Response:
    """Delete a model of yours. One that a live job names stays, as shipped ones do: 409."""
    model = _found(_all(resources, tenant), model_id)
    if model.row is None:
        raise Problem("model-is-shipped", f"{model_id!r} ships with the service.")
    if not resources.repository.models.delete(tenant, model_id):
        raise _missing(model_id)
    return Response(status_code=204)


def _document(fields: Mapping[str, str]) -> dict[str, Any]:
    """Make the spec of form fields: ``card`` as JSON, and fields that are JSON or plain text."""
    document: dict[str, Any] = {}
    for name, value in fields.items():
        if name == "card":
            document |= parse_json_object(value, what="The field `card`")
            continue
        field = ImportModelSpec.model_fields.get(name)
        plain = field is None or field.annotation in (str, int, float)
        try:
            document[name] = value if plain else json.loads(value)
        except ValueError:
            # `classes=with_mask,without_mask`, as one would type it
            document[name] = [part.strip() for part in value.split(",")]
    return document


def _all(resources: Resources, tenant: str) -> dict[str, _Known]:
    """Return all models by id; the tenant's own hide shipped ones of the same name."""
    shipped = list_cards(*resources.settings.model_dirs)
    known = {key: _Known(card, folder=folder) for key, (card, folder) in shipped.items()}
    for row in resources.repository.models.all(tenant):
        known[row.id] = _Known(ModelCard.model_validate(row.card), row=row)
    return known


def _found(known: dict[str, _Known], model_id: str) -> _Known:
    if model_id not in known:
        raise _missing(model_id)
    return known[model_id]


def _missing(model_id: str) -> Problem:
    return Problem("not-found", f"There is no model {model_id[:60]!r}.")


def _is_default(known: list[_Known], model: _Known) -> bool:
    mine = [other for other in known if other.card.task == model.card.task and other.row]
    chosen = next((other for other in mine if other.row and other.row.default), None)
    return model is chosen if chosen else model.row is None and model.card.default
