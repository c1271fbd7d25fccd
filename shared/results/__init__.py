"""Job results: what a client receives, one module per kind. Imports pydantic only."""

from shared.results.base import JobResult, ModelUsed, Timing
from shared.results.catalog import RESULTS

__all__ = ["RESULTS", "JobResult", "ModelUsed", "Timing"]
