"""``/v1/images``: uploads that live until deleted or expired."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from services.api.auth import Shared, Tenant
from services.api.content import content_etag, serve
from services.api.documentation import problems, upload_body
from services.api.headers import matches
from services.api.resources import Resources
from services.api.schemas import ImageView, is_id
from services.api.spool import Upload, as_upload
from services.api.uploads import (
    CleanImage,
    clean,
    discarded_on_refusal,
    fresh_image_id,
    store,
)
from shared.db.tables import Image
from shared.problems import Problem

router = APIRouter(prefix="/v1/images", tags=["images"])
ImageId = Annotated[str, Path(description="the image's id")]
_EXTENSIONS = {"image/jpeg": "jpg", "image/png": "png", "image/webp": "webp"}


@router.post(
    "",
    status_code=201,
    response_model=ImageView,
    responses=problems(400, 401, 413, 415, 422, 503, 507),
    openapi_extra=upload_body(),
)
async def upload_image(request: Request, tenant: Tenant, resources: Shared) -> Response:
    """Upload an image, as the raw body or as the file of a form."""
    async with _read(request, resources) as upload:
        image = await clean(resources, tenant, fresh_image_id(), upload)
        with closing(image.upload):
            row = await run_in_threadpool(_record, resources, tenant, image)
    headers = {"Location": f"/v1/images/{row.id}", "ETag": _etag(row)}
    return JSONResponse(ImageView.of(row).model_dump(mode="json"), 201, headers)


def _record(resources: Resources, tenant: str, image: CleanImage) -> Image:
    [new] = store(resources, tenant, [image])
    with discarded_on_refusal(resources, [new]):
        return resources.repository.images.create(
            tenant, new, retention_seconds=resources.settings.retention_seconds
        )


@asynccontextmanager
async def _read(request: Request, resources: Resources) -> AsyncIterator[Upload]:
    media_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if media_type.startswith("image/") or media_type == "application/octet-stream":
        most = resources.settings.max_image_bytes
        async with resources.spool.body(request, most=most, too_large="image-too-large") as upload:
            yield upload
        return
    if media_type != "multipart/form-data":
        raise Problem(
            "unsupported-media-type", "Send the image itself (image/*), or multipart/form-data."
        )
    async with resources.spool.form(request, max_files=2, max_fields=10) as form:
        parts = form.multi_items()
        files = [part for _, part in parts if isinstance(part, UploadFile)]
        if len(files) != 1 or len(parts) != 1:
            raise Problem("invalid-request", "Send exactly one file, in the field `image`.")
        yield as_upload(files[0])


@router.get("/{image_id}", response_model=ImageView, responses=problems(401, 404, 503))
def get_image(image_id: ImageId, request: Request, tenant: Tenant, resources: Shared) -> Response:
    """Return an image."""
    row = _found(resources, tenant, image_id)
    headers = {"ETag": _etag(row), "Cache-Control": "private, no-cache"}
    if matches(_etag(row), request.headers.get("if-none-match")):
        return Response(status_code=304, headers=headers)
    return JSONResponse(ImageView.of(row).model_dump(mode="json"), headers=headers)


@router.get("/{image_id}/content", response_class=Response, responses=problems(401, 404, 416, 503))
async def get_image_content(
    image_id: ImageId, request: Request, tenant: Tenant, resources: Shared
) -> Response:
    """Return the image: the pixels that were uploaded, without their metadata."""
    row = await run_in_threadpool(_found, resources, tenant, image_id)
    return await serve(
        request,
        resources,
        key=row.object_key,
        size=row.size,
        sha256=row.sha256,
        media_type=row.media_type,
        filename=f"{row.id}.{_EXTENSIONS[row.media_type]}",
    )


@router.delete("/{image_id}", status_code=204, responses=problems(401, 404, 409, 503))
def delete_image(image_id: ImageId, tenant: Tenant, resources: Shared) -> Response:
    """Delete an image, its bytes, and the files that finished jobs made of it.

    Of a job's files, those of its other images alone stay, and so do its record and its figures:
    delete the job for them. An image that a live job reads stays: 409.
    """
    if not (is_id(image_id, "img") and resources.repository.images.delete(tenant, image_id)):
        raise _missing(image_id)
    return Response(status_code=204)


def _found(resources: Resources, tenant: str, image_id: str) -> Image:
    row = resources.repository.images.get(tenant, image_id) if is_id(image_id, "img") else None
    if row is None:
        raise _missing(image_id)
    return row


def _missing(image_id: str) -> Problem:
    return Problem("not-found", f"There is no image {image_id[:60]!r}.")


def _etag(row: Image) -> str:
    return content_etag(row.sha256)
