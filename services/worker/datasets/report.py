"""What became of an archive's files and boxes: how many were left out, and why."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

MOST_EXAMPLES = 3
MOST_NOTES = 10


class Reason(StrEnum):
    """Why a file or a box is no part of the data set."""

    NOT_A_PICTURE = "not-a-picture"
    UNREADABLE_PICTURE = "unreadable-picture"
    COPY = "copy"
    LEAK = "leak"
    NO_CLASS_FOLDER = "no-class-folder"
    NO_ANNOTATION = "no-annotation"
    NO_PHOTO = "no-photo"
    AMBIGUOUS_PHOTO = "ambiguous-photo"
    UNREADABLE_ANNOTATION = "unreadable-annotation"
    OTHER_PHOTO = "other-photo"
    NO_USABLE_BOX = "no-usable-box"
    OUTSIDE = "box-outside"
    NO_AREA = "box-without-area"
    NOT_NUMBERS = "box-not-numbers"
    NO_BOX = "object-without-box"
    NO_LABEL = "object-without-class"
    UNKNOWN_CLASS = "unknown-class"
    CROWD = "crowd"
    TOO_MANY = "too-many-boxes"


SENTENCES = {
    Reason.NOT_A_PICTURE: "it is no picture",
    Reason.UNREADABLE_PICTURE: "it cannot be decoded",
    Reason.COPY: "it repeats another file",
    Reason.LEAK: "it looks like a picture of a later split",
    Reason.NO_CLASS_FOLDER: "it lies in no class folder",
    Reason.NO_ANNOTATION: "there is no annotation of it",
    Reason.NO_PHOTO: "there is no photo for it",
    Reason.AMBIGUOUS_PHOTO: "several photos have the name that it gives",
    Reason.UNREADABLE_ANNOTATION: "its annotation cannot be read",
    Reason.OTHER_PHOTO: "it was annotated on a photo of other proportions",
    Reason.NO_USABLE_BOX: "none of its boxes can be used",
    Reason.OUTSIDE: "a box lies outside of the photo",
    Reason.NO_AREA: "a box has no area",
    Reason.NOT_NUMBERS: "a box is not four numbers",
    Reason.NO_BOX: "an object has no box",
    Reason.NO_LABEL: "an object has no class",
    Reason.UNKNOWN_CLASS: "a box has a class that is not listed",
    Reason.CROWD: "a box stands for a crowd",
    Reason.TOO_MANY: "a photo has too many boxes",
}


# Half characters, which no JSON holds, and controls, of which PostgreSQL refuses the zero byte.
_UNSTORABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def storable(text: str) -> str:
    """Return a stranger's text as it can be stored and shown: composed, without controls."""
    return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", unicodedata.normalize("NFC", text))


class Change(StrEnum):
    """What was done to boxes to make them fit their photo."""

    TURNED = "turned"
    SCALED = "scaled"
    CLIPPED = "clipped"


@dataclass(frozen=True)
class Tally:
    """How many files and boxes were left out for one reason, with examples."""

    reason: Reason
    sentence: str
    files: int
    boxes: int
    examples: tuple[str, ...]


@dataclass
class Report:
    """Counts what was left out, changed and ignored."""

    left_out: list[tuple[str, str]] = field(default_factory=list)
    ignored: int = 0
    notes: list[str] = field(default_factory=list)
    changes: Counter[Change] = field(default_factory=Counter)
    pictures: Counter[str] = field(default_factory=Counter)
    _files: Counter[Reason] = field(default_factory=Counter)
    _boxes: Counter[Reason] = field(default_factory=Counter)
    _examples: dict[Reason, list[str]] = field(default_factory=dict)

    def file(self, path: str, reason: Reason, detail: str = "") -> None:
        """Count a file that is left out, and list it."""
        self.count(path, reason, detail)
        self.left_out.append((storable(path[:300]), storable(detail) or SENTENCES[reason]))

    def count(self, path: str, reason: Reason, detail: str = "") -> None:
        """Count a file that is left out."""
        self._files[reason] += 1
        self._example(path, reason, detail)

    def box(self, path: str, reason: Reason, detail: str = "", *, count: int = 1) -> None:
        """Count boxes of the annotation ``path`` that are left out."""
        self._boxes[reason] += count
        self._example(path, reason, detail)

    def note(self, sentence: str) -> None:
        """Add something that the uploader should know; once each."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def files(self, reason: Reason) -> int:
        """Return how many files were left out for a reason."""
        return self._files[reason]

    def told(self) -> list[str]:
        """Return the notes, with how many pictures were changed on the way, and how."""
        changed = self.pictures.most_common(MOST_NOTES)
        return self.notes + [f"of {count} pictures: {storable(note)}" for note, count in changed]

    @property
    def boxes_left_out(self) -> int:
        """How many boxes were left out, for any reason."""
        return self._boxes.total()

    def tallies(self) -> Sequence[Tally]:
        """Return what was left out by reason, the most frequent first."""
        counts = self._files + self._boxes
        return [
            Tally(
                reason,
                SENTENCES[reason],
                self._files[reason],
                self._boxes[reason],
                tuple(self._examples[reason]),
            )
            for reason, _ in counts.most_common()
        ]

    def _example(self, path: str, reason: Reason, detail: str) -> None:
        examples = self._examples.setdefault(reason, [])
        if len(examples) < MOST_EXAMPLES:
            told = f"{path[:100]}: {detail[:200]}" if detail else path[:100]
            examples.append(storable(told))
