"""What was taken in of an upload."""

from dataclasses import dataclass
from typing import Protocol

from services.worker.datasets.report import Report
from services.worker.datasets.spool import Spool
from shared.dataset_card import DatasetItem, Layout


class Say(Protocol):
    """Is told how far the work is."""

    def __call__(self, done: int, total: int, message: str = "") -> None: ...


@dataclass
class Intake:
    """Clean pictures, listed, and what became of the others.

    ``format`` is the layout's own name, such as "Pascal VOC". ``clean`` holds the pictures' bytes
    under the items' names.
    """

    layout: Layout
    format: str
    classes: tuple[str, ...]
    items: list[DatasetItem]
    clean: Spool
    report: Report
    duplicates: int = 0
    leaks: int = 0

    @property
    def left_out(self) -> list[tuple[str, str]]:
        """The paths that are no part of it, each with the reason."""
        return self.report.left_out

    def bytes_of(self, item: DatasetItem) -> bytes:
        """Return an item's clean bytes."""
        return self.clean.read(item.name)
