"""Hostile archives: their files one by one, within limits, or an error that says what is wrong."""

from services.worker.datasets.archives.limits import (
    ArchiveLimits,
    ArchiveRejectedError,
    cut,
    shown,
)
from services.worker.datasets.archives.reading import Archive, ArchivedFile, archive_type

__all__ = [
    "Archive",
    "ArchiveLimits",
    "ArchiveRejectedError",
    "ArchivedFile",
    "archive_type",
    "cut",
    "shown",
]
