"""Job results: what a client gets, one module a kind. Imports pydantic only."""

from shared.results.base import JobResult, ModelUsed, Timing
from shared.results.catalog import RESULTS

__all__ = ["RESULTS", "JobResult", "ModelUsed", "Timing"]
