"""Strips a JPEG to what its pixels need (ITU-T T.81, JFIF, ICC.1 annex B.4)."""

import re
from collections.abc import Iterator

from shared.images.icc import is_profile
from shared.images.limits import Stripped, corrupt, unsupported
from shared.images.tiff import exif_orientation

_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_TABLES = {0xDB, 0xC4, 0xDD}  # DQT, DHT, DRI
_READ_FRAMES = {0xC0, 0xC1, 0xC2}  # baseline, extended, progressive
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_STANDALONE = {0x01, *range(0xD0, 0xD8)}
_ICC = b"ICC_PROFILE\0"
_EXIF = b"Exif\0\0"
# Cameras write some dozens of segments and ten scans. A decoder walks the whole picture for
# every scan, however short: thousands of them would keep it busy for hours.
_MAX_SEGMENTS = 5000
_MAX_SCANS = 100
_FILL = re.compile(rb"\xff+")
_END_OF_SCAN = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]", re.DOTALL)


def strip_jpeg(data: bytes) -> Stripped:
    """Return the same compressed pixels without metadata, thumbnails or trailing bytes.

    Kept are tables, the frame, scans, a JFIF header without its thumbnail, Adobe's color marker
    and a valid ICC profile. Raises ``ImageRejectedError`` where the structure is broken.
    """
    applications: dict[str, bytes] = {}
    profile: list[bytes] = []
    pixels: list[bytes] = []
    orientation: int | None = None
    frames = scans = 0
    for marker, body, scan in _segments(data):
        if marker in _FRAMES or marker in _TABLES or marker == _SOS:
            pixels.append(_segment(marker, body) + scan)
            frames += marker in _FRAMES
            scans += marker == _SOS
        elif marker == 0xE0 and body.startswith(b"JFIF\0") and len(body) >= 14:
            applications.setdefault("JFIF", _segment(marker, body[:12] + b"\0\0"))
        elif marker == 0xEE and body.startswith(b"Adobe") and len(body) >= 12:
            applications.setdefault("Adobe", _segment(marker, body[:12]))
        elif marker == 0xE2 and body.startswith(_ICC):
            profile.append(body)
        elif marker == 0xE1 and body.startswith(_EXIF) and orientation is None:
            orientation = exif_orientation(body)
        if scans > _MAX_SCANS:
            raise corrupt("it has absurdly many scans")
    if frames != 1 or scans == 0:
        raise corrupt("no pixels")
    kept = [*applications.values(), *_valid_profile(profile), *pixels]
    return Stripped(b"".join([b"\xff\xd8", *kept, b"\xff\xd9"]), orientation or 1)


def _segments(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield marker, body and, after the start of a scan, the scan's data, up to the end marker."""
    if data[:2] != b"\xff\xd8":
        raise corrupt("no start marker")
    position = 2
    for _ in range(_MAX_SEGMENTS):
        marker, position = _next_marker(data, position)
        if marker == _EOI:
            return
        if marker in _STANDALONE:
            continue
        if marker == _SOI:
            raise corrupt("a second image begins within the first")
        if marker in _FRAMES - _READ_FRAMES:
            raise unsupported("The file is an arithmetic, lossless or hierarchical JPEG.")
        end = _segment_end(data, position)
        scan_end = _scan_end(data, end) if marker == _SOS else end
        yield marker, data[position + 2 : end], data[end:scan_end]
        position = scan_end
    raise corrupt("it has absurdly many segments")


def _next_marker(data: bytes, position: int) -> tuple[int, int]:
    fill = _FILL.match(data, position)
    if fill is None:
        raise corrupt("a marker is missing")
    if fill.end() >= len(data):
        raise corrupt("it ends before its end marker")
    return data[fill.end()], fill.end() + 1


def _segment_end(data: bytes, position: int) -> int:
    length = int.from_bytes(data[position : position + 2], "big")
    end = position + length
    if length < 2 or end > len(data):
        raise corrupt("a segment is longer than the file")
    return end


def _scan_end(data: bytes, position: int) -> int:
    """Return where the entropy-coded data ends: at a marker that is no restart or stuffing."""
    found = _END_OF_SCAN.search(data, position)
    if found is None:
        raise corrupt("it ends within its pixels")
    return found.start()


def _segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + (len(body) + 2).to_bytes(2, "big") + body


def _valid_profile(bodies: list[bytes]) -> list[bytes]:
    """Return the segments of the color profile in order, or none when it is not whole."""
    chunks = sorted(bodies, key=lambda body: body[len(_ICC) : len(_ICC) + 1])
    numbers = [tuple(body[len(_ICC) : len(_ICC) + 2]) for body in chunks]
    if numbers != [(number, len(chunks)) for number in range(1, len(chunks) + 1)]:
        return []
    if not is_profile(b"".join(body[len(_ICC) + 2 :] for body in chunks)):
        return []
    return [_segment(0xE2, body) for body in chunks]
