"""Pictures of an ``encrypt`` job: the change, amplified, and a card of every face."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from services.worker.encoding import png
from services.worker.faces.alignment import Alignment, cut_frame
from services.worker.faces.crops import Pixels
from services.worker.jobs.kit.pictures import Panel, draw_rows
from shared.results.encrypt import EncryptedFace, Similarity

AMPLIFIED = 8
MAX_SIDE = 1600
MOST_CARDS = 24


def amplified(clean: Pixels, delivered: Pixels) -> bytes:
    """Draw the change, eight times as large, around middle gray; a PNG of bounded size."""
    scale = min(1.0, MAX_SIDE / max(clean.shape[:2]))
    if scale < 1:
        size = (max(1, round(clean.shape[1] * scale)), max(1, round(clean.shape[0] * scale)))
        # The strongest change of each cell: an average of both signs would hide it.
        low, high = (_extreme(clean, delivered, size, sign) for sign in (-1, 1))
        change = np.where(high >= -low, high, low)
    else:
        change = delivered.astype(np.int16) - clean
    drawn = (128 + AMPLIFIED * change.astype(np.int32)).clip(0, 255).astype(np.uint8)
    return png(drawn, compress_level=1)


def _extreme(
    clean: Pixels, delivered: Pixels, size: tuple[int, int], sign: int
) -> NDArray[np.int16]:
    step = max(1, int(np.ceil(max(clean.shape[1] / size[0], clean.shape[0] / size[1]))))
    kernel = np.ones((step, step), dtype=np.uint8)
    one_way = cv2.subtract(delivered, clean) if sign > 0 else cv2.subtract(clean, delivered)
    spread = cv2.dilate(one_way, kernel)
    small = cv2.resize(spread, size, interpolation=cv2.INTER_NEAREST)
    return np.asarray(sign * small.astype(np.int16), dtype=np.int16)


def report_card(
    clean: Pixels,
    delivered: Pixels,
    alignments: Sequence[Alignment],
    faces: Sequence[EncryptedFace],
) -> bytes:
    """Draw each face before, after and its change, with its verdict and similarities; a PNG."""
    rows = []
    shown = list(zip(alignments, faces, strict=True))[:MOST_CARDS]
    for number, (alignment, face) in enumerate(shown):
        before, after = cut_frame(clean, alignment), cut_frame(delivered, alignment)
        change = AMPLIFIED * (after.astype(np.int16) - before)
        difference = (128 + change).clip(0, 255).astype(np.uint8)
        judged = [one for one in face.similarities if one.role == "judge"] or face.similarities
        ratio = "unchanged" if face.psnr is None else f"PSNR {face.psnr:.1f} dB"
        rows.append(
            [
                Panel(before, f"face {number + 1}, before", _caption(judged[:1], "before")),
                Panel(after, f"after: {face.verdict}", _caption(judged[:1], "after")),
                Panel(difference, f"change x {AMPLIFIED}", f"{ratio}, SSIM {face.ssim:.3f}"),
            ]
        )
    return draw_rows(rows)


def _caption(judged: Sequence[Similarity], moment: str) -> str:
    return "".join(f"{one.role}: similarity {getattr(one, moment):.2f}" for one in judged)
