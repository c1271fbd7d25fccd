"""Problems (RFC 9457): every error that a client can meet, by its stable slug."""

from collections.abc import Mapping
from typing import Any

from shared.text import bounded, fit

TYPE_PREFIX = "/problems/"

# slug: (HTTP status, title)
CATALOG: Mapping[str, tuple[int, str]] = {
    # the request
    "malformed-request": (400, "The request is not valid HTTP"),
    "malformed-json": (400, "The body is not valid JSON"),
    "malformed-multipart": (400, "The body is not valid multipart/form-data"),
    "malformed-encoding": (400, "The body is not encoded as declared"),
    "invalid-header": (400, "A request header cannot be understood"),
    "invalid-page-token": (400, "The page token is not one that this service issued"),
    "unauthorized": (401, "A valid API key is needed"),
    "forbidden-origin": (403, "Requests from this origin are not accepted"),
    "proxy-without-keys": (403, "A service without API keys takes no requests from proxies"),
    "not-for-keys": (403, "This is not open to API keys"),
    "not-found": (404, "There is no such resource"),
    "unknown-kind": (404, "There is no such job kind"),
    "method-not-allowed": (405, "This method is not allowed here"),
    "not-acceptable": (406, "This job has no result of the requested media type"),
    "request-timeout": (408, "The request did not arrive in time"),
    "image-in-use": (409, "A live job still uses this image"),
    "dataset-in-use": (409, "A live job still reads this data set"),
    "model-in-use": (409, "A live job still reads this model"),
    "model-is-shipped": (409, "A model that ships with the service stays"),
    "model-exists": (409, "There is a model of this name already"),
    "job-finished": (409, "The job has already finished"),
    "job-not-finished": (409, "The job has not ended yet"),
    "model-unavailable": (409, "The model's weights are not here"),
    "precondition-failed": (412, "The resource has changed since the requested version"),
    "content-too-large": (413, "The body is larger than this service takes"),
    "image-too-large": (413, "The image has more bytes than this service takes"),
    "uri-too-long": (414, "Path and query are longer than this service takes"),
    "unsupported-media-type": (415, "The body's media type is not supported here"),
    "unsupported-encoding": (415, "The body's content encoding is not supported here"),
    "range-not-satisfiable": (416, "The range lies outside of the content"),
    "invalid-request": (422, "The request has invalid fields"),
    "empty-image": (422, "The image has no bytes"),
    "unsupported-image-type": (415, "The file is not an image of a supported type"),
    "image-too-many-pixels": (422, "The image has more pixels than this service takes"),
    "invalid-archive": (422, "The archive cannot be taken in"),
    "invalid-model": (422, "The model cannot be taken in"),
    "corrupt-image": (422, "The image is damaged or truncated"),
    "unknown-image": (422, "An image that the job names does not exist"),
    "unknown-model": (422, "The model that the job names does not exist"),
    "unknown-dataset": (422, "The data set that the job names does not exist"),
    "idempotency-key-reused": (422, "The idempotency key belongs to another request"),
    "headers-too-large": (431, "The headers are larger than this service takes"),
    "too-many-wrong-keys": (429, "Too many wrong API keys"),
    "queue-full": (429, "The queue is full"),
    "too-many-waiting": (429, "Too many requests are waiting already"),
    "internal-error": (500, "Something went wrong here"),
    "too-many-connections": (503, "Too many connections are open"),
    "not-ready": (503, "The service is not ready"),
    "no-memory": (503, "The service has no memory left for this now"),
    "database-unavailable": (503, "The database does not answer"),
    "object-store-unavailable": (503, "The object store does not answer"),
    "wait-timeout": (504, "The job did not finish within the wait"),
    "storage-full": (507, "There is no space left to store this"),
    # what a job can die of
    "worker-lost": (500, "The job's worker died, repeatedly"),
    "deadline-exceeded": (504, "The job ran past its deadline"),
    "job-failed": (500, "The job failed"),
    "too-much-memory": (422, "The job would need more memory than this service gives one"),
    "out-of-memory": (500, "The job needed more memory than its worker may take"),
    "invalid-input": (422, "The job's input cannot be worked on"),
    "target-not-allowed": (403, "This service does not move faces towards such a target"),
    "not-protected": (422, "The photo was not protected as far as the job requires"),
}

# Problems are listed by the hundred.
MOST_DETAIL = 1000


class Problem(Exception):
    """A problem that reaches the client, as an HTTP answer or as the end of a job.

    ``slug`` is a key of ``CATALOG``; ``detail`` a sentence for this occurrence; ``extensions``
    further members of the problem document (``errors``, ``limit`` …).
    """

    def __init__(self, slug: str, detail: str, **extensions: Any) -> None:
        if len(detail) > MOST_DETAIL:  # it may quote what somebody sent
            detail = f"{detail[:MOST_DETAIL]}… ({len(detail)} characters)"
        super().__init__(detail)
        self.slug = slug
        self.detail = detail.encode("utf-8", "replace").decode()  # no half characters: it is JSON
        self.extensions = extensions
        self.status, self.title = CATALOG[slug]
        self.headers: dict[str, str] = {}

    def with_headers(self, **headers: str) -> "Problem":
        """Add HTTP headers (``Retry_After`` becomes ``Retry-After``)."""
        self.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
        return self

    def document(self) -> dict[str, Any]:
        """Return the ``application/problem+json`` document.

        Whatever it quotes is text that can be stored and sent, and is cut with its length said.
        """
        return {
            "type": TYPE_PREFIX + self.slug,
            "title": self.title,
            "status": self.status,
            **bounded(fit({"detail": self.detail, **self.extensions})),
        }
