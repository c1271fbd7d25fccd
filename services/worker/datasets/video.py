"""Frames of short videos."""

import math
from collections.abc import Callable, Iterator
from typing import IO

import cv2

from services.worker.datasets.archives import ArchiveRejectedError


class VideoRejectedError(ArchiveRejectedError):
    """The video cannot be decoded, or is larger than allowed."""


def is_video(head: bytes) -> bool:
    """Whether these first bytes begin an MP4, MOV, WebM, Matroska or AVI file."""
    return (
        head[4:8] == b"ftyp"
        or head.startswith(b"\x1aE\xdf\xa3")
        or (head[:4] == b"RIFF" and head[8:11] == b"AVI")
    )


def sampled_frames(
    file: IO[bytes],
    *,
    per_second: float,
    most: int,
    max_pixels: int,
    check: Callable[[], None],
) -> Iterator[bytes]:
    """Yield up to ``most`` frames as PNG files, ``per_second`` of them for each second of video.

    ``check`` is called for every frame of the video, taken or not: few may be taken of a long one.
    Raises ``VideoRejectedError`` when it cannot be opened or its frames have too many pixels.
    """
    # By descriptor: the copy has no name, so that nothing of it can be left behind.
    capture = cv2.VideoCapture(f"/proc/self/fd/{file.fileno()}", cv2.CAP_FFMPEG)
    try:
        if not capture.isOpened():
            raise VideoRejectedError("the video cannot be opened")
        size = (capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        if not 1 <= size[0] * size[1] <= max_pixels:
            raise VideoRejectedError(
                f"the video's frames have {size[0]:.0f} x {size[1]:.0f} pixels"
            )
        rate = capture.get(cv2.CAP_PROP_FPS)
        rate = rate if math.isfinite(rate) and 0 < rate <= 1000 else 25.0
        taken = number = 0
        while taken < most and capture.grab():
            check()
            if number >= taken * rate / per_second:
                ok, frame = capture.retrieve()
                if not ok:
                    return
                ok, encoded = cv2.imencode(".png", frame)
                if not ok:
                    raise VideoRejectedError("a frame cannot be encoded")
                taken += 1
                yield encoded.tobytes()
            number += 1
    finally:
        capture.release()
