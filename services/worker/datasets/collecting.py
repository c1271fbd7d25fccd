"""Cleans the pictures that a layout names, and fits their boxes to them."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.worker.datasets.archives import ArchiveRejectedError
from services.worker.datasets.boxes import Frame, OtherPhotoError, Photo, fit, frame_told
from services.worker.datasets.layouts.base import Example, Reading, is_picture
from services.worker.datasets.near_duplicates import Hash, picture_hash
from services.worker.datasets.report import Change, Reason, Report
from services.worker.datasets.spool import Spool
from shared.dataset_card import DatasetItem, LabeledBox, Split
from shared.images import ImageLimits, ImageRejectedError, StoredImage, decode_rgb, sanitize

_HASHED_SIDE = 256


@dataclass
class Picture:
    """A clean picture on its way in; its bytes lie in the spool under its path."""

    example: Example
    photo: Photo
    sha256: str
    hash: Hash
    split: Split | None
    label: str | None
    boxes: tuple[LabeledBox, ...] = ()

    def item(self, name: str, group: int) -> DatasetItem:
        """List it in a card under ``name``."""
        return DatasetItem(
            name=name,
            width=self.photo.width,
            height=self.photo.height,
            sha256=self.sha256,
            orientation=self.photo.orientation,
            split=self.split or "train",
            label=self.label,
            boxes=self.boxes,
            group=group,
            source=self.example.source[:100],
            path=self.example.path[:300],
        )


def collect(
    files: Spool,
    reading: Reading,
    clean: Spool,
    report: Report,
    *,
    limits: ImageLimits,
    most_bytes: int,
    each: Callable[[], None],
) -> list[Picture]:
    """Return the pictures of a reading; their clean bytes go to ``clean``.

    ``each`` is called before every picture. What cannot be used is counted in ``report``.
    """
    pictures: list[Picture] = []
    seen: set[str] = set()
    for example in reading.examples:
        each()
        try:
            stored = sanitize(files.read(example.path), limits)
            pixels = decode_rgb(
                stored.data, stored.orientation, limits=limits, max_side=_HASHED_SIDE
            )
        except ImageRejectedError as error:
            if is_picture(example.path):
                report.file(example.path, Reason.UNREADABLE_PICTURE, str(error))
            else:
                report.file(example.path, Reason.NOT_A_PICTURE)
            continue
        if stored.sha256 in seen:
            report.file(example.path, Reason.COPY)
            continue
        seen.add(stored.sha256)
        clean.add(example.path, stored.data)
        report.pictures.update(note[:200] for note in stored.notes)
        if clean.size > most_bytes:
            raise ArchiveRejectedError(f"its pictures take more than {most_bytes} bytes as stored")
        pictures.append(
            Picture(
                example,
                _photo(stored),
                stored.sha256,
                picture_hash(pixels),
                example.split,
                example.label,
            )
        )
    used = {example.path for example in reading.examples} | reading.own
    for path in files.paths:
        if path not in used:
            report.file(path, Reason.NOT_A_PICTURE)
    return _with_boxes(pictures, report)


def _photo(stored: StoredImage) -> Photo:
    return Photo(stored.width, stored.height, stored.orientation)


def _with_boxes(pictures: Sequence[Picture], report: Report) -> list[Picture]:
    """Fit the boxes of each picture; one whose boxes are all wrong is left out."""
    told = _frame_of_most(pictures)
    kept = []
    for picture in pictures:
        annotation = picture.example.annotation
        if annotation is None:
            kept.append(picture)
            continue
        frame = frame_told(annotation, picture.photo)
        if frame is None:
            frame = told or annotation.frame
            if picture.photo.orientation != 1 and annotation.boxes:
                report.note(
                    "some photos are turned by their EXIF orientation, and their annotations do "
                    f"not tell in which frame their boxes are: taken for the {frame} one"
                )
        try:
            fitted = fit(annotation, picture.photo, frame)
        except OtherPhotoError as error:
            report.file(annotation.path, Reason.OTHER_PHOTO, str(error))
            continue
        for reason, detail in fitted.left_out:
            report.box(annotation.path, reason, detail)
        if annotation.boxes and not fitted.boxes:
            detail = next((detail for _, detail in fitted.left_out if detail), "")
            sentence = f"none of its boxes can be used: {detail}" if detail else ""
            report.file(annotation.path, Reason.NO_USABLE_BOX, sentence)
            continue
        report.changes.update(change for change in fitted.changes if change is Change.CLIPPED)
        changed = set(fitted.changes) - {Change.CLIPPED}
        report.changes.update({change: len(fitted.boxes) for change in changed})
        picture.boxes = fitted.boxes
        kept.append(picture)
    return kept


def _frame_of_most(pictures: Sequence[Picture]) -> Frame | None:
    """Return the frame that most annotations tell, of photos that are turned: one program's."""
    votes: Counter[Frame] = Counter()
    for picture in pictures:
        annotation = picture.example.annotation
        if annotation is not None:
            frame = frame_told(annotation, picture.photo)
            if frame is not None:
                votes[frame] += 1
    if not votes or votes["stored"] == votes["upright"]:
        return None
    return votes.most_common(1)[0][0]
