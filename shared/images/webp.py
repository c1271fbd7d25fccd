"""Strips a WebP to what its pixels need (RFC 9649)."""

from dataclasses import dataclass

from shared.images.limits import corrupt

_KEPT = {b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ICCP"}
_PRIVATE_FLAGS = 0x08 | 0x04  # EXIF, XMP
_ANIMATION = 0x02


@dataclass(frozen=True)
class StrippedWebP:
    """A WebP without metadata. Its size is read before a decoder allocates the canvas."""

    data: bytes
    width: int
    height: int
    animated: bool


def strip_webp(data: bytes) -> StrippedWebP:
    """Return the same compressed pixels without EXIF, XMP, unknown chunks or trailing bytes.

    An animation is left whole, for its first frame to be decoded. Raises ``ImageRejectedError``.
    """
    end = int.from_bytes(data[4:8], "little") + 8
    if end > len(data):
        raise corrupt("it ends before its pixels do")
    chunks = _chunks(data[:end])
    sizes = [size for kind, body in chunks if (size := _size(kind, body)) is not None]
    if not sizes:
        raise corrupt("no pixels")
    width, height = sizes[0]
    extended = next((body for kind, body in chunks if kind == b"VP8X"), b"\0")
    if extended[0] & _ANIMATION:
        return StrippedWebP(data[:end], width, height, animated=True)
    kept = b"".join(_chunk(kind, body) for kind, body in chunks if kind in _KEPT)
    header = b"RIFF" + (len(kept) + 4).to_bytes(4, "little") + b"WEBP"
    return StrippedWebP(header + kept, width, height, animated=False)


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    found, position = [], 12
    while position + 8 <= len(data):
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        body = data[position + 8 : position + 8 + length]
        if len(body) < length:
            raise corrupt("it ends within a chunk")
        found.append((data[position : position + 4], body))
        position += 8 + length + length % 2
    return found


def _chunk(kind: bytes, body: bytes) -> bytes:
    if kind == b"VP8X":
        body = bytes((body[0] & ~_PRIVATE_FLAGS,)) + body[1:]
    return kind + len(body).to_bytes(4, "little") + body + b"\0" * (len(body) % 2)


def _size(kind: bytes, body: bytes) -> tuple[int, int] | None:
    if kind == b"VP8X" and len(body) >= 10:
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if kind == b"VP8 " and len(body) >= 10:
        width, height = body[6:8], body[8:10]
        return int.from_bytes(width, "little") & 0x3FFF, int.from_bytes(height, "little") & 0x3FFF
    if kind == b"VP8L" and len(body) >= 5:
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return None
