"""Portraits of known people, cloaked as the service does it and looked at as recognizers do."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from services.worker.faces.alignment import MARGIN, Alignment, align, cut_frame
from services.worker.faces.cloaking.apply import apply_cloaks, region_of
from services.worker.faces.cloaking.color import color_difference
from services.worker.faces.cloaking.config import CloakConfig
from services.worker.faces.cloaking.optimize import Subject, cloak_faces
from services.worker.faces.cloaking.photo_file import PhotoFile, open_photo
from services.worker.faces.cloaking.verify import Seen, find_again, quality, reduced, see
from services.worker.faces.crops import Pixels
from services.worker.faces.detection import FaceDetector
from services.worker.faces.face import Face
from services.worker.models.recognizers import Recognizer
from shared.images import ImageLimits, sanitize

FACES_AT_ONCE = 16
VARIANTS = ("clean", "delivered", "jpeg", "half", "blur")  # the order of ``verify.see``

Box = tuple[float, float, float, float]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Portrait:
    """A photo file with the face in its middle."""

    person: str
    file: PhotoFile
    box: Box
    alignment: Alignment

    @property
    def frame(self) -> Pixels:
        """The aligned face, uint8 ``(160, 160, 3)``."""
        return cut_frame(self.file.pixels, self.alignment)


@dataclass(frozen=True)
class Changed:
    """Portraits after a change: what recognizers see, and how much it shows.

    ``frames`` is uint8 ``(N, 5, 160, 160, 3)``, in the order of ``VARIANTS``.
    """

    frames: NDArray[np.uint8]
    ssim: NDArray[np.float64]
    psnr: NDArray[np.float64]
    color: NDArray[np.float64]  # CIEDE2000 of each face: median, mean, 99th percentile, (N, 3)
    seconds: float
    found_again: int

    def first(self, count: int) -> "Changed":
        """Return the first few portraits' part; the time stays that of all."""
        return replace(
            self,
            frames=self.frames[:count],
            ssim=self.ssim[:count],
            psnr=self.psnr[:count],
            color=self.color[:count],
        )


def joined(parts: Sequence[Changed]) -> Changed:
    """Return parts of the portraits, changed one after the other, as one."""
    return Changed(
        np.concatenate([one.frames for one in parts]),
        np.concatenate([one.ssim for one in parts]),
        np.concatenate([one.psnr for one in parts]),
        np.concatenate([one.color for one in parts]),
        sum(one.seconds for one in parts),
        sum(one.found_again for one in parts),
    )


def unchanged(portraits: Sequence[Portrait]) -> Changed:
    """Return portraits as they are, to set beside changed ones."""
    frames = np.stack([one.frame for one in portraits])
    count = len(portraits)
    return Changed(
        np.repeat(frames[:, None], len(VARIANTS), 1),
        np.ones(count),
        np.full(count, np.inf),
        np.zeros((count, 3)),
        0.0,
        count,
    )


def read_portrait(path: Path, person: str, detector: FaceDetector) -> Portrait | None:
    """Read a photo as the service stores it; ``None``: no face was found."""
    stored = sanitize(path.read_bytes(), ImageLimits())
    file = open_photo(stored.data, stored.orientation)
    faces = detector.detect(file.pixels)
    if not faces:
        return None
    height, width = file.pixels.shape[:2]

    def distance(face: Face) -> float:
        x0, y0, x1, y1 = face.box
        return float(np.hypot((x0 + x1 - width) / width, (y0 + y1 - height) / height))

    face = min(faces, key=distance)
    return Portrait(person, file, face.box, align(face.landmarks))


def read_people(
    root: Path, detector: FaceDetector, *, photos: int, people: int | None = None
) -> list[list[Portrait]]:
    """Read the first photos, by name, of each person who has enough of them with a face."""
    rows = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        row: list[Portrait] = []
        for path in sorted(folder.iterdir()):
            portrait = read_portrait(path, folder.name, detector)
            if portrait is not None:
                row.append(portrait)
            if len(row) == photos:
                rows.append(row)
                break
        if people is not None and len(rows) == people:
            break
    return rows


def cloaked(
    portraits: Sequence[Portrait],
    recognizers: Sequence[Recognizer],
    config: CloakConfig,
    detector: FaceDetector,
    *,
    seed: int,
    say: Say,
) -> Changed:
    """Cloak portraits through the whole pipeline, each written as a file and read again."""
    began = time.perf_counter()
    changes = []
    for start in range(0, len(portraits), FACES_AT_ONCE):
        part = portraits[start : start + FACES_AT_ONCE]
        subjects = [
            Subject(
                torch.from_numpy(one.frame).permute(2, 0, 1).float() / 255,
                one.alignment.scale,
                seed=seed + start + number,
                gray=one.file.gray,
            )
            for number, one in enumerate(part)
        ]
        changes += cloak_faces(subjects, recognizers, config)
        say(f"    {min(start + FACES_AT_ONCE, len(portraits))} of {len(portraits)} faces")
    seconds = time.perf_counter() - began
    photos = [
        apply_cloaks(one.file.pixels, [one.alignment], [cloak.change], eps=config.eps).photo
        for one, cloak in zip(portraits, changes, strict=True)
    ]
    return looked_at(portraits, photos, detector, seconds=seconds)


def looked_at(
    portraits: Sequence[Portrait],
    photos: Sequence[Pixels],
    detector: FaceDetector,
    *,
    seconds: float = 0.0,
) -> Changed:
    """Write changed photos as files, read them again, and cut the faces found in them."""
    seen: list[Seen] = []
    ssims, psnrs, colors = [], [], []
    for one, photo in zip(portraits, photos, strict=True):
        stored = sanitize(one.file.write(photo), ImageLimits())
        delivered = open_photo(stored.data, stored.orientation).pixels
        found = find_again(delivered, [one.box], detector.detect)
        seen += see(one.file.pixels, delivered, [one.alignment], found)
        height, width = delivered.shape[:2]
        region = region_of(one.alignment, height, width, margin=MARGIN)
        shown = quality(one.file.pixels, delivered, region)
        ssims.append(shown.ssim)
        psnrs.append(np.inf if shown.psnr is None else shown.psnr)
        x0, y0, x1, y1 = region
        apart = color_difference(*reduced(one.file.pixels[y0:y1, x0:x1], delivered[y0:y1, x0:x1]))
        colors.append((np.median(apart), apart.mean(), np.percentile(apart, 99)))
    frames = torch.stack([one.frames for one in seen]).permute(0, 1, 3, 4, 2) * 255
    return Changed(
        frames.round().to(torch.uint8).numpy(),
        np.array(ssims),
        np.array(psnrs),
        np.array(colors, dtype=np.float64).reshape(-1, 3),
        seconds,
        sum(one.found_again for one in seen),
    )


def blurred(portraits: Sequence[Portrait], sigma: float) -> list[Pixels]:
    """Blur the faces, sigma in pixels of the 160 px frame: what people do without a cloak."""
    photos = []
    for one in portraits:
        soft = cv2.GaussianBlur(one.file.pixels, (0, 0), sigma * one.alignment.scale)
        photos.append(_within_face(one, np.asarray(soft, dtype=np.uint8)))
    return photos


def pixelated(portraits: Sequence[Portrait], cell: float) -> list[Pixels]:
    """Make the faces of squares, ``cell`` pixels of the 160 px frame a side."""
    photos = []
    for one in portraits:
        height, width = one.file.pixels.shape[:2]
        side = max(1, round(cell * one.alignment.scale))
        small = cv2.resize(
            one.file.pixels,
            (max(1, width // side), max(1, height // side)),
            interpolation=cv2.INTER_AREA,
        )
        coarse = cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST)
        photos.append(_within_face(one, np.asarray(coarse, dtype=np.uint8)))
    return photos


def _within_face(portrait: Portrait, changed: Pixels) -> Pixels:
    photo = portrait.file.pixels.copy()
    height, width = photo.shape[:2]
    x0, y0, x1, y1 = region_of(portrait.alignment, height, width, margin=MARGIN)
    part = changed[y0:y1, x0:x1]
    if portrait.file.gray:
        part = part[..., :1].repeat(3, 2)
    photo[y0:y1, x0:x1] = part
    return photo
