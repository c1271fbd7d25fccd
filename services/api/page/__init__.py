"""The page at ``/`` for people with a browser, and the API's documentation for reading."""

from importlib.resources import files

from fastapi import APIRouter, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse

from shared.problems import Problem

router = APIRouter(include_in_schema=False)

_TYPES = {"page.css": "text/css", "page.js": "text/javascript"}
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src blob: data:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
# Swagger UI is not carried here: this page alone loads it from its public host.
_DOCS_POLICY = (
    "default-src 'none'; script-src https://cdn.jsdelivr.net 'unsafe-inline'; "
    "style-src https://cdn.jsdelivr.net 'unsafe-inline'; img-src https: data:; "
    "connect-src 'self'; frame-ancestors 'none'"
)


@router.get("/")
def page() -> Response:
    """Return the page."""
    return _file("index.html", "text/html")


@router.get("/page/{name}")
def page_file(name: str) -> Response:
    """Return the page's script or style."""
    if name not in _TYPES:
        raise Problem("not-found", "There is no such file.")
    return _file(name, _TYPES[name])


@router.get("/docs")
def docs() -> HTMLResponse:
    """Return the interactive documentation."""
    html = get_swagger_ui_html(
        openapi_url="/openapi.json", title="Bauta API", swagger_favicon_url="data:,"
    )
    html.headers["Content-Security-Policy"] = _DOCS_POLICY
    return html


def _file(name: str, media_type: str) -> Response:
    data = files(__package__).joinpath(name).read_bytes()
    headers = {"Cache-Control": "no-cache", "Content-Security-Policy": _PAGE_POLICY}
    return Response(data, media_type=media_type, headers=headers)
