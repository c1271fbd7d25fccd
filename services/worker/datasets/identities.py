"""Photos of people in folders, one a person, as aligned faces."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.worker.faces.alignment import FRAME, align, cut_frame
from services.worker.faces.crops import Pixels
from services.worker.faces.face import Face

Detect = Callable[[Pixels], list[Face]]
SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class Identities:
    """Aligned faces with the person that each shows.

    ``frames`` is uint8 ``(N, 160, 160, 3)``; ``people`` holds numbers ``(N,)`` into ``names``.
    """

    frames: NDArray[np.uint8]
    people: NDArray[np.int64]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.people)

    def of(self, chosen: Sequence[int] | NDArray[np.integer]) -> "Identities":
        """Return the faces of some people only; they keep their order and are numbered anew."""
        wanted = sorted(int(person) for person in chosen)
        kept = np.isin(self.people, wanted)
        numbers = np.searchsorted(wanted, self.people[kept])
        return Identities(self.frames[kept], numbers, tuple(self.names[one] for one in wanted))

    @property
    def counts(self) -> NDArray[np.int64]:
        """Photos of each person."""
        return np.bincount(self.people, minlength=len(self.names))


def photos_of(root: Path) -> Iterator[tuple[str, Path]]:
    """Return ``(person, photo)`` of ``<root>/<person>/*``, in the order of their names."""
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() in SUFFIXES:
                yield folder.name, path


def aligned_people(
    root: Path, detect: Detect, *, fewest: int = 1, most: int | None = None
) -> Identities:
    """Align the main face of every photo; a photo without a face is left out.

    People with ``fewest`` photos or more are taken, and the first ``most`` photos of each. A person
    is labeled by the name of the folder, never by a file's place in a list.
    """
    rows: dict[str, list[Path]] = {}
    for name, path in photos_of(root):
        rows.setdefault(name, []).append(path)
    found = [
        (name, frame)
        for name, paths in rows.items()
        if len(paths) >= fewest
        for path in paths[:most]
        if (frame := aligned_face(read_photo(path), detect)) is not None
    ]
    names = sorted({name for name, _ in found})
    number = {name: index for index, name in enumerate(names)}
    frames = np.stack([frame for _, frame in found]) if found else np.empty((0, FRAME, FRAME, 3))
    people = np.array([number[name] for name, _ in found], dtype=np.int64)
    return Identities(frames.astype(np.uint8), people, tuple(names))


def aligned_face(photo: Pixels, detect: Detect) -> Pixels | None:
    """Return the frame of the face nearest to the middle of a portrait, if there is one."""
    face = middle_face(photo, detect)
    return None if face is None else cut_frame(photo, align(face.landmarks))


def middle_face(photo: Pixels, detect: Detect) -> Face | None:
    """Return the face nearest to the middle of a portrait, if there is one."""
    height, width = photo.shape[:2]

    def distance(face: Face) -> float:
        x0, y0, x1, y1 = face.box
        # Of two faces, one of them beside the other, the portrait is of the one in the middle.
        return float(np.hypot((x0 + x1 - width) / width, (y0 + y1 - height) / height))

    return min(detect(photo), key=distance, default=None)


def read_photo(path: Path) -> Pixels:
    """Read a photo as uint8 RGB ``(H, W, 3)``."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))
