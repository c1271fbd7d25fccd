"""Judges from its header what decoding an image costs, before anybody waits for it."""

import struct

from shared.images.jpeg_frame import read_frame
from shared.images.limits import ImageRejectedError
from shared.images.sniff import sniff
from shared.images.tiff_tags import byte_order, read_directories

# Of a HEIC or AVIF: its process takes as long to start as so many pixels of a JPEG to decode.
_PROCESS = 10_000_000
# By how much a pixel costs more than one of a JPEG: measured, in round numbers.
_TIMES = {"PNG": 2, "WEBP": 3, "GIF": 2, "TIFF": 3, "BMP": 2, "HEIC": 4, "AVIF": 4}
_INTERLACED = 2


def decoding_cost(data: bytes) -> int:
    """Return the cost in pixels of a JPEG with one scan: pixels, times scans, times format.

    What cannot be told from the header costs as many as the file has bytes: it is refused soon.
    """
    found = sniff(data)
    try:
        if found == "JPEG":
            return max(len(data), _jpeg(data))
        size = _SIZES[found](data) if found in _SIZES else (0, 0)
    except (ImageRejectedError, struct.error, IndexError):
        return len(data)
    cost = size[0] * size[1] * _TIMES.get(found or "", 1)
    if found == "PNG" and data[28:29] == b"\1":
        cost *= _INTERLACED
    return max(len(data), cost + (_PROCESS if found in ("HEIC", "AVIF") else 0))


def _jpeg(data: bytes) -> int:
    """Each scan of a progressive JPEG walks the whole picture again."""
    frame = read_frame(data)
    scans = frame.scans if frame.progressive else 1
    return frame.width * frame.height * max(1, scans)


def _png(data: bytes) -> tuple[int, int]:
    return struct.unpack_from(">II", data, 16)


def _gif(data: bytes) -> tuple[int, int]:
    return struct.unpack_from("<HH", data, 6)


def _bmp(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<ii", data, 18)
    return abs(width), abs(height)


def _webp(data: bytes) -> tuple[int, int]:
    if data[12:16] == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if data[12:16] == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


def _tiff(data: bytes) -> tuple[int, int]:
    """Return the largest page, in whole tiles: a small picture may have large ones."""
    pages = read_directories(data, byte_order(data) or "<")
    return max((_tiled(*map(one.number, _TIFF_SIZES)) for one in pages), default=(0, 0))


def _tiled(
    width: int | None, height: int | None, across: int | None, down: int | None
) -> tuple[int, int]:
    columns, rows = across or 1, down or 1
    return -(-(width or 0) // columns) * columns, -(-(height or 0) // rows) * rows


def _phone(data: bytes) -> tuple[int, int]:
    """Return the largest picture that the container speaks of (`ispe`, ISO 23008-12, 6.5.3)."""
    found, position = [(0, 0)], data.find(b"ispe")
    while position >= 0 and len(found) < _MAX_PICTURES:
        found.append(struct.unpack_from(">II", data, position + 8))
        position = data.find(b"ispe", position + 4, _CONTAINER_BYTES)
    return max(found, key=lambda size: size[0] * size[1])


_TIFF_SIZES = (256, 257, 322, 323)
_MAX_PICTURES, _CONTAINER_BYTES = 1000, 2**20
_SIZES = {
    "PNG": _png,
    "GIF": _gif,
    "BMP": _bmp,
    "WEBP": _webp,
    "TIFF": _tiff,
    "HEIC": _phone,
    "AVIF": _phone,
}
