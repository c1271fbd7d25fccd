"""Strips a JPEG to what its pixels need (ITU-T T.81, JFIF, ICC.1 annex B.4)."""

from shared.images.limits import corrupt

_SOI, _EOI, _SOS, _DNL = 0xD8, 0xD9, 0xDA, 0xDC
_TABLES = {0xDB, 0xC4, 0xCC, 0xDD, _DNL}  # DQT, DHT, DAC, DRI, DNL
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_STANDALONE = {0x01, *range(0xD0, 0xD8)}
_ICC = b"ICC_PROFILE\0"


def strip_jpeg(data: bytes) -> bytes:
    """Return the same compressed pixels without metadata, thumbnails or trailing bytes.

    Kept are tables, frames, scans, a JFIF header without its thumbnail, Adobe's color marker and
    the ICC profile. Raises ``ImageRejectedError`` where the structure is broken.
    """
    if data[:2] != b"\xff\xd8":
        raise corrupt("no start marker")
    parts = [b"\xff\xd8"]
    position, seen_scan = 2, False
    while True:
        marker, position = _next_marker(data, position)
        if marker == _EOI:
            break
        if marker in _STANDALONE:
            continue
        if marker == _SOI:
            raise corrupt("a second image begins within the first")
        end = _segment_end(data, position)
        body = data[position + 2 : end]
        if marker == _SOS:
            seen_scan = True
            end = _scan_end(data, end)
            parts.append(b"\xff\xda" + data[position:end])
        elif marker in _TABLES or marker in _FRAMES:
            parts.append(bytes((0xFF, marker)) + data[position:end])
        elif (kept := _kept_application(marker, body)) is not None:
            parts.append(bytes((0xFF, marker)) + (len(kept) + 2).to_bytes(2, "big") + kept)
        position = end
    if not seen_scan:
        raise corrupt("no pixels")
    return b"".join([*parts, b"\xff\xd9"])


def _next_marker(data: bytes, position: int) -> tuple[int, int]:
    if data[position : position + 1] != b"\xff":
        raise corrupt("a marker is missing")
    while data[position : position + 1] == b"\xff":
        position += 1
    if position >= len(data):
        raise corrupt("it ends before its end marker")
    return data[position], position + 1


def _segment_end(data: bytes, position: int) -> int:
    length = int.from_bytes(data[position : position + 2], "big")
    end = position + length
    if length < 2 or end > len(data):
        raise corrupt("a segment is longer than the file")
    return end


def _scan_end(data: bytes, position: int) -> int:
    """Return where the entropy-coded data ends: at a marker that is no restart or stuffing."""
    while True:
        position = data.find(b"\xff", position)
        if position < 0 or position + 1 >= len(data):
            raise corrupt("it ends within its pixels")
        following = data[position + 1]
        if following == 0xFF:
            position += 1
        elif following == 0 or following in _STANDALONE:
            position += 2
        else:
            return position


def _kept_application(marker: int, body: bytes) -> bytes | None:
    if marker == 0xE0 and body.startswith(b"JFIF\0") and len(body) >= 14:
        return body[:12] + b"\0\0"
    if marker == 0xE2 and body.startswith(_ICC):
        return body
    if marker == 0xEE and body.startswith(b"Adobe"):
        return body[:12]
    return None
