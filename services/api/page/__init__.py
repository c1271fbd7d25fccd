"""The console at ``/``: plain modules, served as they are; and the API's documentation."""

from importlib.resources import files
from importlib.resources.abc import Traversable

from fastapi import APIRouter, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse

from shared.problems import Problem

router = APIRouter(include_in_schema=False)

_TYPES = {".css": "text/css", ".js": "text/javascript"}
_PAGE_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src blob: data:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
}
# Swagger UI is not carried here: this page alone loads it from its public host.
_DOCS_POLICY = (
    "default-src 'none'; script-src https://cdn.jsdelivr.net 'unsafe-inline'; "
    "style-src https://cdn.jsdelivr.net 'unsafe-inline'; img-src https: data:; "
    "connect-src 'self'; frame-ancestors 'none'"
)


def _listed(folder: Traversable, prefix: str = "") -> dict[str, Traversable]:
    """Return the page's files by their path: no other can be asked for."""
    found: dict[str, Traversable] = {}
    for entry in folder.iterdir():
        if entry.is_dir():
            found |= _listed(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(tuple(_TYPES)):
            found[prefix + entry.name] = entry
    return found


_FOLDER = files(__package__)
_FILES = _listed(_FOLDER)


@router.get("/")
def page() -> Response:
    """Return the page."""
    data = _FOLDER.joinpath("index.html").read_bytes()
    return Response(data, media_type="text/html", headers=_PAGE_HEADERS)


@router.get("/page/{path:path}")
def page_file(path: str) -> Response:
    """Return one of the page's modules or style sheets."""
    file = _FILES.get(path)
    if file is None:
        raise Problem("not-found", "There is no such file.")
    media_type = _TYPES[path[path.rindex(".") :]]
    return Response(file.read_bytes(), media_type=media_type, headers=_PAGE_HEADERS)


@router.get("/docs")
def docs() -> HTMLResponse:
    """Return the interactive documentation."""
    html = get_swagger_ui_html(
        openapi_url="/openapi.json", title="Bauta API", swagger_favicon_url="data:,"
    )
    html.headers["Content-Security-Policy"] = _DOCS_POLICY
    return html
