"""Class folders and identity folders: ``[split/]class/[source/…/]picture``."""

from services.worker.datasets.layouts.base import (
    PLAIN_FOLDERS,
    SPLITS,
    Example,
    Files,
    Reading,
    folders_of,
    is_picture,
)
from services.worker.datasets.report import Reason, Report
from shared.dataset_card import Layout


def read(files: Files, report: Report, layout: Layout, *, guessed: bool) -> Reading:
    """Take the first folder below the split for the class of its pictures.

    Where the layout is ``guessed``, a folder that is called "images" or alike is none: pictures
    that lie in nothing else are left out.
    """
    reading = Reading(layout, "class folders" if layout == "classes" else "identity folders")
    for path in files.paths:
        folders = list(folders_of(path))
        split = SPLITS.get(folders[0].lower()) if folders else None
        names = folders[1:] if split else folders
        while names and names[0].lower() in PLAIN_FOLDERS and (guessed or len(names) > 1):
            del names[0]
        if not names:
            reason = Reason.NO_CLASS_FOLDER if is_picture(path) else Reason.NOT_A_PICTURE
            report.file(path, reason)
            reading.own.add(path)
            continue
        reading.examples.append(
            Example(path, split, label=names[0].strip()[:100], source="".join(names[1:2])[:100])
        )
    return reading
