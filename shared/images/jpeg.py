"""Strips a JPEG to what its pixels need (ITU-T T.81, JFIF, ICC.1 annex B.4)."""

import re
from dataclasses import dataclass

from shared.images.icc import is_profile
from shared.images.limits import Stripped, corrupt, unsupported
from shared.images.tiff_tags import exif_orientation

SOI, EOI, SOS, DQT, DHT, DRI = 0xD8, 0xD9, 0xDA, 0xDB, 0xC4, 0xDD
FRAMES = set(range(0xC0, 0xD0)) - {DHT, 0xC8, 0xCC}
_TABLES = {DQT, DHT, DRI}
_READ_FRAMES = {0xC0, 0xC1, 0xC2}  # baseline, extended, progressive
_STANDALONE = {0x01, *range(0xD0, 0xD8)}
_ICC = b"ICC_PROFILE\0"
_EXIF = b"Exif\0\0"
_PROFILE_PIECE = 65_519
# Cameras write some dozens of segments and ten scans. A decoder walks the whole picture for
# every scan, however short: thousands of them would keep it busy for hours.
_MAX_SEGMENTS = 5000
MAX_SCANS = 100
_MARKER = re.compile(rb"\xff+([^\x00\xff])", re.DOTALL)
_END_OF_SCAN = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]", re.DOTALL)
_FILLED = re.compile(rb"\0{16,}\Z")
_SECOND_PICTURE = "what followed the picture (a gain map, a depth map, another view) was left out"


@dataclass(frozen=True)
class Segment:
    """A marker with its body and, after the start of a scan, the scan's compressed data."""

    marker: int
    body: bytes
    scan: bytes = b""

    def written(self) -> bytes:
        """Return the segment's bytes."""
        head = bytes((0xFF, self.marker)) + (len(self.body) + 2).to_bytes(2, "big")
        return head + self.body + self.scan


@dataclass(frozen=True)
class Walked:
    """The segments of the first picture; ``has_end``: its end marker is there."""

    segments: tuple[Segment, ...]
    has_end: bool
    end: int


@dataclass(frozen=True)
class StrippedJpeg(Stripped):
    """A JPEG without metadata; ``has_end`` tells whether the file had its end marker."""

    has_end: bool = True


def strip_jpeg(data: bytes) -> StrippedJpeg:
    """Return the same compressed pixels without metadata, thumbnails, stray or trailing bytes.

    Kept are tables, the frame, scans, a JFIF header without its thumbnail, Adobe's color marker
    and a valid ICC profile. Raises ``ImageRejectedError`` where there is no picture.
    """
    walked = walk(data)
    applications: dict[str, bytes] = {}
    profile: list[bytes] = []
    pixels: list[bytes] = []
    orientation: int | None = None
    frames = scans = 0
    for segment in walked.segments:
        marker, body = segment.marker, segment.body
        if marker in FRAMES or marker in _TABLES or marker == SOS:
            pixels.append(segment.written())
            frames += marker in FRAMES
            scans += marker == SOS
        elif marker == 0xE0 and body.startswith(b"JFIF\0") and len(body) >= 14:
            applications.setdefault("JFIF", Segment(marker, body[:12] + b"\0\0").written())
        elif marker == 0xEE and body.startswith(b"Adobe") and len(body) >= 12:
            applications.setdefault("Adobe", Segment(marker, body[:12]).written())
        elif marker == 0xE2 and body.startswith(_ICC):
            profile.append(body)
        elif marker == 0xE1 and body.startswith(_EXIF) and orientation is None:
            orientation = exif_orientation(body)
    if frames != 1 or scans == 0:
        raise corrupt("it ends before its pixels" if frames <= 1 else "it has several frames")
    kept_profile = _valid_profile(profile)
    notes = []
    if profile and not kept_profile:
        notes.append("a damaged color profile was left out")
    if b"\xff\xd8\xff" in data[walked.end :]:
        notes.append(_SECOND_PICTURE)
    whole = b"".join([b"\xff\xd8", *applications.values(), *kept_profile, *pixels, b"\xff\xd9"])
    return StrippedJpeg(whole, orientation or 1, notes=tuple(notes), has_end=walked.has_end)


def walk(data: bytes) -> Walked:
    """Read the segments up to the end marker, or as far as the file goes.

    Bytes between segments are skipped, as decoders do. Raises ``ImageRejectedError``.
    """
    if data[:2] != b"\xff\xd8":
        raise corrupt("no start marker")
    segments: list[Segment] = []
    position, scans = 2, 0
    for _ in range(_MAX_SEGMENTS):
        found = _MARKER.search(data, position)
        if found is None:
            return Walked(tuple(segments), has_end=False, end=len(data))
        marker, position = found[1][0], found.end()
        if marker == EOI and scans:
            return Walked(tuple(segments), has_end=True, end=position)
        if marker == SOI and scans:  # another picture begins, and this one has no end marker
            return Walked(tuple(segments), has_end=False, end=found.start())
        if marker in _STANDALONE or marker in (SOI, EOI):
            continue
        if marker in FRAMES - _READ_FRAMES:
            raise unsupported("The file is an arithmetic, lossless or hierarchical JPEG.")
        length = int.from_bytes(data[position : position + 2], "big")
        end = position + length
        if end > len(data):
            return Walked(tuple(segments), has_end=False, end=len(data))
        if length < 2:
            continue
        body, position = data[position + 2 : end], end
        scan = b""
        if marker == SOS:
            scans += 1
            if scans > MAX_SCANS:
                raise corrupt("it has absurdly many scans")
            scan_end = _END_OF_SCAN.search(data, end)
            position = len(data) if scan_end is None else scan_end.start()
            scan = data[end:position]
            if scan_end is None:
                # A download that broke off may be filled up with zeros.
                scan = _FILLED.sub(b"", scan).rstrip(b"\xff")
        segments.append(Segment(marker, body, scan))
    raise corrupt("it has absurdly many segments")


def profile_segments(profile: bytes) -> list[Segment]:
    """Return the segments that hold a color profile (ICC.1, annex B.4)."""
    pieces = [
        profile[start : start + _PROFILE_PIECE] for start in range(0, len(profile), _PROFILE_PIECE)
    ]
    return [
        Segment(0xE2, _ICC + bytes((number, len(pieces))) + piece)
        for number, piece in enumerate(pieces, start=1)
    ]


def _valid_profile(bodies: list[bytes]) -> list[bytes]:
    """Return the segments of the color profile in order, or none when it is not whole."""
    chunks = sorted(bodies, key=lambda body: body[len(_ICC) : len(_ICC) + 1])
    numbers = [tuple(body[len(_ICC) : len(_ICC) + 2]) for body in chunks]
    if numbers != [(number, len(chunks)) for number in range(1, len(chunks) + 1)]:
        return []
    if not is_profile(b"".join(body[len(_ICC) + 2 :] for body in chunks)):
        return []
    return [Segment(0xE2, body).written() for body in chunks]
