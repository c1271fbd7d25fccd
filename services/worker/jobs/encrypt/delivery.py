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
from services.worker.jobs.encrypt.verify import Verified, least, verify_photo
from services.worker.jobs.kit.faces import as_box
from services.worker.runtime.context import JobContext
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
    context: JobContext,
    setting: Setting,
    index: int,
    file: PhotoFile,
    chosen: Sequence[Chosen],
    cloaks: Sequence[Cloak],
) -> EncryptedImage:
    """Put cloaks into a photo, write it, and verify the bytes that were written."""
    spec = setting.spec
    alignments = [face.alignment for face in chosen]
    applied = apply_cloaks(
        file.pixels,
        alignments,
        [cloak.change for cloak in cloaks],
        eps=setting.config.eps,
    )
    data = file.write(applied.photo)
    context.progress(100 * index + 90, 100 * len(spec.images), f"verifying photo {index + 1}")
    delivered = reopened(context, data)
    verified = verify_photo(
        context,
        clean=file.pixels,
        delivered=delivered,
        boxes=[face.box for face in chosen],
        alignments=alignments,
        surrogates=setting.roles.surrogates,
        judges=setting.roles.judges,
        others=setting.others,
        targets=setting.targets,
        people=setting.people,
    )
    faces = tuple(
        _face(face, cloak, result, file.pixels, applied.photo)
        for face, cloak, result in zip(chosen, cloaks, verified, strict=True)
    )
    verdict = least([face.verdict for face in faces])
    name = f"{verdict}-{index}.{_SUFFIXES[file.media_type]}"
    height, width = file.pixels.shape[:2]
    # Moved towards people on other photos, it is made of those, too.
    made_of = None if isinstance(spec.target, PhotosTarget) else index
    return EncryptedImage(
        image=spec.images[index],
        width=width,
        height=height,
        media_type=file.media_type,
        lossless=file.lossless,
        verdict=verdict,
        faces=faces,
        photo=context.artifacts.put(name, data, file.media_type, image=made_of),
        difference=context.artifacts.put(
            f"difference-{index}.png",
            amplified(file.pixels, delivered),
            "image/png",
            image=made_of,
        ),
        report=context.artifacts.put(
            f"report-{index}.png",
            report_card(file.pixels, delivered, alignments, faces),
            "image/png",
            image=made_of,
        ),
        notes=(*context.inputs.notes(index), *file.notes),
    )


def reopened(context: JobContext, data: bytes) -> Pixels:
    """Read what is delivered as a stranger would: from its bytes alone."""
    limits = ImageLimits(max_bytes=2**31, max_pixels=context.settings.max_image_pixels)
    stored = sanitize(data, limits)
    return open_photo(stored.data, stored.orientation).pixels


def untouched(
    context: JobContext, spec: EncryptSpec, index: int, file: PhotoFile
) -> EncryptedImage:
    """Deliver a photo without a face: its metadata are gone, and nothing else happened."""
    height, width = file.pixels.shape[:2]
    data = file.write(file.pixels)
    name = f"no-face-{index}.{_SUFFIXES[file.media_type]}"
    return EncryptedImage(
        image=spec.images[index],
        width=width,
        height=height,
        media_type=file.media_type,
        lossless=file.lossless,
        verdict="no-face",
        faces=(),
        photo=context.artifacts.put(name, data, file.media_type, image=index),
        difference=None,
        report=None,
        notes=(
            *context.inputs.notes(index),
            *file.notes,
            "no face was found: only the metadata were removed",
        ),
    )


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
