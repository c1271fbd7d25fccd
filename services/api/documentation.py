"""Parts of the OpenAPI document that the code's types do not say."""

from typing import Any

from services.api.schemas import VERDICT, JobView, ProblemDocument, Validated
from shared.specs import JobSpec

_TITLES = {
    400: "The request is malformed",
    403: "The request comes from a page of another origin",
    401: "A valid API key is needed",
    404: "There is no such resource",
    406: "No result of the requested type",
    409: "Not in this state",
    413: "The body is too large",
    415: "The media type is not supported",
    416: "The range lies outside of the content",
    422: "The request has invalid fields",
    429: "Too much is waiting already; see Retry-After",
    503: "A server behind this one does not answer; see Retry-After",
    504: "Not finished within the wait; see Location",
    507: "There is no space left",
}
_BINARY = {"type": "string", "format": "binary"}
PROBLEM = {"$ref": f"#/components/schemas/{ProblemDocument.__name__}"}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Document the problems that a route answers with."""
    return {
        status: {
            "description": _TITLES[status],
            "content": {"application/problem+json": {"schema": PROBLEM}},
        }
        for status in statuses
    }


_TEXT = {"schema": {"type": "string"}}


def job_answers() -> dict[int | str, dict[str, Any]]:
    """Document what creating a job answers."""
    picture = {"image/*": {"schema": _BINARY}}
    location = {"description": "the job", "schema": {"type": "string"}}
    verdict = {"description": "of `encrypt`: how far the photos are protected"} | _TEXT
    retry = {"description": "seconds", "schema": {"type": "string"}}
    return {
        200: {"model": Validated, "description": "valid (`validate_only`)"},
        201: {
            "model": JobView,
            "description": "finished within the wait; with `Accept: image/*` its main picture",
            "content": picture,
            "headers": {"Location": location, VERDICT: verdict},
        },
        202: {
            "model": JobView,
            "description": "accepted",
            "headers": {"Location": location, "Retry-After": retry},
        },
        **problems(400, 401, 403, 406, 413, 415, 422, 429, 503, 504, 507),
    }


def header(name: str, description: str) -> dict[str, Any]:
    """Document an optional request header."""
    return {
        "name": name,
        "in": "header",
        "required": False,
        "description": description,
        "schema": {"type": "string"},
    }


PREFER = header("Prefer", "`wait=N`: answer when the job has ended, at the latest after N seconds")


def job_headers() -> dict[str, Any]:
    """Document the request headers that matter to creating a job."""
    key = header("Idempotency-Key", "repeating a request with the same key creates nothing new")
    return {"parameters": [PREFER, key]}


def upload_body() -> dict[str, Any]:
    """Document an image as the whole body, or as the file of a form."""
    form = {"type": "object", "properties": {"image": _BINARY}, "required": ["image"]}
    content = {
        "image/*": {"schema": _BINARY},
        "multipart/form-data": {"schema": form},
    }
    return {"requestBody": {"required": True, "content": content}}


def job_body(spec: type[JobSpec]) -> dict[str, Any]:
    """Document a job's body: its spec as JSON, or a form with the spec and image files."""
    schema = spec.model_json_schema(ref_template="#/components/schemas/{model}")
    schema.pop("$defs", None)
    fields = {name: field for name, field in schema["properties"].items() if name != "kind"}
    form = {
        "type": "object",
        "properties": {
            **{name: field for name, field in fields.items() if name != "images"},
            "spec": {"type": "string", "description": "the whole spec as JSON"},
            "image": {"type": "array", "items": _BINARY, "description": "image files"},
        },
    }
    content = {
        "application/json": {"schema": schema, "examples": _examples(spec)},
        "multipart/form-data": {"schema": form},
    }
    return {"requestBody": {"required": True, "content": content}}


def file_body(spec: type[JobSpec]) -> dict[str, Any]:
    """Document a file as the body with the spec's fields in the query, or all in a form."""
    schema = spec.model_json_schema(ref_template="#/components/schemas/{model}")
    fields = {name: field for name, field in schema["properties"].items() if name != "kind"}
    form = {
        "type": "object",
        "properties": {"file": _BINARY, **fields},
        "required": ["file", *(name for name in schema.get("required", []) if name != "kind")],
    }
    content = {
        "multipart/form-data": {"schema": form},
        "application/octet-stream": {"schema": _BINARY},
    }
    return {"requestBody": {"required": True, "content": content}}


def definitions(specs: list[type[JobSpec]]) -> dict[str, Any]:
    """Return the schemas that the bodies and problems refer to."""
    problem = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
    found: dict[str, Any] = {ProblemDocument.__name__: problem}
    for spec in specs:
        schema = spec.model_json_schema(ref_template="#/components/schemas/{model}")
        found.update(schema.get("$defs", {}))
    return found


def _examples(spec: type[JobSpec]) -> dict[str, Any]:
    return {f"example {n + 1}": {"value": value} for n, value in enumerate(spec.spec_examples)}
