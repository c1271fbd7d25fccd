"""Finds out whether all pixels of a JPEG are there, and how many are missing.

A decoder fills up what is missing and tells nobody. So the picture is decoded twice: as it is, and
with other bytes after its last. Where the two differ, pixels are missing.
"""

import io
import random
import re
import zlib

from PIL import Image

from shared.images.jpeg import StrippedJpeg
from shared.images.jpeg_frame import JpegFrame
from shared.images.limits import corrupt, share

_END = b"\xff\xd9"
_FILLER_BYTES = 512
_RESTARTS = 8
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_LAST_SCAN = b"\xff\xda"


def check_whole(jpeg: StrippedJpeg, frame: JpegFrame, small: Image.Image) -> tuple[str, ...]:
    """Refuse a JPEG that is cut off, saying how much is missing; returns notes.

    ``small`` is the picture decoded at the smallest scale. A progressive JPEG whose end marker is
    there may leave out its last detail: it is read, and a note says so.
    """
    if frame.unsent and (not frame.progressive or not jpeg.has_end):
        percent = max(1, round(100 * frame.unsent))
        raise corrupt(
            f"it is cut off, and about {percent} % of the detail of its pixels is missing"
        )
    # A progressive JPEG with its end whose scans are all there is not worth two more decodings.
    if jpeg.has_end and ((frame.progressive and not frame.unsent) or not _ends_flat(small, frame)):
        return _unsent_note(frame)
    # Detail does not show at the smallest scale; a look at it is for few files, and enough for all.
    missing = _missing(jpeg.data, whole_scale=not jpeg.has_end)
    if missing > 0:
        raise corrupt(f"it is cut off, and {share(missing)}")
    return _unsent_note(frame)


def _unsent_note(frame: JpegFrame) -> tuple[str, ...]:
    if not frame.unsent:
        return ()
    return (
        f"its last scans, about {max(1, round(100 * frame.unsent))} % of its detail, are missing",
    )


def _ends_flat(small: Image.Image, frame: JpegFrame) -> bool:
    """Whether the last two units are of one color, as they are where a decoder filled them up."""
    scale = -(-frame.width // small.width)
    across, down = (max(1, 8 * blocks // scale) for blocks in frame.mcu)
    left = (small.width - 1) // across * across - across
    top = (small.height - 1) // down * down
    corner = small.crop((max(0, left), top, small.width, small.height))
    return all(low == high for low, high in _extrema(corner))


def _extrema(image: Image.Image) -> list[tuple[float, float]]:
    return [band.getextrema() for band in image.split()]  # type: ignore[misc]


def _missing(data: bytes, *, whole_scale: bool) -> float:
    """Return which share of the rows, 0 to 1, changes with what follows the last byte."""
    body = data.removesuffix(_END)
    as_it_is = _strips(data, whole_scale=whole_scale)
    filled = _strips(body + _filler(body) + _END, whole_scale=whole_scale)
    changed = [first != second for first, second in zip(as_it_is, filled, strict=True)]
    return 1 - changed.index(True) / len(changed) if any(changed) else 0.0


def _filler(body: bytes) -> bytes:
    """Return compressed noise, each part behind the restart marker that is expected next."""
    scan = body[body.rindex(_LAST_SCAN) :]
    restarts = len(_RESTART.findall(scan))
    noise = random.Random(0).randbytes(_FILLER_BYTES).replace(b"\xff", b"\xfe")
    return noise + b"".join(
        bytes((0xFF, 0xD0 + (restarts + step) % _RESTARTS)) + noise for step in range(_RESTARTS)
    )


def _strips(data: bytes, *, whole_scale: bool) -> list[int]:
    """Decode a picture and return a checksum of each of its rows; it is not kept in memory."""
    image = Image.open(io.BytesIO(data), formats=("JPEG",))
    if not whole_scale:
        image.draft(None, (1, 1))
    image.load()
    rows = range(image.height)
    return [zlib.crc32(image.crop((0, y, image.width, y + 1)).tobytes()) for y in rows]
