"""Verifies cloaks on what is delivered: the decoded file, with its faces found again."""

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage.metrics import structural_similarity
from torch import Tensor

from services.worker.faces.alignment import Alignment, align, cut_frame
from services.worker.faces.boxes import SAME_FACE, overlap
from services.worker.faces.cloaking.apply import Box
from services.worker.faces.cloaking.color import color_difference
from services.worker.faces.crops import Pixels
from services.worker.faces.face import Face
from services.worker.models.recognizers import Recognizer

JPEG_QUALITY = 75
OFF_BLOCKS = 5  # pixels that a copy's blocks lie off the photo's own: off those of color, too
BLUR = 0.01  # sigma as a share of the aligned face's side in the photo, at least one pixel
SMALLEST_WINDOW = 7  # of the structural similarity
LARGEST_COMPARED = 512  # side in pixels over which colors are compared in a reduced copy

Detect = Callable[[Pixels], list[Face]]


@dataclass(frozen=True)
class Seen:
    """A face's frames: as it was, as delivered, and after what may happen to it; (5, 3, F, F)."""

    frames: Tensor
    found_again: bool


@dataclass(frozen=True)
class Similarities:
    """Cosine similarities of one face to its clean self, in one recognizer."""

    before: float
    after: float
    jpeg: float
    half: float
    blur: float

    @property
    def worst(self) -> float:
        """The highest of those after cloaking: the least protection."""
        return max(self.after, self.jpeg, self.half, self.blur)


def find_again(
    delivered: Pixels, boxes: Sequence[tuple[float, float, float, float]], detect: Detect
) -> list[Alignment | None]:
    """Return each face's alignment as found in the delivered photo; ``None``: not found."""
    found = detect(delivered)
    answers: list[Alignment | None] = []
    for box in boxes:
        overlaps = [overlap(box, face.box) for face in found]
        best = int(np.argmax(overlaps)) if overlaps else -1
        same = best >= 0 and overlaps[best] >= SAME_FACE
        answers.append(align(found[best].landmarks) if same else None)
    return answers


def see(
    clean: Pixels,
    delivered: Pixels,
    alignments: Sequence[Alignment],
    found: Sequence[Alignment | None],
) -> list[Seen]:
    """Cut every face from the clean photo, the delivered one and three copies of that.

    A face that is not found again is looked at where it was.
    """
    coded = through_jpeg(delivered)
    half = cv2.resize(
        delivered,
        (max(1, delivered.shape[1] // 2), max(1, delivered.shape[0] // 2)),
        interpolation=cv2.INTER_AREA,
    )
    rows = []
    for alignment, again in zip(alignments, found, strict=True):
        place = again or alignment
        frames = [
            cut_frame(clean, alignment),
            cut_frame(delivered, place),
            cut_frame(coded, place),
            cut_frame(np.asarray(half, dtype=np.uint8), _halved(place, delivered, half)),
            _blurred(delivered, place),
        ]
        stacked = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float() / 255
        rows.append(Seen(stacked, again is not None))
    return rows


def through_jpeg(photo: Pixels, quality: int = JPEG_QUALITY) -> Pixels:
    """Return a photo as it comes out of a JPEG with half the color resolution.

    Its blocks begin elsewhere than at the photo's corner, as after a crop: a photo that was coded
    at this quality before would else come out as it went in, and seem to have survived.
    """
    buffer = io.BytesIO()
    around = np.pad(photo, ((OFF_BLOCKS, 0), (OFF_BLOCKS, 0), (0, 0)), mode="edge")
    Image.fromarray(around).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB"))[OFF_BLOCKS:, OFF_BLOCKS:]


def _halved(alignment: Alignment, whole: Pixels, half: "cv2.typing.MatLike") -> Alignment:
    """Return the alignment of the same face in a copy of other dimensions."""
    scale = np.array([half.shape[1] / whole.shape[1], half.shape[0] / whole.shape[0]])
    # Centers lie at indices: pixel i of the copy is around (i + ½) / scale - ½ of the whole.
    linear = alignment.to_frame[:, :2] / scale
    offset = alignment.to_frame[:, :2] @ (0.5 / scale - 0.5) + alignment.to_frame[:, 2]
    return Alignment(np.concatenate([linear, offset[:, None]], 1))


def _blurred(photo: Pixels, alignment: Alignment) -> Pixels:
    corners = alignment.corners()
    side = float(np.hypot(*(corners[1] - corners[0])))
    sigma = max(1.0, BLUR * side)
    reach = math.ceil(4 * sigma)
    height, width = photo.shape[:2]
    x0, y0 = np.clip(np.floor(corners.min(0)).astype(int) - reach, 0, (width - 1, height - 1))
    x1, y1 = np.clip(np.ceil(corners.max(0)).astype(int) + reach, (x0 + 1, y0 + 1), (width, height))
    part = cv2.GaussianBlur(photo[y0:y1, x0:x1], (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    moved = alignment.to_frame.copy()
    moved[:, 2] += moved[:, :2] @ np.array([x0, y0], dtype=np.float64)
    return cut_frame(np.asarray(part, dtype=np.uint8), Alignment(moved))


@torch.inference_mode()
def compare(seen: Sequence[Seen], recognizer: Recognizer) -> list[Similarities]:
    """Return what a recognizer makes of each face."""
    if not seen:
        return []
    device = recognizer.device
    frames = torch.cat([face.frames for face in seen]).to(device)
    # The first of five is the clean face; its mirror image stands for the same photo found again.
    mirrored = torch.stack([face.frames[0] for face in seen]).flip(3).to(device)
    embeddings = recognizer.of_frames(frames).view(len(seen), 5, -1)
    again = recognizer.of_frames(mirrored)
    clean = embeddings[:, :1]
    similar = (embeddings[:, 1:] * clean).sum(2).cpu().tolist()
    before = (again * clean[:, 0]).sum(1).cpu().tolist()
    return [
        Similarities(first, *(float(value) for value in row))
        for first, row in zip(before, similar, strict=True)
    ]


@dataclass(frozen=True)
class Quality:
    """How much a region changed: PSNR in dB (``None``: not at all), SSIM, largest change.

    ``color`` and ``color_high`` are the mean and the 99th percentile of CIEDE2000.
    """

    psnr: float | None
    ssim: float
    largest: int
    color: float
    color_high: float


def quality(clean: Pixels, delivered: Pixels, region: Box) -> Quality:
    """Compare a face's region ``(x0, y0, x1, y1)`` in two photos; never the whole photo."""
    x0, y0, x1, y1 = region
    first, second = clean[y0:y1, x0:x1], delivered[y0:y1, x0:x1]
    if first.size == 0:
        return Quality(None, 1.0, 0, 0.0, 0.0)
    steps = np.abs(first.astype(np.int16) - second)
    error = float(np.square(steps.astype(np.float32)).mean())
    ratio = None if error == 0 else 10 * math.log10(255**2 / error)
    differences = color_difference(*reduced(first, second))
    return Quality(
        ratio,
        ssim(first, second),
        int(steps.max()),
        float(differences.mean()),
        float(np.percentile(differences, 99)),
    )


def reduced(first: Pixels, second: Pixels) -> tuple[Pixels, Pixels]:
    """Return two pictures no larger than colors need to be compared in: by area."""
    reduction = max(first.shape[:2]) // LARGEST_COMPARED + 1
    if reduction == 1:
        return first, second
    size = (max(1, first.shape[1] // reduction), max(1, first.shape[0] // reduction))
    one, other = (cv2.resize(part, size, interpolation=cv2.INTER_AREA) for part in (first, second))
    return np.asarray(one, dtype=np.uint8), np.asarray(other, dtype=np.uint8)


def ssim(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Structural similarity (Wang et al. 2004), Gaussian windows, mean of the color channels.

    A region with a side under 7 pixels is too small for it: 1 when equal, else 0.
    """
    if min(first.shape[:2]) < SMALLEST_WINDOW:
        return float(np.array_equal(first, second))
    # Sigma 1.5 takes windows of 11 pixels; a smaller region takes those that fit.
    fits = min(first.shape[:2]) >= 11
    return float(
        structural_similarity(
            first,
            second,
            data_range=255,
            channel_axis=2,
            gaussian_weights=fits,
            use_sample_covariance=not fits,
        )
    )
