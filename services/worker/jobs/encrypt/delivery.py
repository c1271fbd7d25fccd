"""Delivers a cloaked photo: written, read again as a stranger would, verified and drawn."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.worker.faces.alignment import Alignment
from services.worker.faces.cloaking.apply import apply_cloaks, region_of
from services.worker.faces.cloaking.optimize import Cloak
from services.worker.faces.cloaking.photo_file import PhotoFile, open_photo
from services.worker.faces.crops import Pixels
from services.worker.faces.face import Corners
from services.worker.jobs.encrypt.pictures import amplified, report_card
from services.worker.jobs.encrypt.plan import Setting
from services.worker.jobs.encrypt.verify import (
    Detect,
    Verified,
    is_missable,
    least,
    verify_photo,
    with_missable,
)
from services.worker.jobs.kit.faces import as_box
from services.worker.jobs.kit.files import File
from services.worker.stopping import CancelCheck
from shared.images import ImageLimits, sanitize
from shared.results.encrypt import EncryptedFace, EncryptedImage
from shared.specs.encrypt import EncryptSpec, PhotosTarget

_SUFFIXES = {"image/jpeg": "jpg", "image/png": "png", "image/webp": "webp"}


@dataclass(frozen=True)
class Chosen:
    """A face to cloak: where it is, and how its frame lies."""

    box: Corners
    score: float | None
    alignment: Alignment


def deliver(
    setting: Setting,
    index: int,
    file: PhotoFile,
    chosen: Sequence[Chosen],
    cloaks: Sequence[Cloak],
    *,
    smallest: float | None,
    detect: Detect,
    max_pixels: int,
    check: CancelCheck,
) -> tuple[EncryptedImage, list[File]]:
    """Put cloaks into a photo, write it, and verify the bytes that were written.

    ``smallest`` is the size in pixels of the smallest face that was searched; ``None``: none was.
    Returns the photo's part of the result, and its files.
    """
    spec = setting.spec
    alignments = [face.alignment for face in chosen]
    applied = apply_cloaks(
        file.pixels,
        alignments,
        [cloak.change for cloak in cloaks],
        eps=setting.config.eps,
    )
    data = file.write(applied.photo)
    delivered = reopened(data, max_pixels)
    verified = verify_photo(
        clean=file.pixels,
        delivered=delivered,
        boxes=[face.box for face in chosen],
        alignments=alignments,
        surrogates=setting.roles.surrogates,
        judges=setting.roles.judges,
        others=setting.others,
        targets=setting.targets,
        people=setting.people,
        detect=detect,
        check=check,
    )
    faces = tuple(
        _face(face, cloak, result, file.pixels, applied.photo)
        for face, cloak, result in zip(chosen, cloaks, verified, strict=True)
    )
    verdict = with_missable(least([face.verdict for face in faces]), smallest)
    name = f"{verdict}-{index}.{_SUFFIXES[file.media_type]}"
    height, width = file.pixels.shape[:2]
    # Moved towards people on other photos, it is made of those, too.
    made_of = None if isinstance(spec.target, PhotosTarget) else index
    report = report_card(file.pixels, delivered, alignments, faces)
    difference = amplified(file.pixels, delivered)
    files = [
        File(name, data, file.media_type, image=made_of),
        File(f"difference-{index}.png", difference, image=made_of),
        File(f"report-{index}.png", report, image=made_of),
    ]
    image = EncryptedImage(
        image=spec.images[index],
        width=width,
        height=height,
        media_type=file.media_type,
        lossless=file.lossless,
        verdict=verdict,
        faces=faces,
        photo=files[0].name,
        difference=files[1].name,
        report=files[2].name,
        smallest_face_searched=_rounded(smallest),
        notes=(*file.notes, *_missable_note(smallest)),
    )
    return image, files


def _rounded(smallest: float | None) -> float | None:
    return None if smallest is None else round(smallest, 1)


def _missable_note(smallest: float | None) -> tuple[str, ...]:
    if smallest is None or not is_missable(smallest):
        return ()
    return (
        f"the photo was searched reduced: faces under about {smallest:.0f} px were not found and "
        "are not changed",
    )


def reopened(data: bytes, max_pixels: int) -> Pixels:
    """Read the delivered photo from its bytes alone, as a stranger would."""
    limits = ImageLimits(max_bytes=2**31, max_pixels=max_pixels)
    stored = sanitize(data, limits)
    return open_photo(stored.data, stored.orientation).pixels


def untouched(
    spec: EncryptSpec, index: int, file: PhotoFile, *, smallest: float | None
) -> tuple[EncryptedImage, list[File]]:
    """Deliver a photo without a face: its metadata are gone, and nothing else happened."""
    height, width = file.pixels.shape[:2]
    data = file.write(file.pixels)
    name = f"no-face-{index}.{_SUFFIXES[file.media_type]}"
    image = EncryptedImage(
        image=spec.images[index],
        width=width,
        height=height,
        media_type=file.media_type,
        lossless=file.lossless,
        verdict="no-face",
        faces=(),
        photo=name,
        difference=None,
        report=None,
        smallest_face_searched=_rounded(smallest),
        notes=(
            *file.notes,
            *_missable_note(smallest),
            "no face was found: only the metadata were removed",
        ),
    )
    return image, [File(name, data, file.media_type, image=index)]


def _face(
    chosen: Chosen, cloak: Cloak, verified: Verified, clean: Pixels, cloaked: Pixels
) -> EncryptedFace:
    height, width = clean.shape[:2]
    x0, y0, x1, y1 = region_of(chosen.alignment, height, width)
    before = clean[y0:y1, x0:x1].astype(np.int16)
    largest = int(np.abs(before - cloaked[y0:y1, x0:x1]).max()) if before.size else 0
    return EncryptedFace(
        box=as_box(chosen.box),
        detection_score=None if chosen.score is None else round(chosen.score, 4),
        region=as_box((x0, y0, max(x1, x0 + 1), max(y1, y0 + 1))),
        scale=round(chosen.alignment.scale, 4),
        verdict=verified.verdict,
        found_again=verified.found_again,
        similarities=verified.similarities,
        steps=cloak.steps,
        max_change=largest,
        max_change_delivered=verified.quality.largest,
        psnr=None if verified.quality.psnr is None else round(verified.quality.psnr, 2),
        ssim=round(verified.quality.ssim, 4),
    )
