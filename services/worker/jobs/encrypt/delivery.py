"""Delivers a cloaked photo: written, read again as a stranger would, verified and drawn."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from services.worker.faces.cloaking.apply import apply_cloaks, region_of
from services.worker.faces.cloaking.obscure import CELLS, obscure
from services.worker.faces.cloaking.optimize import Cloak
from services.worker.faces.cloaking.photo_file import PhotoFile, open_photo
from services.worker.faces.crops import Pixels
from services.worker.jobs.encrypt.chosen import Chosen
from services.worker.jobs.encrypt.pictures import amplified, report_card
from services.worker.jobs.encrypt.plan import Setting
from services.worker.jobs.encrypt.verdict import is_missable, least, with_missable
from services.worker.jobs.encrypt.verify import Detect, Verified, verify_photo
from services.worker.jobs.kit.faces import as_box
from services.worker.jobs.kit.files import File
from services.worker.stopping import CancelCheck
from shared.images import ImageLimits, sanitize
from shared.results.encrypt import EncryptedFace, EncryptedImage, LeftFace
from shared.specs.encrypt import EncryptSpec, PhotosTarget

_SUFFIXES = {"image/jpeg": "jpg", "image/png": "png", "image/webp": "webp"}


@dataclass(frozen=True)
class Altered:
    """A photo with its faces changed, uint8 ``(H, W, 3)``, and what it took."""

    photo: Pixels
    steps: tuple[int, ...]  # of the search, a face
    left: tuple[LeftFace, ...] = ()
    notes: tuple[str, ...] = ()


def with_cloaks(
    setting: Setting, file: PhotoFile, chosen: Sequence[Chosen], cloaks: Sequence[Cloak]
) -> Altered:
    """Put cloaks into a photo."""
    applied = apply_cloaks(
        file.pixels,
        [face.alignment for face in chosen],
        [cloak.change for cloak in cloaks],
        eps=setting.config.eps,
    )
    return Altered(applied.photo, tuple(cloak.steps for cloak in cloaks))


def hidden(
    setting: Setting,
    file: PhotoFile,
    chosen: Sequence[Chosen],
    *,
    detect: Detect,
    max_pixels: int,
    check: CancelCheck,
    progress: Callable[[float, str], None],
) -> Altered:
    """Hide faces as little as it takes: until no recognizer of the job matches one of them.

    ``progress`` receives the share of strengths tried, and what was tried.
    """
    mode = setting.spec.mode
    alignments = [face.alignment for face in chosen]
    strengths = (1,) if mode == "box" else CELLS
    photo, cells = file.pixels, strengths[0]
    for number, cells in enumerate(strengths):
        photo = obscure(file.pixels, alignments, mode, cells)  # type: ignore[arg-type]
        delivered = reopened(file.write(photo), max_pixels)
        progress((number + 1) / len(strengths), f"{mode}: {cells} cells a face")
        verified = _verified(setting, file, chosen, delivered, None, detect=detect, check=check)
        if all(one.verdict == "protected" for one in verified):
            break
    note = f"{mode} with {cells} cells across the aligned face" if mode != "box" else "covered"
    return Altered(photo, (0,) * len(chosen), notes=(note,))


def _verified(
    setting: Setting,
    file: PhotoFile,
    chosen: Sequence[Chosen],
    delivered: Pixels,
    steps: Sequence[int] | None,
    *,
    detect: Detect,
    check: CancelCheck,
) -> list[Verified]:
    return verify_photo(
        clean=file.pixels,
        delivered=delivered,
        boxes=[face.box for face in chosen],
        alignments=[face.alignment for face in chosen],
        surrogates=setting.roles.surrogates,
        judges=setting.roles.judges,
        steps=steps if setting.spec.mode == "cloak" else None,
        others=setting.others,
        targets=setting.targets,
        people=setting.people,
        detect=detect,
        check=check,
    )


def deliver(
    setting: Setting,
    index: int,
    file: PhotoFile,
    chosen: Sequence[Chosen],
    altered: Altered,
    *,
    smallest: float | None,
    detect: Detect,
    max_pixels: int,
    check: CancelCheck,
) -> tuple[EncryptedImage, list[File]]:
    """Write a changed photo, and verify the bytes that were written.

    ``smallest`` is the size in pixels of the smallest face that was searched; ``None``: none was.
    Returns the photo's part of the result, and its files.
    """
    spec = setting.spec
    alignments = [face.alignment for face in chosen]
    data = file.write(altered.photo)
    delivered = reopened(data, max_pixels)
    verified = _verified(
        setting, file, chosen, delivered, altered.steps, detect=detect, check=check
    )
    faces = tuple(
        _face(face, steps, result, file.pixels, altered.photo)
        for face, steps, result in zip(chosen, altered.steps, verified, strict=True)
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
        left=altered.left,
        notes=(*file.notes, *altered.notes, *_missable_note(smallest)),
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
    spec: EncryptSpec,
    index: int,
    file: PhotoFile,
    left: tuple[LeftFace, ...] = (),
    notes: tuple[str, ...] = (),
    *,
    smallest: float | None,
) -> tuple[EncryptedImage, list[File]]:
    """Deliver a photo without a face to change: only its metadata are gone."""
    height, width = file.pixels.shape[:2]
    data = file.write(file.pixels)
    what = "no face was to be changed" if left else "no face was found"
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
        left=left,
        notes=(
            *file.notes,
            *notes,
            *_missable_note(smallest),
            f"{what}: only the metadata were removed",
        ),
    )
    return image, [File(name, data, file.media_type, image=index)]


def _face(
    chosen: Chosen, steps: int, verified: Verified, clean: Pixels, cloaked: Pixels
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
        undecided=chosen.undecided,
        match_probability=None if verified.match is None else round(verified.match.probability, 4),
        match_interval=(
            None
            if verified.match is None
            else (round(verified.match.low, 4), round(verified.match.high, 4))
        ),
        lowered_by=verified.lowered_by,
        found_again=verified.found_again,
        similarities=verified.similarities,
        steps=steps,
        max_change=largest,
        max_change_delivered=verified.quality.largest,
        psnr=None if verified.quality.psnr is None else round(verified.quality.psnr, 2),
        ssim=round(verified.quality.ssim, 4),
        color_difference=round(verified.quality.color, 3),
        color_difference_high=round(verified.quality.color_high, 3),
    )
